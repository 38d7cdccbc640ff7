//! How long a request waits beside a flush: 300,000 sessions whose write-backs are planned come due
//! together, while one thread goes on checking them. Prints percentiles of the time of a check, in
//! microseconds, before the flush and beside it.

use std::time::{Duration, Instant};

use session_core::usage::WriteBack;
use session_core::{Token, UserId, UserKey};
use session_engine::{Access, Check, Engine, Options, SignIn, Verdict};
use session_store_memory::MemoryStore;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let write_back = WriteBack::default().with_max_delay(DELAY);
    let options = Options::default().with_write_back(write_back);
    let engine = Engine::start(MemoryStore::new(), options).await.expect("a memory store");
    let mut tokens = Vec::new();
    for n in 0..SESSIONS {
        let user = UserKey::new(UserId::new(&format!("user {n}")).expect("a short name"));
        let signed_in = engine.sessions().sign_in(SignIn::new(user)).await;
        tokens.push(signed_in.expect("a memory store").token);
    }
    let manager = engine.sessions().clone();
    // The first use of a session is due at once; what is planned begins after that.
    tokens.iter().for_each(|token| check(&manager, token));
    while manager.health().write_backs > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let measure = move || {
        let begun = Instant::now();
        let (mut quiet, mut beside) = (Vec::new(), Vec::new());
        for token in tokens.iter().cycle() {
            let at = Instant::now();
            check(&manager, token);
            let taken = at.elapsed();
            match begun.elapsed() {
                elapsed if elapsed < DELAY => quiet.push(taken),
                elapsed if elapsed < 2 * DELAY => beside.push(taken),
                _ => break,
            }
        }
        show("before the flush", quiet);
        show("beside the flush", beside);
    };
    tokio::task::spawn_blocking(measure).await.expect("the sessions are cached");
    engine.shutdown().await;
}

fn check(manager: &session_engine::SessionManager, token: &Token) {
    let check = manager.check_token(token.clone(), Access::default());
    assert!(matches!(check, Check::Answered(Verdict::Active(_))));
}

fn show(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| times[(times.len() as f64 * share) as usize].as_nanos() as f64 / 1e3;
    let (p50, p99, p999, p9999) = (at(0.5), at(0.99), at(0.999), at(0.9999));
    let count = times.len();
    println!("{name}: {count} checks, p50 {p50}, p99 {p99}, p99.9 {p999}, p99.99 {p9999}");
}

const SESSIONS: u32 = 300_000;
const DELAY: Duration = Duration::from_secs(3);
