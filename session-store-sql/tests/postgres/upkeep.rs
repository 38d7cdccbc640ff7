//! What an operator meets: functions that are applied again, and the report.

use std::time::Duration;

use session_conformance::sample::revoke;
use session_core::Store;
use session_core::store::StoreReport;
use session_store_sql::PostgresOptions;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgPool;

use session_conformance::Namespace;

use crate::{Schema, leases, pool, sign_in};

async fn run(pool: &PgPool, statement: String) {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(pool).await.unwrap();
}

/// A function in the place of one of the store's.
fn replaced(Schema(schema): &Schema) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION {schema}.session_kit_trim_log(p_older_than bigint, p_limit integer) \
         RETURNS integer LANGUAGE sql AS 'SELECT 77';"
    )
}

async fn trims(store: &impl Store) -> u32 {
    store.trim_log(Duration::ZERO, 1).await.unwrap()
}

/// An older node that starts beside newer ones must not take their functions from them.
#[tokio::test]
async fn functions_are_applied_again_unless_newer_ones_are_in_force() {
    let (schema, pool) = (Schema::create().await, pool(1).await);
    let store = schema.store().await;
    assert_eq!(trims(&store).await, 0);
    run(&pool, replaced(&schema)).await;
    let note = |what: &str| format!("UPDATE {}.session_kit_meta SET {what}", schema.0);
    assert_eq!(trims(&schema.store().await).await, 77, "up to date as far as the table says");
    run(&pool, note("functions_version = 1000")).await;
    assert_eq!(trims(&schema.store().await).await, 77, "newer ones");
    run(&pool, note("functions_version = 0")).await;
    assert_eq!(trims(&schema.store().await).await, 0, "older ones");
    run(&pool, replaced(&schema)).await;
    run(&pool, note("functions_digest = 'another'")).await;
    assert_eq!(trims(&schema.store().await).await, 0, "others of the same version");
}

#[tokio::test]
async fn the_report_tells_of_the_schema_and_of_indexes() {
    let (schema, pool) = (Schema::create().await, pool(1).await);
    let store = schema.store().await;
    let report = store.report().await.unwrap();
    assert!(report.server.starts_with("PostgreSQL 1"), "{report:?}");
    assert_eq!((report.schema, report.log_from, report.problems.len()), (Some(1), None, 0));
    let session = sign_in(&store).await;
    let report = store.report().await.unwrap();
    assert!(report.log_from.is_some() && report.clock >= session.signed_in, "{report:?}");
    let names = |report: &StoreReport| {
        report.details.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    assert!(names(&report).contains(&"push".to_owned()), "{report:?}");
    let of_log = report.details.iter().find(|(name, _)| name == "sequencer").unwrap();
    assert!(of_log.1.starts_with("none: "), "{of_log:?}");
    assert!(!names(&report).contains(&"history from".to_owned()), "{report:?}");
    let indexes = |there: &str| ("indexes".to_owned(), there.to_owned());
    assert!(report.details.contains(&indexes("13 of 13")), "{report:?}");
    assert_eq!(revoke(&store, session.id).await, 1);
    let report = store.report().await.unwrap();
    assert!(names(&report).contains(&"history from".to_owned()), "{report:?}");
    let break_indexes = format!(
        "DROP INDEX {0}.session_kit_log_by_xid, {0}.session_kit_history_by_time; UPDATE pg_index SET indisvalid = false \
         WHERE indexrelid = '{0}.session_kit_sessions_by_time'::regclass; \
         UPDATE {0}.session_kit_meta SET functions_version = 0;",
        schema.0
    );
    run(&pool, break_indexes).await;
    let report = store.report().await.unwrap();
    let [history, missing, invalid, functions] = &report.problems[..] else { panic!("{report:?}") };
    assert!(report.details.contains(&indexes("10 of 13")), "{report:?}");
    assert!(history.contains("session_kit_history_by_time is missing"), "{history}");
    assert!(missing.contains("session_kit_log_by_xid is missing"), "{missing}");
    assert!(invalid.contains("session_kit_sessions_by_time is invalid"), "{invalid}");
    assert!(functions.contains("version 0"), "{functions}");
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_taken_in_parallel_never_fail() {
    let schema = Schema::create().await;
    leases::taken_in_parallel([schema.connect().await, schema.connect().await]).await;
}

#[tokio::test]
async fn leases_that_ran_out_are_deleted_in_parts() {
    let (schema, pool) = (Schema::create().await, pool(1).await);
    let store = schema.store().await;
    let table = format!("{}.session_kit_leases", schema.0);
    let fill = format!(
        "INSERT INTO {table} (name, holder, until) SELECT 'ticket ' || n, 'issued', \
            now() - n * interval '1 second' FROM generate_series(1, 30000) AS n"
    );
    run(&pool, fill).await;
    let left = async || {
        let left = format!(
            "SELECT count(*), COALESCE(bool_or(name = 'ticket 30000'), false) FROM {table} \
             WHERE until <= now()"
        );
        sqlx::query_as(AssertSqlSafe(left)).fetch_one(&pool).await.unwrap()
    };
    leases::deleted_in_parts(&store, left).await;
}

/// A node that does not listen is told of in the report.
#[tokio::test]
async fn the_report_says_whether_pushes_are_heard() {
    let (schema, pool) = (Schema::create().await, pool(2).await);
    let options = PostgresOptions::default().with_schema(schema.0.clone()).with_push(false);
    let store = session_store_sql::PostgresStore::with_pool(pool, options).await.unwrap();
    let push = async |store: &dyn Store| {
        let details = store.report().await.unwrap().details;
        details.into_iter().find(|(name, _)| name == "push").unwrap().1
    };
    assert_eq!(push(&store).await, "off");
    let listening = schema.store().await;
    // The first hint comes once it listens.
    listening.changed().await;
    assert_eq!(push(&listening).await, "listening");
}
