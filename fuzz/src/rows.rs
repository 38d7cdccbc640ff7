//! Rows of a damaged store: what reads them answers an error, and goes on.

use std::cell::RefCell;
use std::fmt::Debug;

use session_core::policy::{Policy, PolicyScope};
use session_core::rotation::TokenState;
use session_core::store::{Change, Commit, Cursor, Entries, PageQuery, PolicyChange, TenantFilter};
use session_core::{
    Actor, DeviceKind, Session, SessionId, Store, StoreError, StoreErrorKind, Timestamp, Token,
    UserId, UserKey,
};
use session_store_sql::SqliteStore;
use sqlx::sqlite::{SqliteConnectOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, SqliteConnection};
use tokio::runtime::{Builder, Runtime};

thread_local! {
    static FILE: RefCell<Option<(Runtime, File)>> = const { RefCell::new(None) };
}

/// The columns of a session, of its log entry and of a policy, one for each line, in the order of
/// [`COLUMNS`]. A column without a line stays good.
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

/// A store with one session, its log entry and a policy, and another connection to its file.
struct File {
    store: SqliteStore,
    raw: SqliteConnection,
    id: SessionId,
    before: Cursor,
}

impl File {
    async fn new() -> Self {
        let path = std::env::temp_dir().join(format!("session-fuzz-{}.db", std::process::id()));
        let store = SqliteStore::connect(&path).await.expect("a new file");
        let before = store.log_since(None, Entries::All, 0).await.expect("a log").next;
        let id = fill(&store).await;
        let options = SqliteConnectOptions::new().filename(&path).foreign_keys(false);
        let mut raw =
            options.synchronous(SqliteSynchronous::Off).connect().await.expect("the same file");
        sqlx::raw_sql(KEEP).execute(&mut raw).await.expect("copies of good rows");
        Self { store, raw, id, before }
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
        read(self.store.load(self.id).await);
        read(self.store.user(&alice()).await);
        read(self.store.policy(&PolicyScope::Deployment).await);
        read(self.store.log_since(Some(&self.before), Entries::All, 10).await);
        let query = PageQuery::live(TenantFilter::Any, Default::default(), signed_in());
        read(self.store.page(&query).await);
    }
}

/// A value, or the word that it is damaged.
fn read<T: Debug>(result: Result<T, StoreError>) {
    if let Err(error) = result {
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
    }
}

async fn fill(store: &SqliteStore) -> SessionId {
    let token = Token::new(SessionId::from_random([1; 16]), [2; 12], [3; 16]);
    let session = Session {
        id: token.session_id(),
        owner: alice(),
        device_kind: DeviceKind::Web,
        device_info: None,
        client_id: None,
        ip_addresses: Vec::new(),
        signed_in: signed_in(),
        last_accessed: signed_in(),
        authenticated_at: signed_in(),
        absolute_expiry: None,
        data: None,
        token: TokenState::new(&token),
    };
    let commit = Commit {
        owner: alice(),
        expected: store.user(&alice()).await.expect("an empty store").version,
        changes: vec![Change::Insert(Box::new(session))],
        at: signed_in(),
        by: Actor::Application,
    };
    store.commit(&commit).await.expect("an empty store");
    let policy = PolicyChange {
        scope: PolicyScope::Deployment,
        policy: Some(Policy::default()),
        at: signed_in(),
        by: Actor::Application,
    };
    store.set_policy(&policy).await.expect("an empty store");
    token.session_id()
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

const COLUMNS: [(Kind, &str); 22] = [
    (Kind::Bytes, "UPDATE session_kit_sessions SET device_kind = CAST(? AS TEXT)"),
    (Kind::Bytes, "UPDATE session_kit_sessions SET ip_addresses = CAST(? AS TEXT)"),
    (Kind::Bytes, "UPDATE session_kit_sessions SET data = CAST(? AS TEXT)"),
    (Kind::Bytes, "UPDATE session_kit_policies SET policy = CAST(? AS TEXT)"),
    (Kind::Bytes, "UPDATE session_kit_log SET kind = CAST(? AS TEXT)"),
    (Kind::Bytes, "UPDATE session_kit_log SET actor = CAST(? AS TEXT)"),
    (Kind::Bytes, "UPDATE session_kit_sessions SET client_id = CAST(? AS TEXT)"),
    (Kind::Bytes, "UPDATE session_kit_sessions SET device_info = CAST(? AS TEXT)"),
    (Kind::Bytes, "UPDATE session_kit_sessions SET token_current = CAST(? AS BLOB)"),
    (Kind::Bytes, "UPDATE session_kit_sessions SET token_family = CAST(? AS BLOB)"),
    (Kind::Bytes, "UPDATE session_kit_sessions SET token_retired = CAST(? AS BLOB)"),
    (Kind::Number, "UPDATE session_kit_sessions SET token_retired_at = ?"),
    (Kind::Number, "UPDATE session_kit_sessions SET signed_in = ?"),
    (Kind::Number, "UPDATE session_kit_sessions SET last_accessed = ?"),
    (Kind::Number, "UPDATE session_kit_sessions SET authenticated_at = ?"),
    (Kind::Number, "UPDATE session_kit_sessions SET absolute_expiry = ?"),
    (Kind::Bytes, "UPDATE session_kit_sessions SET tenant = CAST(? AS TEXT)"),
    (Kind::Bytes, "UPDATE session_kit_log SET tenant = CAST(? AS TEXT)"),
    (Kind::Bytes, "UPDATE session_kit_log SET user_id = CAST(? AS TEXT)"),
    (Kind::Bytes, "UPDATE session_kit_log SET session_id = CAST(? AS BLOB)"),
    (Kind::Number, "UPDATE session_kit_log SET at = ?"),
    (Kind::Bytes, "UPDATE session_kit_sessions SET id = CAST(? AS BLOB)"),
];

const KEEP: &str = "CREATE TEMP TABLE good_sessions AS SELECT * FROM session_kit_sessions;
    CREATE TEMP TABLE good_log AS SELECT * FROM session_kit_log;
    CREATE TEMP TABLE good_policies AS SELECT * FROM session_kit_policies;";
const MEND: &str = "BEGIN;
    DELETE FROM session_kit_sessions;
    INSERT INTO session_kit_sessions SELECT * FROM good_sessions;
    DELETE FROM session_kit_log;
    INSERT INTO session_kit_log SELECT * FROM good_log;
    DELETE FROM session_kit_policies;
    INSERT INTO session_kit_policies SELECT * FROM good_policies;
    COMMIT;";
