//! Rows of a damaged store: what reads them answers an error, and goes on.

use std::cell::RefCell;
use std::fmt::Debug;

use session_core::block::Block;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{
    BlockChange, Change, Commit, Cursor, Entries, HistoryQuery, Outcome, PageQuery, PolicyChange,
    TenantFilter,
};
use session_core::{
    Actor, EndCause, FleetKey, Session, SessionId, Store, StoreError, StoreErrorKind, Timestamp,
    Token, UserId, UserKey,
};
use session_store_sql::SqliteStore;
use sqlx::sqlite::{SqliteConnectOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, SqliteConnection};
use tokio::runtime::{Builder, Runtime};

thread_local! {
    static FILE: RefCell<Option<(Runtime, File)>> = const { RefCell::new(None) };
}

/// The columns of a session, of one that has ended, of log entries, of a policy and of a block, one for
/// each line, in the order of [`COLUMNS`]. A column without a line stays good.
pub fn stored_rows(data: &[u8]) {
    FILE.with_borrow_mut(|slot| {
        let (runtime, file) = slot.get_or_insert_with(|| {
            let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
            let file = runtime.block_on(File::new());
            (runtime, file)
        });
        runtime.block_on(file.damage_read_and_mend(data));
    });
}

/// A store with a session, an ended one, their log entries, a policy and a block, and another connection
/// to its file.
struct File {
    store: SqliteStore,
    raw: SqliteConnection,
    /// Of the session that lives, and of the one that has ended.
    ids: [SessionId; 2],
    before: Cursor,
}

impl File {
    async fn new() -> Self {
        let path = std::env::temp_dir().join(format!("session-fuzz-{}.db", std::process::id()));
        let store = SqliteStore::connect(&path).await.expect("a new file");
        let before = store.log_since(None, Entries::All, 0).await.expect("a log").next;
        let ids = fill(&store).await;
        let options = SqliteConnectOptions::new().filename(&path).foreign_keys(false);
        let mut raw =
            options.synchronous(SqliteSynchronous::Off).connect().await.expect("the same file");
        sqlx::raw_sql(KEEP).execute(&mut raw).await.expect("copies of good rows");
        Self { store, raw, ids, before }
    }

    async fn damage_read_and_mend(&mut self, data: &[u8]) {
        for ((kind, update), line) in COLUMNS.iter().zip(data.split(|byte| *byte == b'\n')) {
            let update = sqlx::query(*update);
            let update = match kind {
                Kind::Number => update.bind(number(line)),
                Kind::Bytes => update.bind(line),
            };
            update.execute(&mut self.raw).await.expect("the column takes any value of its kind");
        }
        self.read().await;
        sqlx::raw_sql(MEND).execute(&mut self.raw).await.expect("copies of good rows");
    }

    async fn read(&self) {
        read(self.store.load(self.ids[0]).await);
        read(self.store.ended(self.ids[1]).await);
        read(self.store.user(&alice()).await);
        read(self.store.policy(&PolicyScope::Deployment).await);
        read(self.store.block(&PolicyScope::Deployment).await);
        read(self.store.fleet_key(&FleetKey::from_bytes([5; FleetKey::BYTES])).await);
        read(self.store.log_since(Some(&self.before), Entries::All, 10).await);
        read(self.store.page(&PageQuery::live(TenantFilter::Any, signed_in())).await);
        read(self.store.history(&HistoryQuery::within(TenantFilter::Any)).await);
    }
}

/// A value, or the word that it is damaged.
fn read<T: Debug>(result: Result<T, StoreError>) {
    if let Err(error) = result {
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
    }
}

/// A session that lives, and one that has ended.
async fn fill(store: &SqliteStore) -> [SessionId; 2] {
    let proposed = FleetKey::from_bytes([4; FleetKey::BYTES]);
    let key = store.fleet_key(&proposed).await.expect("an empty store");
    let begins = |n| {
        let token = Token::new(&key, SessionId::from_random([n; 16]), [2; 12], [3; 16]);
        Change::Insert(Box::new(Session::new(alice(), &token, signed_in())))
    };
    let changes = vec![begins(1), begins(2)];
    let ids = [changes[0].session(), changes[1].session()];
    commit(store, changes).await;
    commit(store, vec![Change::End(ids[1], EndCause::Evicted)]).await;
    let (scope, at, by) = (PolicyScope::Deployment, signed_in(), Actor::Application);
    let policy = Some(Policy::default());
    let policy = PolicyChange { scope: scope.clone(), policy, at, by: by.clone() };
    store.set_policy(&policy).await.expect("an empty store");
    let block = Some(Block { reason: None, until: None, since: at, by: by.clone() });
    store.set_block(&BlockChange { scope, block, at, by }).await.expect("an empty store");
    ids
}

