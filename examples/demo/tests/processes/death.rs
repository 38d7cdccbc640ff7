//! What is left after `kill -9` and after an orderly end.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use http::StatusCode;
use session_demo::Adapter;
use sqlx::{Connection, SqliteConnection};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::process::Process;

/// How many accesses were acknowledged.
type Count = watch::Sender<u64>;

/// What one client was told before the process died.
#[derive(Default)]
struct Acknowledged {
    /// A session that began and was not ended, with its accesses.
    live: Vec<(Client, Vec<SystemTime>)>,
    /// Sessions that were ended.
    ended: Vec<Client>,
}

/// Signs in, uses and signs out until the process is gone.
async fn traffic(mut client: Client, user: &'static str, count: Count) -> Acknowledged {
    let mut told = Acknowledged::default();
    loop {
        client.cookie = None;
        let body = format!("user={user}&password={user}");
        let Ok(answer) = client.try_send("POST", "/login", body).await else { return told };
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
        client.keep(&answer);
        let mut accesses = Vec::new();
        for _ in 0..40 {
            let Ok(answer) = client.try_send("GET", "/whoami", String::new()).await else {
                told.live.push((client, accesses));
                return told;
            };
            assert_eq!(answer.status, StatusCode::OK);
            accesses.push(SystemTime::now());
            count.send_modify(|count| *count += 1);
        }
        if told.live.len() % 2 == 0 {
            told.live.push((client.clone(), accesses));
            continue;
        }
        match client.try_send("POST", "/logout", String::new()).await {
            Ok(_) => told.ended.push(client.clone()),
            // Nobody knows whether it went through.
            Err(_) => return told,
        }
        // One more that stays, so that both kinds come in turn.
        told.live.push((told.live[0].0.clone(), Vec::new()));
    }
}

/// The longest-ago moment that last accessed may be at, if ten later accesses made it due.
fn due(accesses: &[SystemTime], killed: SystemTime) -> Option<SystemTime> {
    let last_due = accesses.len().checked_sub(11)?;
    // The flush interval, and the time that a write takes on a busy machine.
    let flushed = Duration::from_secs(1);
    let made_due = |n: &usize| accesses[*n + 10] + flushed < killed;
    (0..=last_due).rev().find(made_due).map(|n| accesses[n])
}

async fn stored(db: &Path, id: &str) -> SystemTime {
    let url = format!("sqlite://{}", db.display());
    let mut file = SqliteConnection::connect(&url).await.unwrap();
    let micros: i64 = sqlx::query_scalar(
        "SELECT last_accessed FROM session_kit_sessions WHERE lower(hex(id)) = ?",
    )
    .bind(id.replace('-', ""))
    .fetch_one(&mut file)
    .await
    .unwrap();
    SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).unwrap())
}

/// Kills a process on this adapter in mid-traffic, and looks at what is left.
async fn kill_9(adapter: Adapter, accesses: u64, db: &Path) {
    let process = Process::on(adapter, db).await;
    let mut clients = JoinSet::new();
    let count = Count::default();
    for n in 0..8 {
        clients.spawn(traffic(process.client(), ["alice", "bob"][n % 2], count.clone()));
    }
    count.subscribe().wait_for(|count| *count >= accesses).await.unwrap();
    let killed = SystemTime::now();
    process.kill().await;
    let told = clients.join_all().await;
    let (mut checked, mut due_checked) = (0, 0);
    // What the file says before anybody touches it again.
    let process = Process::on(adapter, db).await;
    for Acknowledged { live, ended } in told {
        for (client, accesses) in live {
            let client = client.at(process.address);
            assert_eq!(client.whoami().await, StatusCode::OK, "a session was lost");
            if let Some(due) = due(&accesses, killed) {
                let stored = stored(db, &client.session_id().await).await;
                assert!(stored >= due - Duration::from_millis(50), "{stored:?} < {due:?}");
                due_checked += 1;
            }
            checked += 1;
        }
        for client in ended {
            let answer = client.at(process.address).whoami().await;
            assert_eq!(answer, StatusCode::UNAUTHORIZED, "a sign-out was lost");
            checked += 1;
        }
    }
    println!(
        "{adapter:?}: {checked} acknowledged changes kept, {due_checked} last-accessed times within bounds"
    );
    assert!(checked >= 8 && due_checked >= 1);
    process.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_in_mid_traffic_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("demo.db");
    // Each round dies at another moment of the traffic.
    for round in 0..4 {
        kill_9(Adapter::Axum, ACCESSES + 170 * round, &db).await;
    }
    for adapter in &ADAPTERS[1..] {
        kill_9(*adapter, ACCESSES + 85, &db).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_end_writes_the_last_access() {
    for adapter in ADAPTERS {
        let folder = tempfile::tempdir().unwrap();
        let db = folder.path().join("demo.db");
        let process = Process::on(adapter, &db).await;
        let alice = process.signed_in("alice").await;
        let id = alice.session_id().await;
        // An open event stream does not keep the process from ending.
        let mut stream = alice.ask("GET", "/sessions/me/events").open().await;
        stream.until(": open").await;
        let before = SystemTime::now();
        assert_eq!(alice.whoami().await, StatusCode::OK);
        let begun = Instant::now();
        process.stop().await;
        assert!(begun.elapsed() < Duration::from_secs(60), "{adapter:?}");
        assert!(stored(&db, &id).await >= before - Duration::from_millis(1), "{adapter:?}");
    }
}

/// The adapters that serve.
const ADAPTERS: [Adapter; 3] = [Adapter::Axum, Adapter::Actix, Adapter::Poem];

/// More than a second's worth, so that write-backs have become due and were flushed.
const ACCESSES: u64 = 12_000;
