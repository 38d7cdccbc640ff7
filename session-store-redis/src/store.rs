//! The store.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use redis::{Client, IntoConnectionInfo};
use session_core::block::Block;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{
    BlockChange, Commit, Cursor, EndMany, EndedBatch, EndedSession, Entries, Forget, HistoryPage,
    HistoryQuery, Loaded, LogPage, Needs, Outcome, Page, PageQuery, PolicyChange, StoreReport,
    Sweep, TagKey, Touch, UserState, check_version,
};
use session_core::{FleetKey, InvalidField, SessionId, Store, StoreError, Timestamp, UserKey};
use tokio::sync::Notify;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinHandle;

use crate::active::Active;
use crate::doubts::Doubts;
use crate::link::{Address, Call, Link, store_error};
use crate::options::RedisOptions;
use crate::placement::{Placement, Shard};
use crate::push::{self, Hints};
use crate::scripts::Scripts;

/// A store on a Redis or Valkey server, or on a cluster of them. See the crate's documentation.
#[derive(Debug)]
pub struct RedisStore {
    pub(crate) link: Link,
    /// Where the log is read, besides all other calls: however slow those are, a node hears of
    /// revocations.
    pub(crate) log: Link,
    pub(crate) placement: Placement,
    pub(crate) scripts: Scripts,
    pub(crate) options: RedisOptions,
    /// Whose turn it is to be the first part of the log that is read.
    pub(crate) turn: AtomicUsize,
    /// How many parts of the log the last page of it has left entries of.
    pub(crate) behind: AtomicUsize,
    pub(crate) doubts: Doubts,
    pub(crate) active: Arc<Active>,
    needs: RwLock<Needs>,
    /// What this node knows of [`Agreement::fleet`].
    fleet: Mutex<Option<FleetKey>>,
    grown: Arc<Notify>,
    /// Whether pushes come.
    subscribed: Arc<AtomicBool>,
    listener: JoinHandle<()>,
}

