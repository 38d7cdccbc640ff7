//! A memory store whose changes are in a file: one line each.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use session_conformance::{Store, async_trait};
use session_core::block::Block;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::record::{decode_session, encode_session};
use session_core::store::{
    BlockChange, Change, Commit, Cursor, EndMany, EndedBatch, EndedSession, Entries, Forget,
    HistoryPage, HistoryQuery, Loaded, LogPage, Needs, Outcome, Page, PageQuery, PolicyChange,
    StoreReport, Sweep, Touch, UserState,
};
use session_core::{
    Actor, EndCause, EventKind, FleetKey, Session, SessionId, StoreError, Timestamp, UserKey,
};
use session_store_memory::MemoryStore;
use tokio::sync::Mutex;

/// Which changes are in the file, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writes {
    BeforeTheAnswer,
    WhenItSuits,
    /// All but those of this word.
    Without(&'static str),
}

pub(crate) struct Journal {
    store: MemoryStore,
    file: Mutex<BufWriter<File>>,
    writes: Writes,
}

impl Journal {
    pub(crate) async fn open(path: &Path, writes: Writes) -> Self {
        let store = MemoryStore::new();
        let text = std::fs::read_to_string(path).unwrap_or_default();
        // The last line may be there in part: it was not acknowledged.
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        for line in whole.lines() {
            replay(&store, &serde_json::from_str(line).unwrap()).await;
        }
        let file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.set_len(whole.len() as u64).unwrap();
        let file = Mutex::new(BufWriter::with_capacity(1 << 16, file));
        Self { store, file, writes }
    }

    async fn note(&self, change: &Change, file: &mut BufWriter<File>) {
        let line = match change {
            Change::Insert(session) => json!(["insert", text(session)]),
            Change::End(id, _) => json!(["end", id]),
            Change::Update { session, .. } => json!(["update", text(session)]),
            Change::ClaimsChanged(id) => json!(["claims", id]),
        };
        writeln!(file, "{line}").unwrap();
    }

    fn leaves_out(&self, word: &str) -> bool {
        matches!(self.writes, Writes::Without(left_out) if left_out == word)
    }

    /// Writes down all that was noted.
    fn keep(&self, file: &mut BufWriter<File>) {
        if self.writes != Writes::WhenItSuits {
            file.flush().unwrap();
            file.get_ref().sync_data().unwrap();
        }
    }

    async fn keep_setting(&self, word: &str, scope: &PolicyScope, text: &str) {
        if !self.leaves_out(word) {
            let mut file = self.file.lock().await;
            let (tenant, user) = scope.key();
            writeln!(file, "{}", json!([word, text, tenant, user])).unwrap();
            self.keep(&mut file);
        }
    }
}

async fn replay(store: &MemoryStore, line: &Value) {
    let (at, by) = (Timestamp::EPOCH, Actor::System);
    let [word, what] = [&line[0], &line[1]].map(|text| text.as_str().unwrap_or_default());
    if let (Some(tenant), Some(user)) = (line[2].as_str(), line[3].as_str()) {
        let scope =
            PolicyScope::User(UserKey { tenant: tenant.parse().ok(), user: user.parse().unwrap() });
        if word == "policy" {
            let policy = Some(Policy::from_stored(what).unwrap());
            store.set_policy(&PolicyChange { scope, policy, at, by }).await.unwrap();
        } else {
            let block = Some(Block::from_stored(what).unwrap());
            store.set_block(&BlockChange { scope, block, at, by }).await.unwrap();
        }
        return;
    }
    if word == "key" {
        let key = FleetKey::from_bytes(serde_json::from_value(line[1].clone()).unwrap());
        store.fleet_key(&key).await.unwrap();
        return;
    }
    let change = match word {
        "insert" => Change::Insert(Box::new(decode_session(what.as_bytes()).unwrap())),
        "update" => {
            let session = Box::new(decode_session(what.as_bytes()).unwrap());
            Change::Update { session, kind: EventKind::Rotated }
        }
        "end" => Change::End(what.parse().unwrap(), EndCause::SignedOut),
        _ => Change::ClaimsChanged(what.parse().unwrap()),
    };
    let owner = match &change {
        Change::Insert(session) => session.owner.clone(),
        other => store.load(other.session()).await.unwrap().unwrap().session.owner,
    };
    let expected = store.user(&owner).await.unwrap().version;
    let commit = Commit { owner, expected, changes: vec![change], at, by, from: None };
    assert_eq!(store.commit(&commit).await.unwrap(), Outcome::Done);
}

