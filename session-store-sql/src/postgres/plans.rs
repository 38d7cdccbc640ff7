//! Asks the planner of a real server: no statement that a request or a worker can reach reads a
//! whole table of sessions, of the history, of the log or of blocks.

use session_core::store::{EndMany, HistoryQuery, PageCursor, PageQuery, Selection, TenantFilter};
use session_core::{Actor, ClientId, DeviceKind, EndCause, SessionId, Timestamp, UserId};
use sqlx::postgres::{PgConnection, PgPool, Postgres};
use sqlx::{AssertSqlSafe, Connection, QueryBuilder};

use super::{PostgresOptions, PostgresStore, change, fleet, history, log, place, read, sweep};
use crate::filter::CHOSEN;
use crate::names::Names;
use crate::rows;
use crate::walk::Walk;

/// A schema with enough in it that reading everything would cost.
async fn filled() -> (PgConnection, Names) {
    let url = std::env::var("SESSION_KIT_POSTGRES_URL")
        .expect("SESSION_KIT_POSTGRES_URL names a server; `cargo xtask test` starts one");
    let schema = format!("plans_{}", std::process::id());
    let pool = PgPool::connect(&url).await.unwrap();
    let create = AssertSqlSafe(format!("CREATE SCHEMA {schema}"));
    sqlx::query(create).execute(&pool).await.unwrap();
    let options = PostgresOptions { schema: Some(schema.clone()), ..PostgresOptions::default() };
    let names = Names::new(Some(&schema), &options.prefix);
    PostgresStore::with_pool(pool, options).await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let fill = "INSERT INTO {t}sessions (id, tenant, user_id, device_kind, client_id, ip_addresses, \
            signed_in, last_accessed, deadline, claimed, details, due) \
            SELECT decode(md5(n::text), 'hex'), 'tenant ' || n % 20, 'user ' || n % 5000, 'Web', \
            'client ' || n % 30, '', n, n, n * 600000000::bigint, 0, '{}', n * 600000000::bigint \
            FROM generate_series(1, 50000) AS n; \
        INSERT INTO {t}history (id, tenant, user_id, device_kind, client_id, ip_addresses, signed_in, \
            last_accessed, deadline, claimed, details, ended, cause, actor) \
            SELECT id, tenant, user_id, device_kind, client_id, ip_addresses, signed_in, \
            last_accessed, deadline, claimed, details, signed_in, 'evicted', 'system' FROM {t}sessions; \
        INSERT INTO {t}history (id, tenant, user_id, device_kind, client_id, ip_addresses, signed_in, \
            last_accessed, deadline, claimed, details, ended, cause, actor) \
            SELECT decode(md5('root' || signed_in), 'hex'), tenant, 'root', device_kind, client_id, \
            ip_addresses, signed_in, last_accessed, deadline, claimed, details, signed_in, 'evicted', \
            'system' FROM {t}sessions WHERE signed_in % 10 = 0; \
        INSERT INTO {t}sessions (id, tenant, user_id, device_kind, client_id, ip_addresses, \
            signed_in, last_accessed, deadline, claimed, details, due) \
            SELECT decode(md5('live ' || n), 'hex'), 'tenant ' || n % 500, 'root', 'Web', \
            'client ' || n % 30, '', n * 5, n, n * 600000000::bigint, 0, '{}', n * 600000000::bigint \
            FROM generate_series(1, 10000) AS n; \
        INSERT INTO {t}users (tenant, user_id, version) SELECT '', 'user ' || n, n FROM generate_series(0, 4999) AS n; \
        INSERT INTO {t}log (kind, at, actor, tenant) \
            SELECT 'created', n, 'system', '' FROM generate_series(1, 50000) AS n; \
        INSERT INTO {t}policies (tenant, user_id, block) \
            SELECT '', 'user ' || n, '{}' FROM generate_series(0, 49999) AS n; \
        INSERT INTO {t}leases (name, holder, until) \
            SELECT 'ticket ' || n, 'issued', now() - n * interval '1 s' FROM generate_series(1, 30000) AS n; \
        ANALYZE {t}leases; ANALYZE {t}sessions; ANALYZE {t}history; ANALYZE {t}users; ANALYZE {t}log; ANALYZE {t}policies;";
    sqlx::raw_sql(names.sql(fill)).execute(&mut connection).await.unwrap();
    (connection, names)
}

/// Writes values in the places of parameters, which `EXPLAIN` does not take.
fn filled_in(statement: &str, values: &[&str]) -> String {
    let numbered = values.iter().enumerate().rev().map(|(n, value)| (n + 1, value));
    numbered.fold(statement.to_owned(), |text, (n, value)| text.replace(&format!("${n}"), value))
}