impl RedisStore {
    /// [`RedisStore::connect_with`] with the default options.
    ///
    /// # Errors
    /// As [`RedisStore::connect_with`].
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Self::connect_with(url, RedisOptions::default()).await
    }

    /// Connects by a URL, with `rediss` in place of `redis` for TLS:
    /// - `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, one server;
    /// - `redis-cluster://[USER:PASSWORD@]HOST[:PORT],HOST[:PORT]`, a cluster by some of its servers.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`](session_core::StoreErrorKind::Unavailable) when the server
    /// cannot be reached, [`StoreErrorKind::Internal`](session_core::StoreErrorKind::Internal) for
    /// a malformed URL, an option out of bounds, or keys of a version that this one may not use.
    pub async fn connect_with(url: &str, options: RedisOptions) -> Result<Self, StoreError> {
        match servers_of_cluster(url) {
            Some(urls) => {
                let urls: Vec<_> = urls.iter().map(String::as_str).collect();
                Self::open(Address::Cluster(&urls), options, CLUSTER_SHARDS).await
            }
            None => {
                let info = url.into_connection_info().map_err(store_error)?;
                Self::open(Address::Single(&info), options, 1).await
            }
        }
    }

    /// Connects to one server as the application's client does: with its address, its user and
    /// database, and its certificates unless [`RedisOptions::tls`] names others. The connections are
    /// the store's own. On them it sets what it relies on: the protocol with pushes, its time limits,
    /// and how often the driver tries again.
    ///
    /// There is no such constructor for a cluster, because the driver's client of one does not tell
    /// how it connects.
    ///
    /// # Errors
    /// As [`RedisStore::connect_with`].
    pub async fn with_client(client: Client, options: RedisOptions) -> Result<Self, StoreError> {
        Self::open(Address::Single(client.get_connection_info()), options, 1).await
    }

    async fn open(
        address: Address<'_>,
        options: RedisOptions,
        default_shards: u16,
    ) -> Result<Self, StoreError> {
        options.validate().map_err(StoreError::internal)?;
        let (pushed, pushes) = unbounded_channel();
        let link = Link::open(address, &options, &pushed).await?;
        let log = Link::open(address, &options.clone().with_replicas(None), &pushed).await?;
        let scripts = Scripts::new();
        let shards = options.shards.unwrap_or(default_shards);
        let mut key = [0; TagKey::BYTES];
        getrandom::fill(&mut key).map_err(|error| StoreError::internal(error.to_string()))?;
        let proposed = Placement::new(&options.prefix, shards.into(), TagKey::from_bytes(key));
        let placement = agree(&link, &scripts, &proposed, None).await?.placement;
        let grown = Arc::new(Notify::new());
        let channels = placement.shards().map(|shard| placement.log(shard)).collect();
        let active = Arc::new(Active::new(placement.shards().len()));
        let subscribed = Arc::new(AtomicBool::default());
        let hints = Hints {
            grown: Arc::clone(&grown),
            active: Arc::clone(&active),
            subscribed: Arc::clone(&subscribed),
        };
        let listener = tokio::spawn(push::run(log.clone(), channels, pushes, hints));
        let (turn, behind) = <(AtomicUsize, AtomicUsize)>::default();
        let needs = RwLock::new(Needs { history: HISTORY, max_staleness: MAX_STALENESS });
        let doubts = Doubts::default();
        let store = Self {
            link,
            log,
            placement,
            scripts,
            options,
            turn,
            behind,
            doubts,
            active,
            needs,
            fleet: Mutex::default(),
            grown,
            subscribed,
            listener,
        };
        store.begin_logs().await?;
        Ok(store)
    }

    /// Called where the log is gone: makes sure that what this node knows is still what all agree
    /// on. A server that was emptied has forgotten it, and another node may have begun again.
    pub(crate) async fn agree_again(&self) -> Result<(), StoreError> {
        self.active.forget();
        let known = self.fleet().clone();
        let agreed = agree(&self.link, &self.scripts, &self.placement, known.as_ref()).await?;
        if agreed.placement == self.placement && (known.is_none() || agreed.fleet == known) {
            return Ok(());
        }
        Err(StoreError::internal(
            "the keys were deleted, and another node has begun again: open the store again",
        ))
    }

    async fn agree_on_fleet(&self, proposed: &FleetKey) -> Result<FleetKey, StoreError> {
        let proposed = Some(self.fleet().clone().unwrap_or_else(|| proposed.clone()));
        let agreed = agree(&self.link, &self.scripts, &self.placement, proposed.as_ref()).await?;
        self.fleet().clone_from(&agreed.fleet);
        agreed
            .fleet
            .ok_or_else(|| InvalidField::malformed("agreement", "a key of the fleet").into())
    }

    fn fleet(&self) -> MutexGuard<'_, Option<FleetKey>> {
        self.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn needs(&self) -> Needs {
        self.needs.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The command that publishes.
    pub(crate) fn publish(&self) -> &'static str {
        if self.link.is_cluster() { "SPUBLISH" } else { "PUBLISH" }
    }
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// What all nodes agree on.
struct Agreement {
    placement: Placement,
    /// The secret that the nodes share; none until the first has proposed one.
    fleet: Option<FleetKey>,
}

/// The first node to come decides about each part.
async fn agree(
    link: &Link,
    scripts: &Scripts,
    proposed: &Placement,
    fleet: Option<&FleetKey>,
) -> Result<Agreement, StoreError> {
    let prefix = &proposed.prefix;
    let mut call = Call::new(&scripts.agree, proposed, Shard::FIRST);
    call.key(Placement::agreement(prefix)).arg(*proposed.key.as_bytes());
    call.number(proposed.shards().len()).number(VERSION);
    call.arg(fleet.map(|fleet| fleet.as_bytes().to_vec()).unwrap_or_default());
    let (key, shards, version, oldest, fleet): (Vec<u8>, _, i64, Option<i64>, Option<Vec<u8>>) =
        link.change(&call).await?;
    check_version("the keys have", version, oldest, VERSION)?;
    let malformed = |_| InvalidField::malformed("agreement", "keys of 16 and of 32 bytes");
    let key = TagKey::from_bytes(key.try_into().map_err(malformed)?);
    let fleet = fleet.map(|fleet| fleet.try_into().map(FleetKey::from_bytes)).transpose();
    if !(1..=1024).contains(&shards) {
        return Err(InvalidField::out_of_range("shards", 1, 1024).into());
    }
    let placement = Placement::new(prefix, shards, key);
    Ok(Agreement { placement, fleet: fleet.map_err(malformed)? })
}

#[async_trait]
impl Store for RedisStore {
    fn session_id(&self, owner: &UserKey, _at: Timestamp, random: [u8; 16]) -> SessionId {
        self.placement.session_id(owner, random)
    }

    fn configure(&self, needs: &Needs) {
        *self.needs.write().unwrap_or_else(PoisonError::into_inner) = needs.clone();
    }

    fn history_by_default(&self) -> Duration {
        HISTORY
    }

