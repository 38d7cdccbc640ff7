//! Asks the planner of a real server: no statement that a request or a worker can reach reads a
//! whole table of sessions or of the log.

use session_core::checker::Timeouts;
use session_core::store::{PageCursor, PageQuery, TenantFilter};
use session_core::{ClientId, DeviceKind, SessionId, Timestamp, UserId};
use sqlx::postgres::{PgConnection, PgPool, Postgres};
use sqlx::{AssertSqlSafe, Connection};

use super::{PostgresOptions, PostgresStore, change, log, read};
use crate::names::Names;
use crate::{filter, rows};

/// A schema with enough in it that reading everything would cost.
async fn filled() -> (PgConnection, Names) {
    let url = std::env::var("SESSION_KIT_POSTGRES_URL")
        .expect("SESSION_KIT_POSTGRES_URL names a server; `cargo xtask test` starts one");
    let schema = format!("plans_{}", std::process::id());
    let pool = PgPool::connect(&url).await.unwrap();
    let create = AssertSqlSafe(format!("CREATE SCHEMA {schema}"));
    sqlx::query(create).execute(&pool).await.unwrap();
    let options = PostgresOptions { schema: Some(schema.clone()), ..PostgresOptions::default() };
    PostgresStore::with_pool(pool, &options).await.unwrap();
    let names = Names::new(Some(&schema), &options.prefix);
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let fill = "INSERT INTO {t}sessions SELECT decode(md5(n::text), 'hex'), '', 'user ' || n % 5000, \
            'Web', NULL, NULL, '', n, n, n, n + 1000000, NULL, '\\x', '\\x', NULL, NULL \
            FROM generate_series(1, 50000) AS n; \
        INSERT INTO {t}users SELECT '', 'user ' || n, n FROM generate_series(0, 4999) AS n; \
        INSERT INTO {t}log (kind, at, actor, tenant) \
            SELECT 'created', n, 'system', '' FROM generate_series(1, 50000) AS n; \
        ANALYZE {t}sessions; ANALYZE {t}users; ANALYZE {t}log;";
    sqlx::raw_sql(names.sql(fill)).execute(&mut connection).await.unwrap();
    (connection, names)
}

/// Writes values in the places of parameters, which `EXPLAIN` does not take.
fn filled_in(statement: &str, values: &[&str]) -> String {
    let numbered = values.iter().enumerate().rev().map(|(n, value)| (n + 1, value));
    numbered.fold(statement.to_owned(), |text, (n, value)| text.replace(&format!("${n}"), value))
}

fn page(names: &Names, query: &PageQuery) -> String {
    let select = filter::page::<Postgres>(rows::SESSION, &names.fill("{t}sessions"), query);
    let statement = select.sql();
    let statement = statement.as_str();
    let limit = statement.rfind("LIMIT ").unwrap_or(statement.len());
    let mut statement = format!("{}LIMIT 51", &statement[..limit]);
    for n in (1..=12).rev() {
        // Ids are bytes, kinds of devices are few, other texts are names, all else is a number.
        let is_kind = statement.contains(&format!("device_kind = ${n}"));
        let is_id = statement.contains(&format!("id > ${n}"));
        let is_text = ["tenant", "user_id", "client_id"]
            .iter()
            .any(|column| statement.contains(&format!("{column} = ${n}")));
        let value = match (is_id, is_kind, is_text) {
            (true, _, _) => "'\\x00'",
            (_, true, _) => "'Web'",
            (_, _, true) => "'user 7'",
            _ => "25000",
        };
        statement = statement.replace(&format!("${n}"), value);
    }
    statement
}

fn pages(names: &Names) -> Vec<String> {
    let now = Timestamp::from_micros(25_000);
    let first = PageQuery::live(TenantFilter::Any, Timeouts::none(), now);
    let after = Some(PageCursor { signed_in: now, id: SessionId::from_bytes([1; 16]) });
    let mut queries = Vec::new();
    for query in [first.clone(), PageQuery { after, ..first }] {
        for tenant in [TenantFilter::Any, TenantFilter::Is(None)] {
            let query = PageQuery { tenant, ..query.clone() };
            queries.push(PageQuery { user: UserId::new("user 7").ok(), ..query.clone() });
            queries.push(PageQuery { active_since: Some(now), ..query.clone() });
            queries.push(PageQuery { device_kind: Some(DeviceKind::Web), ..query.clone() });
            queries.push(PageQuery { client_id: ClientId::new("user 7").ok(), ..query });
        }
    }
    queries.iter().map(|query| page(names, query)).collect()
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
    let fixed = [
        (read::USER, vec!["''", "'user 7'"]),
        (read::LOAD, vec![id]),
        (read::POLICY, vec!["''", "'user 7'"]),
        (change::TOUCH, vec!["ARRAY[decode(md5('7'), 'hex')]", "ARRAY[1]", "ARRAY['']"]),
        (change::CHOOSE_OLD, vec!["10", "10", "500"]),
        (log::SINCE, vec![&snapshot, "NULL", "0", "1000", "''", "50000", "0"]),
        (log::END, vec![]),
        (log::ADOPT, vec![]),
    ];
    let fixed = fixed.iter().map(|(statement, values)| filled_in(&names.fill(statement), values));
    for statement in fixed.chain(pages(&names)) {
        let explain = AssertSqlSafe(format!("EXPLAIN (COSTS OFF) {statement}"));
        let plan: Vec<String> =
            sqlx::query_scalar(explain).fetch_all(&mut connection).await.unwrap();
        let whole = |step: &String| {
            step.contains("Seq Scan") && (step.contains("sessions") || step.contains("_log"))
        };
        assert!(!plan.iter().any(whole), "{statement}\n{}", plan.join("\n"));
        println!("{statement}\n{}\n", plan.join("\n"));
    }
}
