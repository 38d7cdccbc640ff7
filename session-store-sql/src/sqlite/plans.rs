//! Asks the planner: no statement that a request or a worker can reach reads a whole table.

use std::time::Duration;

use session_core::checker::Timeouts;
use session_core::store::{PageCursor, PageQuery, Selection, TenantFilter};
use session_core::{ClientId, DeviceKind, SessionId, Timestamp, UserId, UserKey};
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection, Row, Sqlite};

use super::{log, migrate, policy, read, write};
use crate::{filter, rows};

/// The steps of a statement's plan that read or sort everything.
async fn expensive(connection: &mut SqliteConnection, statement: &str) -> Vec<String> {
    let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
    let plan = sqlx::query(explain).fetch_all(connection).await.unwrap();
    let steps = plan.iter().map(|row| row.get::<String, _>("detail"));
    let whole = |step: &String| step.starts_with("SCAN s") && !step.contains("USING INDEX");
    steps.filter(|step| whole(step) || step.contains("TEMP B-TREE FOR ORDER")).collect()
}

fn pages() -> Vec<String> {
    let now = Timestamp::from_micros(1_780_000_000_000_000);
    let (user, north) = (UserId::new("alice").unwrap(), "north".parse().ok());
    let first = PageQuery::live(TenantFilter::Any, Timeouts::default(), now);
    let next = PageQuery {
        after: Some(PageCursor { signed_in: now, id: SessionId::from_bytes([1; 16]) }),
        active_since: Some(now.minus(Duration::from_secs(60))),
        ..first.clone()
    };
    let mut queries = Vec::new();
    for query in [first, next] {
        for tenant in [TenantFilter::Any, TenantFilter::Is(north.clone())] {
            let query = PageQuery { tenant, ..query.clone() };
            queries.push(PageQuery { device_kind: Some(DeviceKind::Web), ..query.clone() });
            queries.push(PageQuery { client_id: ClientId::new("shop").ok(), ..query.clone() });
            queries.push(query);
        }
        let tenant = TenantFilter::Is(None);
        queries.push(PageQuery { user: Some(user.clone()), tenant, ..query });
    }
    queries
        .iter()
        .map(|query| {
            filter::page::<Sqlite>(rows::SESSION, read::SESSIONS, query).sql().as_str().to_owned()
        })
        .collect()
}

fn selections() -> Vec<String> {
    let owner = UserKey::new(UserId::new("alice").unwrap());
    let id = SessionId::from_bytes([1; 16]);
    let selections = [
        Selection::session(id, TenantFilter::Any),
        Selection::user(owner.clone()),
        Selection::user(owner).on(DeviceKind::Web).except(id),
        Selection::within(TenantFilter::Is("north".parse().ok())),
    ];
    let statement = |selection| write::delete_selected(selection, 500).sql().as_str().to_owned();
    selections.iter().map(statement).collect()
}

#[tokio::test]
async fn every_statement_uses_an_index() {
    let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    for script in migrate::MIGRATIONS {
        sqlx::raw_sql(script).execute(&mut connection).await.unwrap();
    }
    let fixed = [
        read::VERSION,
        read::STANDINGS,
        read::LOAD,
        write::TOUCH,
        write::DELETE,
        write::REPLACE_TOKEN,
        write::SET_VERSION,
        write::FORGET_USER,
        write::SWEEP_UNUSED,
        write::SWEEP_EXPIRED,
        write::TRIM,
        log::SINCE,
        log::LAST,
        policy::LAYERS,
        policy::GET,
    ];
    let statements = fixed.map(str::to_owned).into_iter().chain(pages()).chain(selections());
    for statement in statements {
        let expensive = expensive(&mut connection, &statement).await;
        assert!(expensive.is_empty(), "{statement}\n{expensive:?}");
    }
    let whole = expensive(&mut connection, "SELECT * FROM session_kit_sessions").await;
    assert_eq!(whole.len(), 1, "the planner is asked the right question");
}