/// A statement of a walk with values in the places of its parameters.
fn chunk(select: &QueryBuilder<Postgres>) -> String {
    let mut statement = select.sql().as_str().to_owned();
    for n in (1..=20).rev() {
        let value = literal(&statement, n);
        statement = statement.replace(&format!("${n}"), value);
    }
    statement
}

/// The tenant has no session of the client.
fn literal(statement: &str, n: usize) -> &'static str {
    let after = |text: &str| statement.contains(&format!("{text} ${n}"));
    match () {
        () if after("LIMIT") => "200",
        () if after("id >") || after("id <>") => "'\\x00'",
        () if after("device_kind =") => "'Web'",
        () if after("tenant =") => "'tenant 7'",
        () if is_of_a_name(statement) && after(NAME_IS) => "'root'",
        () if after("user_id =") => "'user 7'",
        () if after("client_id =") => "'client 8'",
        () if after("cause =") => "'revoked'",
        () if after("id IN (NULL,") => "decode(md5('7'), 'hex')",
        () => "25000",
    }
}

fn walks(names: &Names) -> Vec<String> {
    let now = Timestamp::from_micros(25_000);
    let after = PageCursor { at: now, id: SessionId::from_bytes([1; 16]) };
    let mut walks = Vec::new();
    for after in [None, Some(after)] {
        for tenant in [TenantFilter::Any, TenantFilter::Is(None)] {
            let page = PageQuery { after, ..PageQuery::live(tenant.clone(), now) };
            walks.extend(pages(names, &page));
            let history = HistoryQuery { after, ..HistoryQuery::within(tenant.clone()) };
            walks.extend(histories(names, &history));
            walks.push(choice(names, Selection::within(tenant.clone()).signed_in_before(now)));
            let user = UserId::new("user 7").ok();
            walks.push(choice(names, Selection { user, ..Selection::within(tenant) }));
        }
    }
    let one = Selection::session(SessionId::from_bytes([1; 16]), TenantFilter::Any);
    walks.push(choice(names, one));
    walks
}

fn pages(names: &Names, query: &PageQuery) -> Vec<String> {
    let query = || query.clone();
    let active_since = Some(query().now);
    let queries = [
        query(),
        PageQuery { user: UserId::new("user 7").ok(), ..query() },
        PageQuery { active_since, ..query() },
        PageQuery { device_kind: Some(DeviceKind::Web), ..query() },
        PageQuery { client_id: ClientId::new("client 8").ok(), ..query() },
    ];
    let table = names.fill("{t}sessions");
    let walk = |query| chunk(&Walk::page(&query).statement(rows::SESSION, &table));
    queries.map(walk).to_vec()
}

fn histories(names: &Names, query: &HistoryQuery) -> Vec<String> {
    let query = || query.clone();
    let queries = [
        query(),
        HistoryQuery { user: UserId::new("user 7").ok(), ..query() },
        HistoryQuery { since: Some(Timestamp::from_micros(20_000)), ..query() },
        HistoryQuery { cause: Some(EndCause::Revoked), ..query() },
        HistoryQuery { device_kind: Some(DeviceKind::Web), ..query() },
        HistoryQuery { client_id: ClientId::new("client 8").ok(), ..query() },
    ];
    let table = names.fill("{t}history");
    let walk = |query| chunk(&Walk::history(&query).statement(rows::ENDED_SESSION, &table));
    queries.map(walk).to_vec()
}

fn choice(names: &Names, selection: Selection) -> String {
    let (cause, at, by) = (EndCause::Revoked, Timestamp::EPOCH, Actor::System);
    let end = EndMany { selection, after: None, cause, at, by, from: None };
    let walk = Walk::choose(&end, 500).unwrap();
    chunk(&walk.statement(CHOSEN, &names.fill("{t}sessions")))
}

