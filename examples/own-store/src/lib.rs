//! A session store on [redb](https://www.redb.org), an embedded database in one file.
//!
//! `docs/writing-a-store.md` walks through it. It is a whole store that passes the conformance kit,
//! and an example: it is not published.
//!
//! One process has the file open, and as many engines in it as one likes share an [`OwnStore`].
//! Killed at any moment, the file has all that was acknowledged, and nothing in part.

mod change;
mod end;
mod file;
mod log;
mod places;
mod read;
mod settings;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redb::{Database, ReadableDatabase};
use session_core::block::Block;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{
    BlockChange, Commit, Cursor, EndMany, EndedBatch, EndedSession, Entries, Forget, HistoryPage,
    HistoryQuery, Loaded, LogPage, Needs, Outcome, Page, PageQuery, PolicyChange, Selection,
    StoreReport, Sweep, TenantFilter, Touch, UserState,
};
use session_core::{Actor, EndCause, FleetKey, SessionId, Store, StoreError, UserKey, async_trait};

use crate::end::EndWhere;
use crate::file::{BLOCKS, File, POLICIES, Read, Result, Write, store_error};

/// The store; clones are the same store.
#[derive(Clone, Debug)]
pub struct OwnStore {
    file: Arc<File>,
}

impl OwnStore {
    /// Opens a file, and makes it where there is none.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`](session_core::StoreErrorKind::Unavailable) where the file
    /// cannot be read or written, or is open already.
    pub async fn connect(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref().to_owned();
        let file = blocking(move || File::new(Database::create(path)?)).await?;
        Ok(Self { file: Arc::new(file) })
    }

    async fn read<Q: Send + 'static, T: Send + 'static>(
        &self,
        query: Q,
        read: impl FnOnce(&Read, &Q) -> Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let file = Arc::clone(&self.file);
        blocking(move || read(&file.database.begin_read()?, &query)).await
    }

    /// Waits for the turn, then changes the file in a thread that may block. A caller that goes
    /// away while it waits has changed nothing; later, its change goes on to its end.
    async fn write<Q: Send + 'static, T: Send + 'static>(
        &self,
        query: Q,
        change: impl FnOnce(&Write, &Q) -> Result<Option<T>> + Send + 'static,
    ) -> Result<Option<T>, StoreError> {
        let file = Arc::clone(&self.file);
        let turn = Arc::clone(&file.turn).lock_owned().await;
        blocking(move || {
            let _turn = turn;
            file.write(|file| change(file, &query))
        })
        .await
    }

    async fn end(&self, ending: EndWhere, limit: u32) -> Result<EndedBatch, StoreError> {
        let ending = Arc::new(ending);
        let choosing = Arc::clone(&ending);
        let (ids, next) = self.read(choosing, move |file, end| end.choose(file, limit)).await?;
        let ended = self.write(ending, move |file, ending| end::end(file, ending, &ids)).await?;
        Ok(EndedBatch { ended: ended.unwrap_or_default(), next })
    }

    fn keeps(&self) -> bool {
        self.file.keeps_history.load(Ordering::SeqCst)
    }
}

/// Runs a call in a thread that may block, to its end, also if the caller goes away.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(call).await.map_err(StoreError::unavailable)?;
    done.map_err(store_error)
}

#[async_trait]
impl Store for OwnStore {
    fn configure(&self, needs: &Needs) {
        self.file.keeps_history.store(!needs.history.is_zero(), Ordering::SeqCst);
    }

    async fn fleet_key(&self, proposed: &FleetKey) -> Result<FleetKey, StoreError> {
        let key = self.write(proposed.clone(), settings::fleet_key).await?;
        Ok(key.unwrap_or_else(|| proposed.clone()))
    }

    async fn user(&self, owner: &UserKey) -> Result<UserState, StoreError> {
        self.read(owner.clone(), read::user).await
    }

    async fn commit(&self, commit: &Commit) -> Result<Outcome, StoreError> {
        commit.check()?;
        let done = self.write((commit.clone(), self.keeps()), change::commit).await?;
        Ok(if done.is_some() { Outcome::Done } else { Outcome::Conflict })
    }

    async fn load(&self, id: SessionId) -> Result<Option<Loaded>, StoreError> {
        self.read(id, read::load).await
    }

    async fn ended(&self, id: SessionId) -> Result<Option<EndedSession>, StoreError> {
        self.read(id, read::ended).await
    }

    async fn history(&self, query: &HistoryQuery) -> Result<HistoryPage, StoreError> {
        self.read(query.clone(), read::history).await
    }

    async fn forget(&self, what: &Forget, limit: u32) -> Result<u32, StoreError> {
        Ok(self.write((what.clone(), limit), end::forget).await?.unwrap_or_default())
    }

    async fn page(&self, query: &PageQuery) -> Result<Page, StoreError> {
        self.read(query.clone(), read::page).await
    }

    async fn touch(&self, batch: &[Touch]) -> Result<Vec<SessionId>, StoreError> {
        let batch = Touch::folded(batch)?;
        Ok(self.write(batch, |file, batch| change::touch(file, batch)).await?.unwrap_or_default())
    }

    async fn end_many(&self, end: &EndMany, limit: u32) -> Result<EndedBatch, StoreError> {
        end.selection.check().map_err(StoreError::refused)?;
        self.end(EndWhere { end: end.clone(), overdue: None, keeps: self.keeps() }, limit).await
    }

    async fn sweep(&self, sweep: &Sweep, limit: u32) -> Result<EndedBatch, StoreError> {
        let Sweep { overdue, after, at } = sweep.clone();
        let selection = Selection::within(TenantFilter::Any);
        let (cause, by) = (EndCause::Expired, Actor::System);
        let end = EndMany { selection, after, cause, at, by, from: None };
        self.end(EndWhere { end, overdue: Some(overdue), keeps: self.keeps() }, limit).await
    }

    async fn log_since(
        &self,
        cursor: Option<&Cursor>,
        entries: Entries,
        limit: u32,
    ) -> Result<LogPage, StoreError> {
        self.read((cursor.cloned(), entries, limit), log::since).await
    }

    async fn changed(&self) {
        self.file.changed.notified().await;
    }

    fn pushes(&self) -> bool {
        true
    }

    async fn trim_log(&self, older_than: Duration, limit: u32) -> Result<u32, StoreError> {
        Ok(self.write((older_than, limit), log::trim).await?.unwrap_or_default())
    }

    async fn lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        let lease = (name.to_owned(), holder.to_owned(), ttl);
        Ok(self.write(lease, settings::lease).await?.is_some())
    }

    async fn policy(&self, scope: &PolicyScope) -> Result<Option<Policy>, StoreError> {
        self.read(scope.clone(), settings::policy).await
    }

    async fn set_policy(&self, change: &PolicyChange) -> Result<(), StoreError> {
        let policy = change.policy.as_ref().map(Policy::to_stored);
        let set = (change.scope.clone(), policy, change.event());
        self.write(set, |file, set| settings::set(file, POLICIES, set)).await.map(drop)
    }

    async fn block(&self, scope: &PolicyScope) -> Result<Option<Block>, StoreError> {
        self.read(scope.clone(), settings::block).await
    }

    async fn set_block(&self, change: &BlockChange) -> Result<(), StoreError> {
        let block = change.block.as_ref().map(Block::to_stored);
        let set = (change.scope.clone(), block, change.event());
        self.write(set, |file, set| settings::set(file, BLOCKS, set)).await.map(drop)
    }

    async fn report(&self) -> Result<StoreReport, StoreError> {
        self.read((), |file, ()| settings::report(file)).await
    }
}
