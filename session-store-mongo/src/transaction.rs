//! Steps of several documents: transactions, where the server has them, tried again where somebody
//! else was in the way.

use mongodb::ClientSession;
use mongodb::error::UNKNOWN_TRANSACTION_COMMIT_RESULT;
use mongodb::options::ReadConcern;
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Duration, Instant};

use crate::error::Failed;
use crate::store::MongoStore;

/// Runs an action in a session where there is one.
macro_rules! in_session {
    ($session:expr, $action:expr) => {
        match $session {
            Some(transaction) => $action.session(&mut transaction.session).await,
            None => $action.await,
        }
    };
}
pub(crate) use in_session;

/// The transaction that a step is part of, where there are transactions.
pub(crate) type Step<'s> = Option<&'s mut Transaction>;

pub(crate) struct Transaction {
    pub(crate) session: ClientSession,
    /// From its entries in the log until it is over: two transactions that append at once are in
    /// each other's way, and one of them has to begin again.
    pub(crate) turn: Option<OwnedMutexGuard<()>>,
}

impl MongoStore {
    /// Begins a transaction, where there are any.
    pub(crate) async fn begin(&self) -> Result<Option<Transaction>, Failed> {
        if !self.transactional {
            return Ok(None);
        }
        let mut session = self.client.start_session().await?;
        session
            .start_transaction()
            .write_concern(self.options.write_concern.clone())
            .read_concern(ReadConcern::snapshot())
            .await?;
        Ok(Some(Transaction { session, turn: None }))
    }

    /// Commits what worked; none, after a pause, where somebody else was in the way.
    pub(crate) async fn finish<T>(
        &self,
        step: Option<Transaction>,
        result: Result<T, Failed>,
        tries: &mut Tries,
    ) -> Result<Option<T>, Failed> {
        let result = match (step, result) {
            (None, result) => result,
            (Some(mut step), Ok(done)) => commit(&mut step.session).await.map(|()| done),
            (Some(mut step), Err(failed)) => {
                let _ = step.session.abort_transaction().await;
                Err(failed)
            }
        };
        match result {
            Ok(done) => Ok(Some(done)),
            Err(failed) if failed.is_conflict() && tries.another().await => Ok(None),
            Err(failed) => Err(failed),
        }
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

    /// Waits a random time that grows; false when it is too late for another try.
    pub(crate) async fn another(&mut self) -> bool {
        self.count += 1;
        let ceiling = 1_u64 << self.count.min(6);
        let random = getrandom::u64().unwrap_or(0);
        tokio::time::sleep(Duration::from_micros(random % (ceiling * 1000))).await;
        Instant::now() < self.deadline
    }
}
