//! How a schema is made and brought up to date.

use session_conformance::sample::{insert, now};
use session_core::{Store, StoreErrorKind};
use session_store_sql::{MySqlOptions, MySqlStore};
use sqlx::mysql::{MySqlConnection, MySqlPoolOptions};

use crate::{Database, pool, server, session, touch};

/// What the client program sends at once. Between `DELIMITER` lines that is one statement, and no
/// other holds a semicolon in its middle.
fn as_the_client_cuts(script: &str) -> Vec<String> {
    let mut parts = Vec::new();
    for (n, part) in script.split("DELIMITER ").enumerate() {
        let (delimiter, body) = if n == 0 { (";", part) } else { part.split_once('\n').unwrap() };
        let statements = body.split(delimiter).map(str::trim);
        parts.extend(statements.filter(|text| !text.is_empty()).map(str::to_owned));
    }
    parts
}

#[tokio::test]
async fn printed_migrations_may_be_run_by_hand_and_a_newer_schema_says_who_may_use_it() {
    let database = Database::create().await;
    let options = server().database(&database.0);
    let mut connection = database.connection().await;
    for script in MySqlStore::migrations(&MySqlOptions::default()).unwrap() {
        assert!(!script.contains('{'), "{script}");
        for part in as_the_client_cuts(&script) {
            sqlx::raw_sql(sqlx::AssertSqlSafe(part)).execute(&mut connection).await.unwrap();
        }
    }
    let store = database.store().await;
    insert(&store, &session(&store, "alice").await).await;
    let newer = "INSERT INTO session_kit_migrations (version) VALUES (1000)";
    sqlx::query(newer).execute(&mut connection).await.unwrap();
    let older = database.store().await;
    assert_eq!(older.report().await.unwrap().schema, Some(1000));
    let unusable = "DELETE FROM session_kit_migrations WHERE version < 1000";
    sqlx::query(unusable).execute(&mut connection).await.unwrap();
    let pool = pool(options, 1).await;
    let error = MySqlStore::with_pool(pool, MySqlOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("version 1000"), "{error}");
}

/// What is wrong is said, and at once: a pool says after half a minute that it timed out.
#[tokio::test]
async fn a_server_that_is_not_there_is_named_as_the_cause() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = format!("mysql://root@127.0.0.1:{port}/none");
    let error = MySqlStore::connect(&url).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.to_string().contains("refused"), "{error}");
}

/// Connections on which reads would see too much or too little.
#[tokio::test]
async fn settings_that_break_a_promise_are_refused() {
    let database = Database::create().await;
    for (set, field) in [
        ("SET autocommit = 0", "autocommit"),
        ("SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED", "transaction_isolation"),
    ] {
        let pool = MySqlPoolOptions::new()
            .after_connect(move |connection, _| {
                Box::pin(async move { sqlx::query(set).execute(connection).await.map(drop) })
            })
            .connect_with(server().database(&database.0))
            .await
            .unwrap();
        let error = MySqlStore::with_pool(pool, MySqlOptions::default()).await.unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
    }
}

#[tokio::test]
async fn tables_without_procedures_are_brought_up_to_date() {
    let database = Database::create().await;
    let mut connection = database.connection().await;
    let first = MySqlStore::migrations(&MySqlOptions::default()).unwrap().swap_remove(0);
    sqlx::raw_sql(sqlx::AssertSqlSafe(first)).execute(&mut connection).await.unwrap();
    assert_eq!(procedures(&mut connection).await, 0);
    let store = database.store().await;
    insert(&store, &session(&store, "alice").await).await;
    assert!(procedures(&mut connection).await > 0);
}