fn text(session: &Session) -> String {
    String::from_utf8(encode_session(session)).unwrap()
}

#[async_trait]
impl Store for Journal {
    fn configure(&self, needs: &Needs) {
        self.store.configure(needs);
    }

    async fn fleet_key(&self, proposed: &FleetKey) -> Result<FleetKey, StoreError> {
        let key = self.store.fleet_key(proposed).await?;
        if !self.leaves_out("key") {
            let mut file = self.file.lock().await;
            writeln!(file, "{}", json!(["key", key.as_bytes()])).unwrap();
            self.keep(&mut file);
        }
        Ok(key)
    }

    async fn user(&self, owner: &UserKey) -> Result<UserState, StoreError> {
        self.store.user(owner).await
    }

    async fn commit(&self, commit: &Commit) -> Result<Outcome, StoreError> {
        let mut file = self.file.lock().await;
        let outcome = self.store.commit(commit).await?;
        if outcome == Outcome::Done {
            for change in &commit.changes {
                self.note(change, &mut file).await;
            }
            self.keep(&mut file);
        }
        Ok(outcome)
    }

    async fn load(&self, id: SessionId) -> Result<Option<Loaded>, StoreError> {
        self.store.load(id).await
    }

    async fn ended(&self, id: SessionId) -> Result<Option<EndedSession>, StoreError> {
        self.store.ended(id).await
    }

    async fn history(&self, query: &HistoryQuery) -> Result<HistoryPage, StoreError> {
        self.store.history(query).await
    }

    async fn forget(&self, forget: &Forget, limit: u32) -> Result<u32, StoreError> {
        self.store.forget(forget, limit).await
    }

    async fn page(&self, query: &PageQuery) -> Result<Page, StoreError> {
        self.store.page(query).await
    }

    async fn touch(&self, batch: &[Touch]) -> Result<Vec<SessionId>, StoreError> {
        self.store.touch(batch).await
    }

    async fn end_many(&self, end: &EndMany, limit: u32) -> Result<EndedBatch, StoreError> {
        let mut file = self.file.lock().await;
        let batch = self.store.end_many(end, limit).await?;
        for ended in &batch.ended {
            self.note(&Change::End(ended.id, end.cause), &mut file).await;
        }
        file.flush().unwrap();
        Ok(batch)
    }

    async fn sweep(&self, sweep: &Sweep, limit: u32) -> Result<EndedBatch, StoreError> {
        self.store.sweep(sweep, limit).await
    }

    async fn log_since(
        &self,
        cursor: Option<&Cursor>,
        entries: Entries,
        limit: u32,
    ) -> Result<LogPage, StoreError> {
        self.store.log_since(cursor, entries, limit).await
    }

    async fn trim_log(&self, older_than: Duration, limit: u32) -> Result<u32, StoreError> {
        self.store.trim_log(older_than, limit).await
    }

    async fn lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        self.store.lease(name, holder, ttl).await
    }

    async fn policy(&self, scope: &PolicyScope) -> Result<Option<Policy>, StoreError> {
        self.store.policy(scope).await
    }

    async fn set_policy(&self, change: &PolicyChange) -> Result<(), StoreError> {
        self.store.set_policy(change).await?;
        let policy = change.policy.as_ref().unwrap().to_stored();
        self.keep_setting("policy", &change.scope, &policy).await;
        Ok(())
    }

    async fn block(&self, scope: &PolicyScope) -> Result<Option<Block>, StoreError> {
        self.store.block(scope).await
    }

    async fn set_block(&self, change: &BlockChange) -> Result<(), StoreError> {
        self.store.set_block(change).await?;
        let block = change.block.as_ref().unwrap().to_stored();
        self.keep_setting("block", &change.scope, &block).await;
        Ok(())
    }

    async fn report(&self) -> Result<StoreReport, StoreError> {
        self.store.report().await
    }
}
