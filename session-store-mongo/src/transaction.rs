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

/// A transaction, where there are any. Where it is dropped before [`Collections::finish`] has it,
/// because the caller has gone, it is aborted. The driver does so only once the first operation has
/// been answered; otherwise the server would keep what that wrote, and others from writing there, for
/// as long as a transaction may live: a minute.
pub(crate) struct Transaction {
    session: Option<ClientSession>,
    /// Something to read, so that an operation has been answered.
    users: Collection<Document>,
}

impl Transaction {
    pub(crate) const fn step(&mut self) -> Step<'_> {
        self.session.as_mut()
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let Some(mut session) = self.session.take() else { return };
        let Ok(runtime) = Handle::try_current() else { return };
        let users = self.users.clone();
        runtime.spawn(async move {
            // It may be refused, where what was asked before has begun the transaction.
            let _ = users.find_one(doc! { "_id": "" }).session(&mut session).await;
            let _ = session.abort_transaction().await;
        });
    }
}

impl Collections {
    /// Begins a transaction, where there are any.
    pub(crate) async fn begin(&self) -> Result<Transaction, Failed> {
        let users = self.users.clone();
        if !self.transactional {
            return Ok(Transaction { session: None, users });
        }
        let mut session = self.session().await?;
        session
            .start_transaction()
            .write_concern(self.options.write_concern.clone())
            .read_concern(ReadConcern::snapshot())
            .await?;
        Ok(Transaction { session: Some(session), users })
    }

    /// Commits what worked; none, after a pause, where another change was in the way. What has begun
    /// to end goes on where the caller goes away.
    pub(crate) async fn finish<T>(
        &self,
        mut transaction: Transaction,
        result: Result<T, Failed>,
        tries: &mut Tries,
    ) -> Result<Option<T>, Failed> {
        let result = match (transaction.session.take(), result) {
            (None, result) => result,
            (Some(mut session), Ok(done)) => {
                let commit = async move { commit(&mut session).await.map(|()| session) };
                let session = tokio::spawn(commit).await.map_err(StoreError::internal)?;
                session.map(|session| {
                    self.has_seen(&session);
                    done
                })
            }
            (Some(mut session), Err(failed)) => {
                let abort = tokio::spawn(async move { session.abort_transaction().await });
                let _ = abort.await;
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