    async fn fleet_key(&self, proposed: &FleetKey) -> Result<FleetKey, StoreError> {
        self.agree_on_fleet(proposed).await
    }

    async fn user(&self, owner: &UserKey) -> Result<UserState, StoreError> {
        self.read_user(owner).await
    }

    async fn commit(&self, commit: &Commit) -> Result<Outcome, StoreError> {
        self.write_commit(commit).await
    }

    async fn load(&self, id: SessionId) -> Result<Option<Loaded>, StoreError> {
        self.read_session(id).await
    }

    async fn ended(&self, id: SessionId) -> Result<Option<EndedSession>, StoreError> {
        self.read_ended(id).await
    }

    async fn history(&self, query: &HistoryQuery) -> Result<HistoryPage, StoreError> {
        self.read_history(query).await
    }

    async fn forget(&self, forget: &Forget, limit: u32) -> Result<u32, StoreError> {
        self.delete_history(forget, limit).await
    }

    async fn page(&self, query: &PageQuery) -> Result<Page, StoreError> {
        self.read_page(query).await
    }

    async fn touch(&self, batch: &[Touch]) -> Result<Vec<SessionId>, StoreError> {
        self.write_accesses(batch).await
    }

    async fn end_many(&self, end: &EndMany, limit: u32) -> Result<EndedBatch, StoreError> {
        self.end_selected(end, limit).await
    }

    async fn sweep(&self, sweep: &Sweep, limit: u32) -> Result<EndedBatch, StoreError> {
        self.end_overdue(sweep, limit).await
    }

    async fn log_since(
        &self,
        cursor: Option<&Cursor>,
        entries: Entries,
        limit: u32,
    ) -> Result<LogPage, StoreError> {
        self.read_log(cursor, entries, limit).await
    }

    async fn changed(&self) {
        self.grown.notified().await;
    }

    fn pushes(&self) -> bool {
        self.subscribed.load(Ordering::Relaxed)
    }

    fn expects_pushes(&self) -> bool {
        true
    }

    async fn trim_log(&self, older_than: Duration, limit: u32) -> Result<u32, StoreError> {
        self.trim(older_than, limit).await
    }

    async fn lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        let mut call = Call::new(&self.scripts.lease, &self.placement, Shard::FIRST);
        let ttl = ttl.as_millis().clamp(1, i64::MAX as u128);
        call.key(self.placement.lease(name)).arg(holder).number(ttl);
        self.link.run(&call).await
    }

    async fn policy(&self, scope: &PolicyScope) -> Result<Option<Policy>, StoreError> {
        self.read_policy(scope).await
    }

    async fn set_policy(&self, change: &PolicyChange) -> Result<(), StoreError> {
        self.write_policy(change).await
    }

    async fn block(&self, scope: &PolicyScope) -> Result<Option<Block>, StoreError> {
        self.read_block(scope).await
    }

    async fn set_block(&self, change: &BlockChange) -> Result<(), StoreError> {
        self.write_block(change).await
    }

    async fn report(&self) -> Result<StoreReport, StoreError> {
        self.describe_all().await
    }
}

/// The URLs of the servers that the URL of a cluster names; none for another URL.
pub(crate) fn servers_of_cluster(url: &str) -> Option<Vec<String>> {
    let (scheme, servers) = url.split_once("-cluster://")?;
    if scheme != "redis" && scheme != "rediss" {
        return None;
    }
    // A password has its signs escaped.
    let (who, servers) = servers.rsplit_once('@').unwrap_or(("", servers));
    let at = if who.is_empty() { "" } else { "@" };
    Some(servers.split(',').map(|server| format!("{scheme}://{who}{at}{server}")).collect())
}

const CLUSTER_SHARDS: u16 = 32;
/// Ended sessions cost memory.
const HISTORY: Duration = Duration::from_secs(24 * 3600);
/// Until a node says what it needs: an engine's default.
const MAX_STALENESS: Duration = Duration::from_secs(30);
/// Of the keys' format.
pub(crate) const VERSION: i64 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_of_a_cluster_names_servers() {
        let servers = |url| servers_of_cluster(url).unwrap();
        assert_eq!(servers("redis-cluster://a,b:7000"), ["redis://a", "redis://b:7000"]);
        assert_eq!(servers("rediss-cluster://u:p@a,b"), ["rediss://u:p@a", "rediss://u:p@b"]);
        for other in ["redis://a", "rediss://a/3", "mongodb-cluster://a", "redis-cluster:a"] {
            assert_eq!(servers_of_cluster(other), None, "{other}");
        }
    }
}