#[tokio::test]
async fn every_statement_uses_an_index() {
    let (mut connection, names) = filled().await;
    let id = "decode(md5('7'), 'hex')";
    let snapshot: String = sqlx::query_scalar("SELECT pg_current_snapshot()::text")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    let snapshot = format!("'{snapshot}'");
    let since = |[up_to, newest]: [&'static str; 2]| {
        vec![
            &*snapshot,
            "NULL",
            up_to,
            "1000",
            "''",
            newest,
            "0",
            "'9999999999'",
            "ARRAY['created']",
            "ARRAY(SELECT generate_series(49968, 49999))",
            "ARRAY(SELECT 0 FROM generate_series(49968, 49999))",
        ]
    };
    let touched = format!("ARRAY[{id}]");
    let fixed = [
        (read::USER, vec!["''", "'user 7'"]),
        (read::USER, vec!["'tenant 7'", "'root'"]),
        (read::LOAD, vec![id]),
        (place::POLICY, vec!["''", "'user 7'"]),
        (place::BLOCK, vec!["''", "'user 7'"]),
        (change::TOUCH, vec![&touched, "ARRAY[1]", "ARRAY[1]", "ARRAY[1]", "ARRAY['']"]),
        (history::ENDED, vec![id]),
        (history::FORGET_OLD, vec!["0", "500"]),
        (history::FORGET_USER, vec!["'tenant 7'", "'user 7'", "500"]),
        (sweep::DUE, vec!["0", "0", "'\\x00'", "500"]),
        (sweep::DUE, vec!["0", "15000000000000", "'\\x00'", "500"]),
        (log::SINCE, since(["0", "50000"])),
        (log::SINCE, since(["50000", "50000"])),
        (log::END, vec![]),
        (log::ADOPT, vec![]),
        (fleet::LEASE, vec!["'cleanup'", "'node 1'", "60"]),
    ];
    let fixed = fixed.iter().map(|(statement, values)| filled_in(&names.fill(statement), values));
    let mut of_names = 0;
    for statement in fixed.chain(walks(&names)) {
        let explain =
            AssertSqlSafe(format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {statement}"));
        let plan: Vec<String> =
            sqlx::query_scalar(explain).fetch_all(&mut connection).await.unwrap();
        println!("{statement}\n{}\n", plan.join("\n"));
        let whole = |step: &String| {
            let large = ["_sessions", "_history", "_log", "_policies", "_leases"];
            step.contains("Seq Scan") && large.into_iter().any(|table| step.contains(table))
        };
        assert!(!plan.iter().any(whole), "{statement}\n{}", plan.join("\n"));
        if is_of_a_name(&statement) {
            let by_name = |step: &String| step.contains("_by_name on");
            assert!(plan.iter().any(by_name), "{statement}\n{}", plan.join("\n"));
            of_names += 1;
        }
        if statement.contains("AS sessions") && statement.contains("'user 7'") {
            expects_few_sessions(&mut connection, &statement).await;
        }
        let cost = cost_of(&mut connection, &statement).await;
        assert!(cost < COMPILED, "{cost}: {statement}\n{}", plan.join("\n"));
        let most = plan.iter().flat_map(|step| rows_of(step)).max();
        assert!(most <= Some(1_001), "{most:?} rows: {statement}\n{}", plan.join("\n"));
    }
    assert_eq!(of_names, 6, "pages of both lists, the first and the next, and selections");
}

/// What the planner takes a statement to cost. Nobody has counted the rows of the small tables, as the
/// server does not by itself either.
async fn cost_of(connection: &mut PgConnection, statement: &str) -> f64 {
    let explain = AssertSqlSafe(format!("EXPLAIN {statement}"));
    let plan: Vec<String> = sqlx::query_scalar(explain).fetch_all(connection).await.unwrap();
    let (_, cost) = plan[0].split_once("..").unwrap();
    cost.split(' ').next().unwrap().parse().unwrap()
}

/// `jit_above_cost`: the server compiles such a statement for some tens of milliseconds, each time.
const COMPILED: f64 = 100_000.0;

/// In a table of any size: an index costs more than the table where many sessions are expected.
async fn expects_few_sessions(connection: &mut PgConnection, statement: &str) {
    let explain = AssertSqlSafe(format!("EXPLAIN {statement}"));
    let plan: Vec<String> = sqlx::query_scalar(explain).fetch_all(connection).await.unwrap();
    let step = plan.iter().find(|step| step.contains("_sessions_by_user")).unwrap();
    let (_, rows) = step.split_once(" rows=").unwrap();
    let rows: u64 = rows.split(' ').next().unwrap().parse().unwrap();
    assert!(rows <= 20, "{rows} sessions are expected of one user: {step}");
}

/// Whether this walks through one user name in all tenants.
fn is_of_a_name(statement: &str) -> bool {
    statement.contains(NAME_IS)
}

const NAME_IS: &str = "user_id COLLATE \"POSIX\" =";

/// How many rows a step of a plan read, and how many it left out.
fn rows_of(step: &str) -> Vec<u64> {
    let after = |text: &str| {
        let rest = step.split_once(text)?.1;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    [after("actual rows="), after("Rows Removed by Filter: ")].into_iter().flatten().collect()
}
