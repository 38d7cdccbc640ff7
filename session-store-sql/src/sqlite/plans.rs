//! Asks the planner: no statement that a request or a worker can reach reads a whole table.

use std::time::Duration;

use session_core::store::{
    Continuation, EndMany, HistoryQuery, PageCursor, PageQuery, Selection, TenantFilter,
};
use session_core::{Actor, ClientId, DeviceKind, EndCause, SessionId, Timestamp, UserId, UserKey};
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection, QueryBuilder, Row, Sqlite};

use super::{commit, end, fleet, history, log, migrate, place, read, touch};
use crate::filter::CHOSEN;
use crate::rows;
use crate::walk::Walk;

/// A step of a plan: its number, that of the step it belongs to, and what it does.
type Step = (i64, i64, String);

async fn plan(connection: &mut SqliteConnection, statement: &str) -> Vec<Step> {
    let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
    let plan = sqlx::query(explain).fetch_all(connection).await.unwrap();
    plan.iter().map(|row| (row.get("id"), row.get("parent"), row.get("detail"))).collect()
}

/// The steps that read a whole table.
fn whole(plan: &[Step]) -> Vec<&str> {
    let of_a_table = |detail: &&str| {
        let name = detail.strip_prefix("SCAN ").and_then(|rest| rest.split(' ').next());
        name.is_some_and(|name| ["s", "h", "p"].contains(&name) || name.starts_with("session_kit_"))
    };
    let details = plan.iter().map(|(_, _, detail)| detail.as_str());
    details.filter(of_a_table).filter(|detail| !detail.contains("USING INDEX")).collect()
}

fn queries() -> Vec<PageQuery> {
    let now = Timestamp::from_micros(1_780_000_000_000_000);
    let (user, north) = (UserId::new("alice").unwrap(), "north".parse().ok());
    let first = PageQuery::live(TenantFilter::Any, now);
    let next = PageQuery {
        after: Some(PageCursor { at: now, id: SessionId::from_bytes([1; 16]) }),
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
        for tenant in [TenantFilter::Any, TenantFilter::Is(None)] {
            queries.push(PageQuery { user: Some(user.clone()), tenant, ..query.clone() });
        }
    }
    queries
}

fn selections() -> Vec<EndMany> {
    let id = SessionId::from_bytes([1; 16]);
    let after = Continuation::at(PageCursor { at: Timestamp::EPOCH, id });
    let north = || TenantFilter::Is("north".parse().ok());
    let selections = [
        Selection::session(id, TenantFilter::Any),
        Selection::user(alice()),
        Selection::user(alice()).on(DeviceKind::Web).except(id),
        Selection { user: Some(alice().user), ..Selection::within(TenantFilter::Any) },
        Selection::within(TenantFilter::Any),
        Selection::within(TenantFilter::Any).signed_in_before(Timestamp::EPOCH),
        Selection::within(north()),
        Selection::within(north()).signed_in_before(Timestamp::EPOCH),
        Selection::within(north()).of_client("shop".parse().unwrap()),
    ];
    let with_continuation = |selection: Selection| {
        let first = end(selection);
        [EndMany { after: Some(after.clone()), ..first.clone() }, first]
    };
    selections.into_iter().flat_map(with_continuation).collect()
}

fn alice() -> UserKey {
    UserKey::new(UserId::new("alice").unwrap())
}

/// The ended sessions of one user name in all tenants.
fn of_name() -> HistoryQuery {
    HistoryQuery { user: Some(alice().user), ..HistoryQuery::within(TenantFilter::Any) }
}

fn end(selection: Selection) -> EndMany {
    let (cause, at, by) = (EndCause::Revoked, Timestamp::EPOCH, Actor::System);
    EndMany { selection, after: None, cause, at, by, from: None }
}

fn histories() -> Vec<HistoryQuery> {
    let after = Some(PageCursor { at: Timestamp::EPOCH, id: SessionId::from_bytes([1; 16]) });
    let north = TenantFilter::Is("north".parse().ok());
    let mut queries = Vec::new();
    for first in [
        HistoryQuery::user(alice()),
        of_name(),
        HistoryQuery::within(TenantFilter::Any),
        HistoryQuery::within(north),
    ] {
        queries.push(first.clone());
        queries.push(HistoryQuery { after, ..first.clone() });
        let (cause, since) = (Some(EndCause::Evicted), Some(Timestamp::EPOCH));
        let client_id = ClientId::new("shop").ok();
        queries.push(HistoryQuery { after, cause, since, client_id, ..first });
    }
    queries
}

fn chunks() -> Vec<String> {
    let (queries, selections, histories) = (queries(), selections(), histories());
    let of_sessions = queries.iter().map(page).chain(selections.iter().map(choice));
    of_sessions.chain(histories.iter().map(history)).collect()
}

fn page(query: &PageQuery) -> String {
    text(&Walk::page(query).statement(rows::SESSION, read::SESSIONS))
}

fn choice(end: &EndMany) -> String {
    text(&Walk::choose(end, 500).unwrap().statement(CHOSEN, read::SESSIONS))
}

fn history(query: &HistoryQuery) -> String {
    text(&Walk::history(query).statement(rows::ENDED_SESSION, history::HISTORY))
}

fn text(statement: &QueryBuilder<Sqlite>) -> String {
    statement.sql().as_str().to_owned()
}

