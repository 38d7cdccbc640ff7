//! Steps of several documents: transactions, where the server has them, tried again where another
//! change was in the way.

use mongodb::bson::{Bson, Document, doc, serialize_to_bson};
use mongodb::error::UNKNOWN_TRANSACTION_COMMIT_RESULT;
use mongodb::options::ReadConcern;
use mongodb::{ClientSession, Collection};
use session_core::StoreError;
use tokio::runtime::Handle;
use tokio::time::{Duration, Instant};

use crate::collections::Collections;
use crate::error::{Failed, is_passing, is_retried};
use crate::record;

/// Runs an action in a transaction where there is one.
macro_rules! in_session {
    ($session:expr, $action:expr) => {
        match $session {
            Some(session) => $action.session(&mut **session).await,
            None => $action.await,
        }
    };
}
pub(crate) use in_session;

/// The session of the transaction that a step is part of, where there are transactions.
pub(crate) type Step<'s> = Option<&'s mut ClientSession>;

/// A transaction, where there are any. Dropped before [`Collections::finish`], because the caller left
/// or the call timed out, it is aborted. The driver does so only once the first operation has returned.
/// Until then the server would keep the transaction open, by default for a minute, and other writes
/// would conflict with what it wrote.
pub(crate) struct Transaction(Option<Begun>);

struct Begun {
    session: ClientSession,
    /// Something to read, so that an operation has returned.
    probe: Collection<Document>,
    runtime: Handle,
    timeout: Duration,
}

impl Transaction {
    pub(crate) fn step(&mut self) -> Step<'_> {
        self.0.as_mut().map(|begun| &mut begun.session)
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let Some(Begun { mut session, probe, runtime, timeout }) = self.0.take() else { return };
        runtime.spawn(tokio::time::timeout(timeout, async move {
            // It may be refused, where what was asked before has begun the transaction.
            let _ = probe.find_one(doc! { "_id": "" }).session(&mut session).await;
            let _ = session.abort_transaction().await;
        }));
    }
}

impl Collections {
    /// Begins a transaction, where there are any.
    pub(crate) async fn begin(&self) -> Result<Transaction, Failed> {
        if !self.transactional {
            return Ok(Transaction(None));
        }
        let mut session = self.session().await?;
        session
            .start_transaction()
            .write_concern(self.options.write_concern.clone())
            .read_concern(ReadConcern::snapshot())
            .await?;
        let (probe, timeout) = (self.users.clone(), self.options.timeout);
        Ok(Transaction(Some(Begun { session, probe, runtime: Handle::current(), timeout })))
    }

    /// Commits what worked; none, after a pause, where another change was in the way. The commit or
    /// the abort goes on if the caller leaves.
    pub(crate) async fn finish<T>(
        &self,
        mut transaction: Transaction,
        result: Result<T, Failed>,
        tries: &mut Tries,
    ) -> Result<Option<T>, Failed> {
        let result = match (transaction.0.take(), result) {
            (None, result) => result,
            (Some(begun), Ok(done)) => begun.commit().await.map(|session| {
                self.has_seen(&session);
                done
            }),
            (Some(begun), Err(failed)) => {
                begun.abort().await;
                Err(failed)
            }
        };
        match result {
            Ok(done) => Ok(Some(done)),
            Err(failed) if failed.is_conflict() && tries.another().await => Ok(None),
            Err(failed) => Err(failed),
        }
    }

    /// Updates of one collection in one command, in their order. Returns how many documents were
    /// found or made; stops at the first update that fails.
    pub(crate) async fn update_each(
        &self,
        collection: &Collection<Document>,
        updates: &[Document],
        session: &mut Step<'_>,
    ) -> Result<usize, Failed> {
        self.update(collection, updates, true, session).await
    }

    /// As [`Collections::update_each`], but an update that fails keeps the others from nothing.
    pub(crate) async fn update_independently(
        &self,
        collection: &Collection<Document>,
        updates: &[Document],
    ) -> Result<usize, Failed> {
        self.update(collection, updates, false, &mut None).await
    }

    async fn update(
        &self,
        collection: &Collection<Document>,
        updates: &[Document],
        ordered: bool,
        session: &mut Step<'_>,
    ) -> Result<usize, Failed> {
        if updates.is_empty() {
            return Ok(0);
        }
        let namespace = collection.namespace();
        let mut command = doc! { "update": &namespace.coll, "updates": updates };
        if !ordered {
            command.insert("ordered", false);
        }
        if session.is_none() {
            let concern = serialize_to_bson(&self.options.write_concern);
            command.insert("writeConcern", concern.map_err(StoreError::internal)?);
        }
        let database = self.client.database(&namespace.db);
        let answer = in_session!(session.as_mut(), database.run_command(command))?;
        if let Some(refused) = refusal(&answer) {
            return Err(refused);
        }
        let found = answer.get_i32("n").map_err(|_| record::malformed("n"))?;
        Ok(usize::try_from(found).unwrap_or_default())
    }
}

/// A command's answer can be a success that says which of its parts failed.
fn refusal(answer: &Document) -> Option<Failed> {
    let errors = answer.get_array("writeErrors").ok().and_then(|errors| errors.first());
    let error = errors.and_then(Bson::as_document);
    let error = error.or(answer.get_document("writeConcernError").ok())?;
    let code = error.get_i32("code").unwrap_or_default();
    if is_retried(code) {
        return Some(Failed::Conflict);
    }
    let text = error.get_str("errmsg").unwrap_or("an update was refused").to_owned();
    let kind = if is_passing(code) { StoreError::unavailable } else { StoreError::internal };
    Some(kind(text).into())
}

impl Begun {
    async fn commit(self) -> Result<ClientSession, Failed> {
        let Self { mut session, runtime, timeout, .. } = self;
        let committed = runtime.spawn(tokio::time::timeout(timeout, async move {
            commit(&mut session).await.map(|()| session)
        }));
        match committed.await {
            Ok(Ok(committed)) => committed,
            // It may have happened.
            Ok(Err(late)) => Err(StoreError::unavailable(late).into()),
            Err(gone) => Err(StoreError::unavailable(gone).into()),
        }
    }

    async fn abort(self) {
        let Self { mut session, runtime, timeout, .. } = self;
        let aborted = runtime
            .spawn(tokio::time::timeout(timeout, async move { session.abort_transaction().await }));
        let _ = aborted.await;
    }
}

/// A commit whose outcome is unknown may be asked for again.
async fn commit(session: &mut ClientSession) -> Result<(), Failed> {
    const ASKED: u32 = 3;
    let mut asked = 0;
    loop {
        asked += 1;
        match session.commit_transaction().await {
            Err(error)
                if asked < ASKED && error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) => {}
            result => return Ok(result?),
        }
    }
}

/// How often a change is tried again when others are in the way.
pub(crate) struct Tries {
    count: u32,
    deadline: Instant,
}

impl Tries {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { count: 0, deadline: Instant::now() + timeout }
    }

    pub(crate) const fn is_first(&self) -> bool {
        self.count == 0
    }

    /// Waits a random time that grows; false when it is too late for another try.
    pub(crate) async fn another(&mut self) -> bool {
        self.count += 1;
        let ceiling = 1_u64 << self.count.min(6);
        let random = getrandom::u64().unwrap_or(0);
        tokio::time::sleep(Duration::from_micros(random % (ceiling * 1000))).await;
        Instant::now() < self.deadline
    }
}