/// A node makes procedures again that are older than its own, and leaves newer ones alone.
#[tokio::test]
async fn procedures_are_made_again_when_they_are_older() {
    let database = Database::create().await;
    let store = database.store().await;
    let known = store.report().await.unwrap();
    assert_eq!(known.problems, [""; 0]);
    let mut connection = database.connection().await;
    let older = "UPDATE session_kit_state SET procedures = 0";
    sqlx::raw_sql(older).execute(&mut connection).await.unwrap();
    assert!(store.report().await.unwrap().problems[0].contains("procedures"));
    // What another node calls in this moment is not there for an instant.
    let signing_in = async {
        for _ in 0..20 {
            insert(&store, &session(&store, "alice").await).await;
        }
    };
    tokio::join!(signing_in, database.store());
    assert_eq!(store.report().await.unwrap().problems, known.problems);
    let newer = "UPDATE session_kit_state SET procedures = 1000";
    sqlx::raw_sql(newer).execute(&mut connection).await.unwrap();
    let _older = database.store().await;
    assert_eq!(procedures(&mut connection).await, 1_000);
}

/// `mysqldump` leaves routines out unless it is told otherwise: the tables note procedures that are not
/// there.
#[tokio::test]
async fn procedures_that_a_restore_left_out_are_made_again() {
    let database = Database::create().await;
    let store = database.store().await;
    let mut connection = database.connection().await;
    let drop = "DROP PROCEDURE session_kit_touch_1";
    sqlx::raw_sql(drop).execute(&mut connection).await.unwrap();
    let report = store.report().await.unwrap();
    assert_eq!(report.problems, ["the procedure session_kit_touch_1 is missing"]);
    let reopened = database.store().await;
    assert_eq!(reopened.report().await.unwrap().problems, [""; 0]);
    let session = session(&store, "alice").await;
    insert(&store, &session).await;
    assert_eq!(reopened.touch(&[touch(session.id, 1)]).await.unwrap(), []);
    let known = definition(&mut connection).await;
    for broken in ["UPDATE session_kit_state SET procedures_digest = 'another'", drop] {
        let other = "DROP PROCEDURE session_kit_ended_1; \
            CREATE PROCEDURE session_kit_ended_1(p_id BINARY(16)) SELECT 1";
        sqlx::raw_sql(other).execute(&mut connection).await.unwrap();
        assert_ne!(definition(&mut connection).await, known);
        sqlx::raw_sql(broken).execute(&mut connection).await.unwrap();
        database.store().await;
        assert_eq!(definition(&mut connection).await, known, "after {broken}");
    }
}

async fn definition(connection: &mut MySqlConnection) -> Vec<u8> {
    let body = "SELECT CAST(routine_definition AS BINARY) FROM information_schema.routines \
        WHERE routine_schema = DATABASE() AND routine_name = 'session_kit_ended_1'";
    sqlx::query_scalar(body).fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn a_report_names_an_index_that_is_missing() {
    let database = Database::create().await;
    let store = database.store().await;
    let before = now(&store).await;
    let drop = "DROP INDEX session_kit_sessions_by_time ON session_kit_sessions";
    sqlx::raw_sql(drop).execute(&mut database.connection().await).await.unwrap();
    let report = store.report().await.unwrap();
    assert_eq!(report.problems, ["the index session_kit_sessions_by_time is missing"]);
    let indexes = ("indexes".to_owned(), "10 of 11".to_owned());
    assert!(report.details.contains(&indexes), "{report:?}");
    assert_eq!((report.schema, report.log_from, report.pending), (Some(1), None, 0));
    let of_log = report.details.iter().find(|(name, _)| name == "sequencer").unwrap();
    assert!(of_log.1.starts_with("none: "), "{of_log:?}");
    insert(&store, &session(&store, "alice").await).await;
    assert!(store.report().await.unwrap().log_from.unwrap() >= before);
    assert!(before < report.clock && report.clock < now(&store).await);
}

async fn procedures(connection: &mut MySqlConnection) -> i64 {
    let version = "SELECT procedures FROM session_kit_state";
    sqlx::query_scalar(version).fetch_one(connection).await.unwrap()
}
