//! What a session costs a Redis server, and whether pages stay cheap however many there are.
//!
//! `cargo run --release -p session-store-redis --example scale -- redis://127.0.0.1 1000000`
//! fills the server with so many sessions, two per user, and prints the memory per session, the
//! time of a page at several depths, and the server's slowest command meanwhile. Give it a server
//! of its own: it counts all of its memory and flushes it at the beginning.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use redis::aio::MultiplexedConnection;
use session_core::checker::Timeouts;
use session_core::rotation::TokenState;
use session_core::store::{Change, Commit, PageQuery, TenantFilter, Version};
use session_core::{
    Actor, DeviceInfo, DeviceKind, Session, Store, Timestamp, Token, UserId, UserKey,
};
use session_store_redis::RedisStore;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: scale URL SESSIONS";
    let url = arguments.next().ok_or(usage)?;
    let sessions: u64 = arguments.next().ok_or(usage)?.parse()?;
    let mut server = redis::Client::open(url.as_str())?.get_multiplexed_async_connection().await?;
    redis::cmd("FLUSHALL").exec_async(&mut server).await?;
    let empty = memory(&mut server).await?;
    let store = Arc::new(RedisStore::connect(&url).await?);
    fill(&store, sessions).await?;
    let used = memory(&mut server).await? - empty;
    println!("{} bytes for each of {sessions} sessions", used / sessions);
    for (name, value) in [("slowlog-log-slower-than", "200"), ("slowlog-max-len", "1000")] {
        redis::cmd("CONFIG").arg("SET").arg(name).arg(value).exec_async(&mut server).await?;
    }
    redis::cmd("SLOWLOG").arg("RESET").exec_async(&mut server).await?;
    walk(&store, sessions).await?;
    let slow: Vec<Vec<redis::Value>> =
        redis::cmd("SLOWLOG").arg("GET").arg(-1).query_async(&mut server).await?;
    let took = slow.iter().filter_map(|entry| match entry.get(2)? {
        redis::Value::Int(micros) => Some(*micros),
        _ => None,
    });
    println!("{} commands took more than 200 µs, the slowest {:?} µs", slow.len(), took.max());
    Ok(())
}

async fn memory(server: &mut MultiplexedConnection) -> Result<u64, Failure> {
    let info: String = redis::cmd("INFO").arg("memory").query_async(server).await?;
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
    Ok(used.ok_or("no used_memory")?.trim().parse()?)
}

async fn fill(store: &Arc<RedisStore>, sessions: u64) -> Result<(), Failure> {
    const TASKS: u64 = 64;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let store = Arc::clone(store);
        tasks.spawn(async move {
            for n in (task..sessions / 2).step_by(TASKS as usize) {
                let owner = UserKey::new(UserId::new(&format!("01980000-0000-7000-8000-{n:012}"))?);
                let insert = || Ok(Change::Insert(Box::new(session(&store, &owner)?)));
                let changes = (0..2).map(|_| insert()).collect::<Result<_, Failure>>()?;
                let (expected, at, by) = (Version::NONE, now(), Actor::Application);
                store.commit(&Commit { owner, expected, changes, at, by }).await?;
            }
            Ok::<_, Failure>(())
        });
    }
    tasks.join_all().await.into_iter().collect()
}

fn now() -> Timestamp {
    Timestamp::EPOCH.plus(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default())
}

fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

fn session(store: &RedisStore, owner: &UserKey) -> Result<Session, Failure> {
    let token = Token::new(store.session_id(owner, random()?), random()?, random()?);
    let at = now();
    Ok(Session {
        id: token.session_id(),
        owner: owner.clone(),
        device_kind: DeviceKind::Web,
        device_info: Some(DeviceInfo::new("Firefox on Linux")?),
        client_id: None,
        ip_addresses: vec!["192.0.2.1".parse()?],
        signed_in: at,
        last_accessed: at,
        authenticated_at: at,
        absolute_expiry: Some(at.plus(Duration::from_secs(30 * 24 * 3600))),
        data: None,
        token: TokenState::new(&token),
    })
}

/// Walks over all pages, and times those at the beginning, in the middle and at the end.
async fn walk(store: &RedisStore, sessions: u64) -> Result<(), Failure> {
    let mut query = PageQuery::live(TenantFilter::Any, Timeouts::none(), now());
    let mut times = Vec::new();
    let mut seen = 0;
    loop {
        let begun = Instant::now();
        let page = store.page(&query).await?;
        times.push(begun.elapsed());
        seen += page.sessions.len() as u64;
        query.after = page.next;
        if page.next.is_none() {
            break;
        }
    }
    if seen != sessions {
        return Err(format!("{seen} of {sessions} sessions listed").into());
    }
    let part = times.len() / 10;
    for (name, from) in [("first", 0), ("middle", times.len() / 2), ("last", times.len() - part)] {
        let mut some = times[from..(from + part).min(times.len())].to_vec();
        some.sort();
        println!("pages of 50, the {name} tenth: median {:?}", some[some.len() / 2]);
    }
    Ok(())
}