async fn commit(store: &SqliteStore, changes: Vec<Change>) {
    let expected = store.user(&alice()).await.expect("a store of our own").version;
    let (owner, at, by) = (alice(), signed_in(), Actor::Application);
    let commit = Commit { owner, expected, changes, at, by, from: None };
    let outcome = store.commit(&commit).await.expect("a store of our own");
    assert_eq!(outcome, Outcome::Done);
}

fn alice() -> UserKey {
    UserKey::new(UserId::new("alice").expect("a name"))
}

const fn signed_in() -> Timestamp {
    Timestamp::from_micros(1_780_000_000_000_000)
}

/// The number that a line says, or the one that its bytes are.
fn number(line: &[u8]) -> i64 {
    let said = str::from_utf8(line).ok().and_then(|text| text.parse().ok());
    said.unwrap_or_else(|| {
        line.iter().fold(0, |number: i64, byte| number.wrapping_shl(8) | i64::from(*byte))
    })
}

/// How a line becomes a value.
enum Kind {
    Number,
    Bytes,
}

const COLUMNS: [(Kind, &str); 25] = [
    (Kind::Bytes, "UPDATE session_kit_sessions SET device_kind = CAST(? AS TEXT)"),
    (Kind::Bytes, "UPDATE session_kit_sessions SET ip_addresses = CAST(? AS TEXT)"),
    (Kind::Bytes, "UPDATE session_kit_sessions SET details = CAST(? AS TEXT)"),
    (Kind::Bytes, "UPDATE session_kit_policies SET policy = CAST(? AS TEXT)"),
    (Kind::Bytes, "UPDATE session_kit_log SET kind = CAST(? AS TEXT)"),
    (Kind::Bytes, "UPDATE session_kit_log SET actor = CAST(? AS TEXT)"),
    (Kind::Bytes, "UPDATE session_kit_sessions SET client_id = CAST(? AS TEXT)"),
    (Kind::Bytes, "UPDATE session_kit_policies SET block = CAST(? AS TEXT)"),
    (Kind::Bytes, "UPDATE session_kit_history SET details = CAST(? AS TEXT)"),
    (Kind::Bytes, "UPDATE session_kit_history SET cause = CAST(? AS TEXT)"),
    (Kind::Bytes, "UPDATE session_kit_history SET actor = CAST(? AS TEXT)"),
    (Kind::Bytes, "UPDATE session_kit_history SET ended_from = CAST(? AS TEXT)"),
    (Kind::Number, "UPDATE session_kit_sessions SET signed_in = ?"),
    (Kind::Number, "UPDATE session_kit_sessions SET last_accessed = ?"),
    (Kind::Number, "UPDATE session_kit_sessions SET deadline = ?"),
    (Kind::Number, "UPDATE session_kit_sessions SET claimed = ?"),
    (Kind::Number, "UPDATE session_kit_history SET ended = ?"),
    (Kind::Bytes, "UPDATE session_kit_sessions SET tenant = CAST(? AS TEXT)"),
    (Kind::Bytes, "UPDATE session_kit_history SET tenant = CAST(? AS TEXT)"),
    (Kind::Bytes, "UPDATE session_kit_log SET tenant = CAST(? AS TEXT)"),
    (Kind::Bytes, "UPDATE session_kit_log SET user_id = CAST(? AS TEXT)"),
    (Kind::Bytes, "UPDATE session_kit_log SET session_id = CAST(? AS BLOB)"),
    (Kind::Number, "UPDATE session_kit_log SET at = ?"),
    (Kind::Bytes, "UPDATE session_kit_fleet SET key = CAST(? AS BLOB)"),
    (Kind::Bytes, "UPDATE session_kit_sessions SET id = CAST(? AS BLOB)"),
];

const KEEP: &str = "CREATE TEMP TABLE good_sessions AS SELECT * FROM session_kit_sessions;
    CREATE TEMP TABLE good_log AS SELECT * FROM session_kit_log;
    CREATE TEMP TABLE good_history AS SELECT * FROM session_kit_history;
    CREATE TEMP TABLE good_policies AS SELECT * FROM session_kit_policies;
    CREATE TEMP TABLE good_fleet AS SELECT * FROM session_kit_fleet;";
const MEND: &str = "BEGIN;
    DELETE FROM session_kit_sessions;
    INSERT INTO session_kit_sessions SELECT * FROM good_sessions;
    DELETE FROM session_kit_log;
    INSERT INTO session_kit_log SELECT * FROM good_log;
    DELETE FROM session_kit_history;
    INSERT INTO session_kit_history SELECT * FROM good_history;
    DELETE FROM session_kit_fleet;
    INSERT INTO session_kit_fleet SELECT * FROM good_fleet;
    DELETE FROM session_kit_policies;
    INSERT INTO session_kit_policies SELECT * FROM good_policies;
    COMMIT;";
