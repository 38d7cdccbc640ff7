//! The SQLite store under the conformance kit, every node on connections of its own.
#![cfg(feature = "sqlite")]

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use session_conformance::sample::PATIENCE;
use session_conformance::{
    Backend, Namespace, RestorePoint, SessionId, Store, UserKey, async_trait,
};
use session_store_sql::{SqliteOptions, SqliteStore};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tempfile::TempDir;

struct Sqlite;

/// A file, and the stores that have been opened on it: a copy may only come back when all are
/// closed.
struct File {
    folder: TempDir,
    opened: Arc<Mutex<Vec<Arc<SqliteStore>>>>,
}

#[async_trait]
impl Backend for Sqlite {
    async fn fresh(&self) -> Box<dyn Namespace> {
        Box::new(File { folder: TempDir::new().unwrap(), opened: Arc::default() })
    }
}

#[async_trait]
impl Namespace for File {
    async fn connect(&self) -> Arc<dyn Store> {
        let options = SqliteOptions::default().with_busy_timeout(PATIENCE);
        let store = SqliteStore::connect_with(self.path("sessions.db"), options).await.unwrap();
        let store = Arc::new(store);
        self.opened.lock().unwrap().push(Arc::clone(&store));
        store
    }

    async fn damage(&self, id: SessionId) -> bool {
        let mut connection = self.connection().await;
        for table in ["session_kit_sessions", "session_kit_history"] {
            let damage = format!("UPDATE {table} SET ip_addresses = 'nowhere' WHERE id = ?");
            let damage = sqlx::query(AssertSqlSafe(damage)).bind(id.as_bytes().to_vec());
            damage.execute(&mut connection).await.unwrap();
        }
        connection.close().await.unwrap();
        true
    }

    async fn damage_log(&self, id: SessionId) -> bool {
        let mut connection = self.connection().await;
        let damage = "UPDATE session_kit_log SET user_id = '' WHERE session_id = ?";
        let damage = sqlx::query(damage).bind(id.as_bytes().to_vec());
        damage.execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        true
    }

    async fn damage_settings(&self, owner: &UserKey) -> bool {
        let mut connection = self.connection().await;
        let damage = "UPDATE session_kit_policies SET policy = '{', block = '{' \
            WHERE tenant = ? AND user_id = ?";
        let damage = sqlx::query(damage).bind(owner.tenant_text()).bind(owner.user.as_str());
        let damaged = damage.execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        damaged.rows_affected() == 1
    }

    async fn remember_alive(&self, id: SessionId) -> bool {
        let mut connection = self.connection().await;
        let remember = "INSERT INTO session_kit_history \
            SELECT id, tenant, user_id, device_kind, client_id, ip_addresses, signed_in, \
                last_accessed, deadline, claimed, details, 0, 'evicted', 'system', NULL \
            FROM session_kit_sessions WHERE id = ?";
        let remember = sqlx::query(remember).bind(id.as_bytes().to_vec());
        remember.execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        true
    }

    async fn restore_point(&self) -> Option<Box<dyn RestorePoint>> {
        let (file, copy) = (self.path("sessions.db"), self.path("copy.db"));
        let mut connection = self.connection().await;
        let into = format!("VACUUM INTO '{}'", copy.display());
        sqlx::raw_sql(AssertSqlSafe(into)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        Some(Box::new(Copy { file, copy, opened: Arc::clone(&self.opened) }))
    }

    /// What says nothing any more has no row.
    async fn complaints(&self) -> Vec<String> {
        let mut connection = self.connection().await;
        let mut complaints = Vec::new();
        for (what, count) in EMPTY {
            let count: i64 = sqlx::query_scalar(count).fetch_one(&mut connection).await.unwrap();
            if count > 0 {
                complaints.push(format!("{count} {what}"));
            }
        }
        connection.close().await.unwrap();
        complaints
    }
}

impl File {
    async fn connection(&self) -> SqliteConnection {
        let file = SqliteConnectOptions::new().filename(self.path("sessions.db"));
        file.busy_timeout(PATIENCE).connect().await.unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

struct Copy {
    file: PathBuf,
    copy: PathBuf,
    opened: Arc<Mutex<Vec<Arc<SqliteStore>>>>,
}

#[async_trait]
impl RestorePoint for Copy {
    async fn restore(self: Box<Self>) {
        let opened = std::mem::take(&mut *self.opened.lock().unwrap());
        for store in opened {
            store.close().await;
        }
        std::fs::rename(self.copy, self.file).unwrap();
    }
}

const EMPTY: [(&str, &str); 2] = [
    (
        "places without a policy or a block",
        "SELECT COUNT(*) FROM session_kit_policies WHERE policy IS NULL AND block IS NULL",
    ),
    (
        "users without sessions",
        "SELECT COUNT(*) FROM session_kit_users AS u WHERE NOT EXISTS \
            (SELECT 1 FROM session_kit_sessions AS s \
            WHERE s.tenant = u.tenant AND s.user_id = u.user_id)",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn keeps_every_guarantee() {
    let report = session_conformance::run(Arc::new(Sqlite)).await;
    println!("{report}");
    assert!(report.passed(), "{report}");
}
