//! Asks the planner of a real server: no statement that a request or a worker can reach reads a
//! whole table of sessions or of the log.

use std::collections::HashSet;

use session_core::store::{
    Change, Commit, EndMany, HistoryQuery, Outcome, PageCursor, PageQuery, Selection, TenantFilter,
};
use session_core::{
    Actor, ClientId, DeviceKind, EndCause, SessionId, Store, Timestamp, UserId, UserKey,
};
use sqlx::mysql::{
    MySql, MySqlArguments, MySqlConnectOptions, MySqlConnection, MySqlPool, MySqlPoolOptions,
};
use sqlx::{Arguments, AssertSqlSafe, ConnectOptions, Execute, QueryBuilder, Row};

use super::{MySqlOptions, MySqlStore, chunk, history, policy, read, report, sweep};
use crate::filter::CHOSEN;
use crate::names::Names;
use crate::walk::Walk;

/// A database with enough in it that reading everything would cost.
async fn filled(name: &str) -> (MySqlConnection, Names, MySqlConnectOptions) {
    let url = std::env::var("SESSION_KIT_MYSQL_URL")
        .expect("SESSION_KIT_MYSQL_URL names a server; `cargo xtask test` starts one");
    let database = format!("plans_{name}_{}", std::process::id());
    let server: MySqlConnectOptions = url.parse().unwrap();
    let mut connection = server.connect().await.unwrap();
    let create = AssertSqlSafe(format!("CREATE DATABASE {database}"));
    sqlx::query(create).execute(&mut connection).await.unwrap();
    let server = server.database(&database);
    let pool = MySqlPool::connect_with(server.clone()).await.unwrap();
    MySqlStore::with_pool(pool, MySqlOptions::default()).await.unwrap();
    let names = Names::new(None, &MySqlOptions::default().prefix);
    let mut connection = server.connect().await.unwrap();
    let digits = "(SELECT 0 AS d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 \
        UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9)";
    let numbers = format!(
        "(SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d AS n \
        FROM {digits} AS a, {digits} AS b, {digits} AS c, {digits} AS e) AS numbers"
    );
    let fill = format!(
        "INSERT INTO {{t}}sessions SELECT UNHEX(LEFT(SHA2(n, 256), 32)), '', \
            CONCAT('user ', n % 1000), 'Web', NULL, '', n, n, n, 0, '{{}}', n FROM {numbers}; \
        INSERT INTO {{t}}history SELECT UNHEX(LEFT(SHA2(-1 - n, 256), 32)), '', \
            CONCAT('user ', n % 1000), 'Web', NULL, '', n, n, n, 0, '{{}}', n, 'evicted', 'system', \
            NULL FROM {numbers}; \
        INSERT INTO {{t}}sessions SELECT UNHEX(LEFT(SHA2(20000 + n, 256), 32)), \
            CONCAT('tenant ', n % 1000), 'root', 'Web', NULL, '', n, n, n, 0, '{{}}', n \
            FROM {numbers} WHERE n < 5000; \
        INSERT INTO {{t}}users SELECT '', CONCAT('user ', n), n FROM {numbers} WHERE n < 1000; \
        INSERT INTO {{t}}log SELECT n + 1, n, 'created', n, 'system', '', NULL, NULL \
            FROM {numbers}; \
        ANALYZE TABLE {{t}}sessions, {{t}}history, {{t}}users, {{t}}log;"
    );
    sqlx::raw_sql(AssertSqlSafe(names.fill(&fill))).execute(&mut connection).await.unwrap();
    (connection, names, server)
}

/// Table, access, key and remarks of each step: `ALL` reads all rows, `index` all of an index.
async fn plan(
    connection: &mut MySqlConnection,
    statement: &str,
    arguments: MySqlArguments,
) -> Vec<[String; 4]> {
    let explain = AssertSqlSafe(format!("EXPLAIN FORMAT=TRADITIONAL {statement}"));
    let steps = sqlx::query_with(explain, arguments).fetch_all(connection).await.unwrap();
    let text = |row: &sqlx::mysql::MySqlRow, column| {
        row.try_get::<Option<String>, _>(column).unwrap().unwrap_or_default()
    };
    let columns = ["table", "type", "key", "Extra"];
    steps.iter().map(|row| columns.map(|column| text(row, column))).collect()
}

