//! A session store on [redb](https://www.redb.org), an embedded database in one file.
//!
//! `docs/writing-a-store.md` walks through it. It is a whole store that passes the conformance kit,
//! and an example: it is not published.
//!
//! One process has the file open, and as many engines in it as one likes share an [`OwnStore`].
//! Killed at any moment, it has everything on the disk that it has acknowledged, and nothing in
//! part.

mod change;
mod end;
mod file;
mod history;
mod log;
mod places;
mod read;
mod settings;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redb::{Database, Error, ReadTransaction, ReadableDatabase, WriteTransaction};
use session_core::block::Block;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{
    BlockChange, Commit, Cursor, EndMany, EndedBatch, EndedSession, Entries, Forget, HistoryPage,
    HistoryQuery, Loaded, LogPage, Needs, Outcome, Page, PageQuery, PolicyChange, Selection,
    StoreReport, Sweep, TenantFilter, Touch, UserState,
};
use session_core::{Actor, EndCause, FleetKey, SessionId, Store, StoreError, UserKey, async_trait};

use crate::end::EndWhere;
use crate::file::{BLOCKS, File, HISTORY, POLICIES, store_error};

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

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let file = Arc::clone(&self.file);
        blocking(move || read(&file.database.begin_read()?)).await
    }

    /// Waits for the turn, then changes the file in a thread that may block. A caller that goes
    /// away while it waits has changed nothing; later, its change goes on to its end.
    async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<Option<T>, Error> + Send + 'static,
    ) -> Result<Option<T>, StoreError> {
        let file = Arc::clone(&self.file);
        let turn = Arc::clone(&file.turn).lock_owned().await;
        blocking(move || {
            let _turn = turn;
            file.write(change)
        })
        .await
    }

    async fn end(&self, ending: EndWhere, limit: u32) -> Result<EndedBatch, StoreError> {
        let ending = Arc::new(ending);
        let choosing = Arc::clone(&ending);
        let (ids, next) = self.read(move |file| choosing.choose(file, limit)).await?;
        let ended = self.write(move |file| end::end(file, &ending, &ids)).await?;
        Ok(EndedBatch { ended: ended.unwrap_or_default(), next })
    }
}

/// Runs a call in a thread that may block, to its end, also if the caller goes away.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, Error> + Send + 'static,
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
        let key = proposed.clone();
        let key = self.write(move |file| settings::fleet_key(file, &key).map(Some)).await?;
        Ok(key.unwrap_or_else(|| proposed.clone()))
    }

    async fn user(&self, owner: &UserKey) -> Result<UserState, StoreError> {
        let owner = owner.clone();
        self.read(move |file| read::user(file, &owner)).await
    }

    async fn commit(&self, commit: &Commit) -> Result<Outcome, StoreError> {
        commit.check()?;
        let commit = commit.clone();
        let done = self.write(move |file| change::commit(file, &commit)).await?;
        Ok(if done.is_some() { Outcome::Done } else { Outcome::Conflict })
    }

    async fn load(&self, id: SessionId) -> Result<Option<Loaded>, StoreError> {
        self.read(move |file| read::load(file, id)).await
    }

    async fn ended(&self, id: SessionId) -> Result<Option<EndedSession>, StoreError> {
        self.read(move |file| history::ended(&file.open_table(HISTORY)?, id)).await
    }

    async fn history(&self, query: &HistoryQuery) -> Result<HistoryPage, StoreError> {
        let query = query.clone();
        self.read(move |file| history::page(file, &query)).await
    }

    async fn forget(&self, forget: &Forget, limit: u32) -> Result<u32, StoreError> {
        let forget = forget.clone();
        Ok(self.write(move |file| history::forget(file, &forget, limit)).await?.unwrap_or_default())
    }

    async fn page(&self, query: &PageQuery) -> Result<Page, StoreError> {
        let query = query.clone();
        self.read(move |file| read::page(file, &query)).await
    }

    async fn touch(&self, batch: &[Touch]) -> Result<Vec<SessionId>, StoreError> {
        let batch = Touch::folded(batch)?;
        let gone = self.write(move |file| Ok(Some(change::touch(file, &batch)?))).await?;
        Ok(gone.unwrap_or_default())
    }

    async fn end_many(&self, end: &EndMany, limit: u32) -> Result<EndedBatch, StoreError> {
        end.selection.check().map_err(StoreError::refused)?;
        self.end(EndWhere { end: end.clone(), overdue: None }, limit).await
    }

    async fn sweep(&self, sweep: &Sweep, limit: u32) -> Result<EndedBatch, StoreError> {
        let Sweep { overdue, after, at } = sweep.clone();
        let selection = Selection::within(TenantFilter::Any);
        let (cause, by) = (EndCause::Expired, Actor::System);
        let end = EndMany { selection, after, cause, at, by, from: None };
        self.end(EndWhere { end, overdue: Some(overdue) }, limit).await
    }

    async fn log_since(
        &self,
        cursor: Option<&Cursor>,
        entries: Entries,
        limit: u32,
    ) -> Result<LogPage, StoreError> {
        let cursor = cursor.cloned();
        self.read(move |file| log::since(file, cursor.as_ref(), entries, limit)).await
    }

    async fn changed(&self) {
        self.file.changed.notified().await;
    }

    fn pushes(&self) -> bool {
        true
    }

    async fn trim_log(&self, older_than: Duration, limit: u32) -> Result<u32, StoreError> {
        Ok(self.write(move |file| log::trim(file, older_than, limit)).await?.unwrap_or_default())
    }

    async fn lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        let taken = self.write(move |file| settings::lease(file, &name, &holder, ttl)).await?;
        Ok(taken.is_some())
    }

    async fn policy(&self, scope: &PolicyScope) -> Result<Option<Policy>, StoreError> {
        let (scope, read) = (scope.clone(), Policy::from_stored);
        self.read(move |file| settings::setting(&file.open_table(POLICIES)?, &scope, read)).await
    }

    async fn set_policy(&self, change: &PolicyChange) -> Result<(), StoreError> {
        let (change, event) = (change.clone(), change.event());
        let policy = change.policy.as_ref().map(Policy::to_stored);
        let set = move |file: &_| settings::set(file, POLICIES, &change.scope, policy, &event);
        self.write(set).await.map(drop)
    }

    async fn block(&self, scope: &PolicyScope) -> Result<Option<Block>, StoreError> {
        let (scope, read) = (scope.clone(), Block::from_stored);
        self.read(move |file| settings::setting(&file.open_table(BLOCKS)?, &scope, read)).await
    }

    async fn set_block(&self, change: &BlockChange) -> Result<(), StoreError> {
        let (change, event) = (change.clone(), change.event());
        let block = change.block.as_ref().map(Block::to_stored);
        let set = move |file: &_| settings::set(file, BLOCKS, &change.scope, block, &event);
        self.write(set).await.map(drop)
    }

    async fn report(&self) -> Result<StoreReport, StoreError> {
        self.read(settings::report).await
    }
}