async fn with_schema() -> SqliteConnection {
    let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    for script in migrate::MIGRATIONS {
        sqlx::raw_sql(script).execute(&mut connection).await.unwrap();
    }
    connection
}

#[tokio::test]
async fn every_statement_uses_an_index() {
    let mut connection = with_schema().await;
    let statements = [
        read::VERSION,
        read::STANDINGS,
        read::LOAD,
        touch::ADDRESSES,
        touch::TOUCH,
        commit::IS_POSSIBLE,
        commit::TELL,
        commit::SET_VERSION,
        commit::UPDATE,
        commit::REMEMBER,
        commit::END,
        commit::FORGET_USER,
        end::DUE,
        end::REMEMBER,
        end::END,
        end::PUT_OFF,
        end::TELL,
        end::SET_VERSIONS,
        end::FORGET_USERS,
        history::ENDED,
        history::IS_ANY_OLD,
        history::FORGET_OLD,
        history::FORGET_USER,
        log::TRIM,
        log::SINCE,
        log::LAST,
        place::PLACES,
        place::POLICY,
        place::BLOCK,
        place::FORGET_EMPTY,
        fleet::KEY,
        fleet::DROP_LEASES,
    ];
    for statement in statements {
        let plan = plan(&mut connection, statement).await;
        assert!(whole(&plan).is_empty(), "{statement}\n{plan:#?}");
        let sorts = plan.iter().any(|step| step.2.contains("TEMP B-TREE FOR ORDER"));
        let of_json = [commit::TELL, end::TELL].contains(&statement);
        assert!(!sorts || of_json, "{statement}\n{plan:#?}");
    }
    let all = plan(&mut connection, "SELECT * FROM session_kit_sessions").await;
    assert_eq!(whole(&all).len(), 1, "the planner is asked the right question");
}

/// A chunk is read once, along an index and up to its limit; only what it holds is looked through
/// and sorted.
#[tokio::test]
async fn a_chunk_stops_at_its_limit() {
    let mut connection = with_schema().await;
    for statement in chunks() {
        let plan = plan(&mut connection, &statement).await;
        let chunks: Vec<_> = plan.iter().filter(|step| step.2 == "MATERIALIZE chunk").collect();
        assert_eq!(chunks.len(), 1, "{statement}\n{plan:#?}");
        assert!(whole(&plan).is_empty(), "{statement}\n{plan:#?}");
        let sorts = |step: &&Step| step.1 == chunks[0].0 && step.2.contains("TEMP B-TREE");
        // At most 500 ids are sorted, whatever is selected among them.
        let by_ids = statement.contains("id IN (NULL");
        assert!(by_ids || !plan.iter().any(|step| sorts(&step)), "{statement}\n{plan:#?}");
        let reads = |step: &Step| {
            step.1 == chunks[0].0
                && step.2.contains("session_kit_")
                && (!by_ids || step.2.contains("(id=?)"))
        };
        assert!(plan.iter().any(reads), "{statement}\n{plan:#?}");
    }
}

/// The equal parts of a filter and the beginning of a chunk are found by one index.
#[tokio::test]
async fn a_chunk_begins_at_its_position() {
    let mut connection = with_schema().await;
    let after = Some(PageCursor { at: Timestamp::EPOCH, id: SessionId::from_bytes([1; 16]) });
    let north = || TenantFilter::Is("north".parse().ok());
    let shop = ClientId::new("shop").unwrap();
    let of_shop = PageQuery {
        client_id: Some(shop.clone()),
        after,
        ..PageQuery::live(north(), Timestamp::EPOCH)
    };
    let early = Selection::within(north()).signed_in_before(Timestamp::EPOCH);
    let of_alice = Selection { user: Some(alice().user), ..Selection::within(TenantFilter::Any) };
    let of_alice = of_alice.signed_in_before(Timestamp::EPOCH);
    let recent =
        HistoryQuery { since: after.map(|after| after.at), ..HistoryQuery::within(north()) };
    let cases = [
        (page(&of_shop), "sessions_by_tenant_client (tenant=? AND client_id=? AND signed_in<?)"),
        (choice(&end(early)), "sessions_by_tenant (tenant=? AND signed_in<?)"),
        (choice(&end(of_alice)), "sessions_by_name (user_id=? AND signed_in<?)"),
        (history(&recent), "history_by_tenant (tenant=? AND ended>?)"),
        (
            history(&HistoryQuery { after, ..HistoryQuery::user(alice()) }),
            "history_by_user (user_id=? AND tenant=? AND ended<?)",
        ),
        (history(&HistoryQuery { after, ..of_name() }), "history_by_name (user_id=? AND ended<?)"),
    ];
    for (statement, index) in cases {
        let plan = plan(&mut connection, &statement).await;
        assert!(plan.iter().any(|step| step.2.ends_with(index)), "{statement}\n{plan:#?}");
    }
}

/// A trim looks at no more entries than it may trim.
#[tokio::test]
async fn a_trim_reads_the_beginning_of_the_log() {
    let mut connection = with_schema().await;
    let plan = plan(&mut connection, log::FIRST_KEPT).await;
    assert!(log::FIRST_KEPT.contains("ORDER BY seq LIMIT"), "bounded");
    assert!(plan.iter().all(|step| !step.2.contains("TEMP B-TREE")), "{plan:#?}");
}