fn pages() -> Vec<PageQuery> {
    let now = Timestamp::from_micros(5_000);
    let first = PageQuery::live(TenantFilter::Any, now);
    let after = Some(PageCursor { at: now, id: SessionId::from_bytes([1; 16]) });
    let mut queries = Vec::new();
    for query in [first.clone(), PageQuery { after, ..first }] {
        for tenant in [TenantFilter::Any, TenantFilter::Is(None)] {
            let query = PageQuery { tenant, ..query.clone() };
            queries.push(PageQuery { user: UserId::new("user 7").ok(), ..query.clone() });
            queries.push(PageQuery { user: root(), ..query.clone() });
            queries.push(PageQuery { active_since: Some(now), ..query.clone() });
            queries.push(PageQuery { device_kind: Some(DeviceKind::Web), ..query.clone() });
            queries.push(PageQuery { client_id: ClientId::new("shop").ok(), ..query });
        }
    }
    queries
}

fn owner() -> UserKey {
    UserKey::new(UserId::new("user 7").unwrap())
}

/// A name with sessions in many tenants.
fn root() -> Option<UserId> {
    UserId::new("root").ok()
}

fn of_root() -> Selection {
    Selection { user: root(), ..Selection::within(TenantFilter::Any) }
}

fn selections() -> Vec<Selection> {
    let id = SessionId::from_bytes([1; 16]);
    let before = Timestamp::from_micros(5_000);
    vec![
        Selection::session(id, TenantFilter::Any),
        Selection::user(owner()),
        Selection::user(owner()).on(DeviceKind::Web).except(id),
        of_root(),
        Selection::within(TenantFilter::Any).signed_in_before(before),
        Selection::within(TenantFilter::Is(None)).signed_in_before(before),
        Selection::within(TenantFilter::Any).of_client("shop".parse().unwrap()),
    ]
}

fn histories() -> Vec<HistoryQuery> {
    let at = Timestamp::from_micros(5_000);
    let after = Some(PageCursor { at, id: SessionId::from_bytes([1; 16]) });
    let any = HistoryQuery::within(TenantFilter::Any);
    let of_user = HistoryQuery { user: Some(owner().user), ..any.clone() };
    let within = HistoryQuery::within(TenantFilter::Is(None));
    let mut queries = Vec::new();
    for first in [HistoryQuery::user(owner()), of_user, within, any] {
        let (cause, since) = (Some(EndCause::Evicted), Some(Timestamp::from_micros(9)));
        let client_id = ClientId::new("shop").ok();
        queries.push(HistoryQuery { after, ..first.clone() });
        queries.push(HistoryQuery { after, cause, since, client_id, ..first.clone() });
        queries.push(first);
    }
    queries
}

#[tokio::test]
async fn every_statement_uses_an_index() {
    let (mut connection, names, _) = filled("indexes").await;
    let with = |values: &[&str]| {
        let mut arguments = MySqlArguments::default();
        values.iter().for_each(|value| arguments.add(*value).unwrap());
        arguments
    };
    let of_user = || with(&["", "user 7"]);
    let fixed = [
        (policy::POLICY, of_user()),
        (policy::BLOCK, of_user()),
        (sweep::DUE, with(&["7", "90", "7", "x", "500"])),
        (report::STATE, with(&[])),
    ];
    let fixed = fixed.map(|(statement, arguments)| (names.fill(statement), arguments));
    let mut statements: Vec<_> = fixed.into_iter().collect();
    let mut add = |mut builder: QueryBuilder<MySql>| {
        let text = builder.sql().as_str().to_owned();
        statements.push((text, builder.build().take_arguments().unwrap().unwrap()));
    };
    for query in pages() {
        add(chunk::statement(&names, &Walk::page(&query), read::SESSION));
    }
    for selection in selections() {
        let (cause, at, by) = (EndCause::Revoked, Timestamp::EPOCH, Actor::System);
        let end = EndMany { selection, after: None, cause, at, by, from: None };
        add(chunk::statement(&names, &Walk::choose(&end, 500).unwrap(), CHOSEN));
    }
    for query in histories() {
        add(chunk::statement(&names, &Walk::history(&query), history::ENDED_SESSION));
    }
    let mut keys = HashSet::new();
    for (statement, arguments) in statements {
        let plan = plan(&mut connection, &statement, arguments).await;
        // An index may be walked in its order as far as a chunk goes. A table of the statement's
        // own, in angle brackets, holds what its parts found.
        let whole = |[table, access, ..]: &[String; 4]| access == "ALL" && !table.starts_with('<');
        assert!(!plan.iter().any(whole), "{statement}\n{plan:?}");
        let sorts =
            |[_, _, key, extra]: &[String; 4]| key.contains("_by_") && extra.contains("filesort");
        assert!(!plan.iter().any(sorts), "{statement}\n{plan:?}");
        keys.extend(plan.into_iter().map(|[_, _, key, _]| key));
    }
    for index in ["session_kit_sessions_by_name", "session_kit_history_by_name"] {
        assert!(keys.contains(index), "{keys:?}");
    }
    let all = plan(&mut connection, &names.fill("SELECT * FROM {t}sessions"), with(&[])).await;
    assert_eq!(all[0][1], "ALL", "the planner is asked the right question");
}

