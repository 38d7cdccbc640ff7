//! Asks the planner of a real server: no statement that a request or a worker can reach reads a
//! whole table of sessions or of the log.

use session_core::checker::Timeouts;
use session_core::store::{PageCursor, PageQuery, Selection, TenantFilter};
use session_core::{ClientId, DeviceKind, SessionId, Timestamp, UserId, UserKey};
use sqlx::mysql::{MySql, MySqlArguments, MySqlConnectOptions, MySqlConnection, MySqlPool};
use sqlx::{Arguments, AssertSqlSafe, ConnectOptions, Execute, QueryBuilder, Row};

use super::{MySqlOptions, MySqlStore, change, log, read};
use crate::filter;
use crate::names::Names;

/// A database with enough in it that reading everything would cost.
async fn filled() -> (MySqlConnection, Names) {
    let url = std::env::var("SESSION_KIT_MYSQL_URL")
        .expect("SESSION_KIT_MYSQL_URL names a server; `cargo xtask test` starts one");
    let database = format!("plans_{}", std::process::id());
    let server: MySqlConnectOptions = url.parse().unwrap();
    let mut connection = server.connect().await.unwrap();
    let create = AssertSqlSafe(format!("CREATE DATABASE {database}"));
    sqlx::query(create).execute(&mut connection).await.unwrap();
    let server = server.database(&database);
    let pool = MySqlPool::connect_with(server.clone()).await.unwrap();
    MySqlStore::with_pool(pool, &MySqlOptions::default()).await.unwrap();
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
            CONCAT('user ', n % 1000), 'Web', NULL, NULL, '', n, n, n, n + 1000000, NULL, '', '', \
            NULL, NULL FROM {numbers}; \
        INSERT INTO {{t}}users SELECT '', CONCAT('user ', n), n FROM {numbers} WHERE n < 1000; \
        INSERT INTO {{t}}log SELECT n + 1, n, 'created', n, 'system', '', NULL, NULL \
            FROM {numbers}; \
        UPDATE {{t}}counter SET last = 10000; \
        ANALYZE TABLE {{t}}sessions, {{t}}users, {{t}}log;"
    );
    sqlx::raw_sql(AssertSqlSafe(names.fill(&fill))).execute(&mut connection).await.unwrap();
    (connection, names)
}

/// Table and access of each step: `ALL` reads all rows, `index` all of an index.
async fn plan(
    connection: &mut MySqlConnection,
    statement: &str,
    arguments: MySqlArguments,
) -> Vec<(String, String)> {
    let explain = AssertSqlSafe(format!("EXPLAIN FORMAT=TRADITIONAL {statement}"));
    let steps = sqlx::query_with(explain, arguments).fetch_all(connection).await.unwrap();
    let text = |row: &sqlx::mysql::MySqlRow, column| {
        row.try_get::<Option<String>, _>(column).unwrap().unwrap_or_default()
    };
    steps.iter().map(|row| (text(row, "table"), text(row, "type"))).collect()
}

fn pages() -> Vec<PageQuery> {
    let now = Timestamp::from_micros(5_000);
    let first = PageQuery::live(TenantFilter::Any, Timeouts::none(), now);
    let after = Some(PageCursor { signed_in: now, id: SessionId::from_bytes([1; 16]) });
    let mut queries = Vec::new();
    for query in [first.clone(), PageQuery { after, ..first }] {
        for tenant in [TenantFilter::Any, TenantFilter::Is(None)] {
            let query = PageQuery { tenant, ..query.clone() };
            queries.push(PageQuery { user: UserId::new("user 7").ok(), ..query.clone() });
            queries.push(PageQuery { active_since: Some(now), ..query.clone() });
            queries.push(PageQuery { device_kind: Some(DeviceKind::Web), ..query.clone() });
            queries.push(PageQuery { client_id: ClientId::new("shop").ok(), ..query });
        }
    }
    queries
}

fn selections() -> Vec<Selection> {
    let owner = UserKey::new(UserId::new("user 7").unwrap());
    let id = SessionId::from_bytes([1; 16]);
    vec![
        Selection::session(id, TenantFilter::Any),
        Selection::user(owner.clone()),
        Selection::user(owner).on(DeviceKind::Web).except(id),
    ]
}

#[tokio::test]
async fn every_statement_uses_an_index() {
    let (mut connection, names) = filled().await;
    let id = [1_u8; 16].to_vec();
    let with = |values: &[&str]| {
        let mut arguments = MySqlArguments::default();
        values.iter().for_each(|value| arguments.add(*value).unwrap());
        arguments
    };
    let mut by_id = MySqlArguments::default();
    by_id.add(id).unwrap();
    let of_user = || with(&["", "user 7"]);
    let fixed = [
        (read::POLICY, of_user()),
        (change::CHOOSE_OLD, with(&["10", "500", "10", "10", "500", "500"])),
        (log::SINCE, with(&["9990", "100"])),
        (log::LAST, with(&[])),
        (log::TRIM, with(&["10", "100"])),
    ];
    let fixed = fixed.map(|(statement, arguments)| (names.fill(statement), arguments));
    let mut statements: Vec<_> = fixed.into_iter().collect();
    let mut add = |mut builder: QueryBuilder<MySql>| {
        let text = builder.sql().as_str().to_owned();
        statements.push((text, builder.build().take_arguments().unwrap().unwrap()));
    };
    for query in pages() {
        add(filter::page(read::SESSION, &names.fill("{t}sessions"), &query));
    }
    for selection in selections() {
        let mut select = QueryBuilder::new(names.fill(change::CHOOSE));
        filter::selection(&mut select, &selection);
        select.push(" LIMIT ").push_bind(500_i64);
        add(select);
    }
    for (statement, arguments) in statements {
        let plan = plan(&mut connection, &statement, arguments).await;
        // An index may be walked in its order as far as a page goes. A table of the statement's
        // own, in angle brackets, holds what its parts found; the counter is one row.
        let whole = |(table, access): &(String, String)| {
            access == "ALL" && !table.starts_with('<') && !table.ends_with("counter")
        };
        assert!(!plan.iter().any(whole), "{statement}\n{plan:?}");
    }
    let all = plan(&mut connection, &names.fill("SELECT * FROM {t}sessions"), with(&[])).await;
    assert_eq!(all[0].1, "ALL", "the planner is asked the right question");
}
