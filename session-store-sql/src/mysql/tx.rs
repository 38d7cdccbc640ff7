//! Transactions that change sessions: begun alike, logged alike, tried again alike.

use std::time::Duration;

use session_core::store::Ended;
use session_core::{Event, StoreError, UserKey};
use sqlx::mysql::{MySql, MySqlPool};
use sqlx::{QueryBuilder, Transaction};

use super::{is_deadlock, store_error};
use crate::names::Names;
use crate::rows;

pub(super) type Tx = Transaction<'static, MySql>;

/// Why a step failed: the database said so, or a row could not be read.
#[derive(Debug)]
pub(super) enum Failed {
    Sql(sqlx::Error),
    Store(StoreError),
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Runs a transaction, a few times if it meets a deadlock.
pub(super) async fn retried<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, Failed>>,
{
    for tried in 1..TRIES {
        match attempt().await {
            Err(Failed::Sql(error)) if is_deadlock(&error) => {
                tokio::time::sleep(PAUSE * tried).await;
            }
            result => return result.map_err(StoreError::from),
        }
    }
    attempt().await.map_err(StoreError::from)
}

impl From<Failed> for StoreError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Sql(error) => store_error(error),
            Failed::Store(error) => error,
        }
    }
}

/// Begins at READ COMMITTED: REPEATABLE READ would lock gaps, and two new users could deadlock.
pub(super) async fn begin(pool: &MySqlPool) -> Result<Tx, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    sqlx::query("SET TRANSACTION ISOLATION LEVEL READ COMMITTED").execute(&mut *connection).await?;
    Transaction::begin(connection, None).await
}

/// Appends entries, raises the versions of their users, forgets users without sessions. The last
/// steps of a transaction: the counter is locked from here to the commit.
pub(super) async fn finish(
    mut tx: Tx,
    names: &Names,
    owners: &[UserKey],
    events: &[Event],
) -> Result<(), Failed> {
    for owner in owners {
        // A plain read: the user's row is locked, so nobody begins a session meanwhile.
        let idle: i64 = sqlx::query_scalar(names.sql(IS_IDLE))
            .bind(rows::tenant_column(owner.tenant.as_ref()))
            .bind(owner.user.as_str())
            .fetch_one(&mut *tx)
            .await?;
        if idle == 1 {
            on_user(&mut tx, names.sql(FORGET), owner).await?;
        }
    }
    if !events.is_empty() {
        let last = numbers(&mut tx, names, events.len()).await?;
        let first = last - i64::try_from(events.len()).unwrap_or(0) + 1;
        append(&mut tx, names, first, events).await?;
        for owner in owners {
            let of_owner = |event: &Event| {
                event.user.as_ref() == Some(&owner.user) && event.tenant == owner.tenant
            };
            let newest = (first..).zip(events).filter(|(_, event)| of_owner(event)).last();
            if let Some((seq, _)) = newest {
                sqlx::query(names.sql(SET_VERSION))
                    .bind(seq)
                    .bind(rows::tenant_column(owner.tenant.as_ref()))
                    .bind(owner.user.as_str())
                    .execute(&mut *tx)
                    .await?;
            }
        }
    }
    tx.commit().await?;
    Ok(())
}

/// Locks the rows of users in one order, making those that are missing; answers their versions.
pub(super) async fn lock_user(
    tx: &mut Tx,
    names: &Names,
    owner: &UserKey,
) -> Result<i64, sqlx::Error> {
    on_user(tx, names.sql(ADD_USER), owner).await?;
    sqlx::query_scalar(names.sql(LOCK_USER))
        .bind(rows::tenant_column(owner.tenant.as_ref()))
        .bind(owner.user.as_str())
        .fetch_one(&mut **tx)
        .await
}

/// The owners of sessions, each once, in order.
pub(super) fn owners(sessions: &[Ended]) -> Vec<UserKey> {
    let mut owners: Vec<_> = sessions.iter().map(|session| session.owner.clone()).collect();
    owners.sort();
    owners.dedup();
    owners
}

async fn on_user(
    tx: &mut Tx,
    statement: sqlx::AssertSqlSafe<String>,
    owner: &UserKey,
) -> Result<(), sqlx::Error> {
    sqlx::query(statement)
        .bind(rows::tenant_column(owner.tenant.as_ref()))
        .bind(owner.user.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Draws numbers and answers the last one.
async fn numbers(tx: &mut Tx, names: &Names, count: usize) -> Result<i64, sqlx::Error> {
    let drawn = sqlx::query(names.sql(DRAW))
        .bind(i64::try_from(count).unwrap_or(i64::MAX))
        .execute(&mut **tx)
        .await?;
    Ok(drawn.last_insert_id().cast_signed())
}

async fn append(
    tx: &mut Tx,
    names: &Names,
    first: i64,
    events: &[Event],
) -> Result<(), sqlx::Error> {
    let numbered: Vec<_> = (first..).zip(events).collect();
    for some in numbered.chunks(ROWS) {
        let mut insert =
            QueryBuilder::<MySql>::new(names.fill(
                "INSERT INTO {t}log (seq, tag, kind, at, actor, tenant, user_id, session_id) ",
            ));
        insert.push_values(some, |mut row, (seq, event)| {
            row.push_bind(*seq);
            row.push("FLOOR(RAND() * 9007199254740991)");
            row.push_bind(event.kind.as_str());
            row.push_bind(event.at.as_micros());
            row.push_bind(event.by.to_string());
            row.push_bind(rows::tenant_column(event.tenant.as_ref()).to_owned());
            row.push_bind(event.user.as_ref().map(ToString::to_string));
            row.push_bind(event.session.map(|id| id.as_bytes().to_vec()));
        });
        insert.build().execute(&mut **tx).await?;
    }
    Ok(())
}

const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(2);
/// Rows in one statement.
pub(super) const ROWS: usize = 500;
const ADD_USER: &str = "INSERT INTO {t}users (tenant, user_id, version) VALUES (?, ?, 0) \
    ON DUPLICATE KEY UPDATE version = version";
pub(super) const LOCK_USER: &str =
    "SELECT version FROM {t}users WHERE tenant = ? AND user_id = ? FOR UPDATE";
const SET_VERSION: &str = "UPDATE {t}users SET version = ? WHERE tenant = ? AND user_id = ?";
pub(super) const IS_IDLE: &str = "SELECT NOT EXISTS \
    (SELECT 1 FROM {t}sessions WHERE tenant = ? AND user_id = ?)";
const FORGET: &str = "DELETE FROM {t}users WHERE tenant = ? AND user_id = ?";
const DRAW: &str = "UPDATE {t}counter SET last = LAST_INSERT_ID(last + ?)";