/// The index of the user is forced on them: with statistics of a table that was small a moment ago, the
/// planner takes that of the tenant for as good.
#[tokio::test]
async fn no_procedure_reads_a_tenant_for_a_user() {
    let (_, _, server) = filled("procedures").await;
    let pool = MySqlPoolOptions::new().max_connections(1).connect_with(server).await.unwrap();
    let store = MySqlStore::with_pool(pool.clone(), MySqlOptions::default()).await.unwrap();
    let mut before = rows_read(&pool).await;
    let mut reads = async |what, of: u64| {
        let now = rows_read(&pool).await;
        assert!(now - before < of, "{what} reads {} rows", now - before);
        before = now;
    };
    let state = store.user(&owner()).await.unwrap();
    assert_eq!(state.sessions.len(), 10);
    reads("user", 100).await;
    let end = |n: usize| Change::End(state.sessions[n].id, EndCause::Revoked);
    let (changes, at, by) = (vec![end(0), end(1)], Timestamp::from_micros(1), Actor::System);
    let (expected, from) = (state.version, None);
    let commit = Commit { owner: owner(), expected, changes, at, by: by.clone(), from };
    assert_eq!(store.commit(&commit).await.unwrap(), Outcome::Done);
    reads("commit", 500).await;
    let ids = state.sessions[2..].iter().map(|standing| standing.id).collect();
    let selection = Selection { ids: Some(ids), ..Selection::within(TenantFilter::Any) };
    let end = EndMany { selection, after: None, cause: EndCause::Revoked, at, by, from: None };
    assert_eq!(store.end_many(&end, 500).await.unwrap().ended.len(), 8);
    reads("end_many", 1_000).await;
}

/// However many sessions a name has in all tenants, a page of it reads one chunk.
#[tokio::test]
async fn a_page_of_a_name_reads_one_chunk() {
    let (_, names, server) = filled("names").await;
    let pool = MySqlPoolOptions::new().max_connections(1).connect_with(server).await.unwrap();
    let store = MySqlStore::with_pool(pool.clone(), MySqlOptions::default()).await.unwrap();
    let first = PageQuery { user: root(), limit: 50, ..pages().swap_remove(0) };
    let first = PageQuery { now: Timestamp::from_micros(0), ..first };
    let next = store.page(&first).await.unwrap().next;
    assert!(next.is_some());
    for query in [PageQuery { after: next, ..first.clone() }, first] {
        let before = rows_read(&pool).await;
        assert!(store.page(&query).await.unwrap().next.is_some());
        let read = rows_read(&pool).await - before;
        assert!(read < 1_500, "{read} rows");
    }
    let (cause, at, by) = (EndCause::Revoked, Timestamp::EPOCH, Actor::System);
    let end = EndMany { selection: of_root(), after: None, cause, at, by, from: None };
    let mut chunk = chunk::statement(&names, &Walk::choose(&end, 100).unwrap(), CHOSEN);
    let before = rows_read(&pool).await;
    chunk.build().fetch_all(&pool).await.unwrap();
    let read = rows_read(&pool).await - before;
    assert!(read < 1_500, "{read} rows to choose");
}

/// By this connection, row after row of an index or a table.
async fn rows_read(pool: &MySqlPool) -> u64 {
    let counters = "SHOW SESSION STATUS WHERE Variable_name IN \
        ('Handler_read_next', 'Handler_read_prev', 'Handler_read_rnd_next')";
    let rows = sqlx::query(counters).fetch_all(pool).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>("Value").parse::<u64>().unwrap()).sum()
}
