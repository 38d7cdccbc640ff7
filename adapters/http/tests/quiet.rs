//! What the log says of an outage, however many requests meet it.

mod log;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::COOKIE;
use http::{HeaderMap, Method, Uri};
use session_conformance::Probe;
use session_core::{Timestamp, UserId, UserKey};
use session_engine::SignIn;
use session_engine::clock::{Clock, TokioClock};
use session_http::{
    Config, Head, Hooks, HttpSessions, Identity, Problem, RequestSession, Vouch, Voucher,
    async_trait,
};
use session_store_memory::MemoryStore;

use crate::log::Log;

/// Fails as long as it is told to.
struct Directory(Arc<AtomicBool>);

#[async_trait]
impl Voucher for Directory {
    async fn vouch(
        &self,
        _head: Head<'_>,
    ) -> Result<Vouch, Box<dyn std::error::Error + Send + Sync>> {
        if self.0.load(Ordering::SeqCst) { Err("no directory".into()) } else { Ok(Vouch::Nothing) }
    }
}

async fn start(hooks: Hooks) -> (HttpSessions, Probe) {
    let clock = TokioClock::starting_at(Timestamp::from_micros(1_780_000_000_000_000));
    let probe = Probe::over(MemoryStore::with_clock(move || clock.now()));
    let (store, hooks) = (Arc::new(probe.clone()), hooks.with_clock(clock));
    (HttpSessions::start_with(store, Config::default(), hooks).await.unwrap(), probe)
}

async fn cookie(http: &HttpSessions) -> HeaderMap {
    let alice = UserKey::new(UserId::new("alice").unwrap());
    let signed_in = http.manager().sign_in(SignIn::new(alice)).await.unwrap();
    let cookie = format!("{}={}", http.options().cookie.name, signed_in.token.expose());
    HeaderMap::from_iter([(COOKIE, cookie.parse().unwrap())])
}

/// A thousand requests of a browser. Returns how many had an answer.
async fn requests(http: &HttpSessions, headers: &HeaderMap) -> usize {
    let (method, uri) = (Method::GET, Uri::from_static("/"));
    let mut answered = 0;
    for _ in 0..1_000 {
        let head = Head::new(&method, &uri, headers);
        let identity = http.identify(head, None).resolve().await;
        answered += usize::from(matches!(identity, Identity::Session(..)));
        let request = RequestSession::new(http.clone(), identity, None);
        if request.session(head).is_err() {
            // As an API call of an application does.
            let query = http.manager().query(session_core::store::TenantFilter::Any);
            let _ = http.manager().list(&query).await.map_err(Problem::from);
        }
    }
    answered
}

#[tokio::test(start_paused = true)]
async fn a_thousand_requests_during_an_outage_are_two_lines() {
    let (log, _listening) = Log::begin();
    let (http, probe) = start(Hooks::default()).await;
    let headers = cookie(&http).await;
    assert_eq!(requests(&http, &headers).await, 1_000);
    log.take();
    let lines = || log.take().lines().map(str::to_owned).collect::<Vec<_>>();
    probe.away(true);
    tokio::time::sleep(Duration::from_secs(35)).await;
    assert_eq!(requests(&http, &headers).await, 0, "nothing can be said");
    let said = lines();
    assert_eq!(said.iter().filter(|line| line.contains("does not answer")).count(), 1, "{said:#?}");
    assert_eq!(said.iter().filter(|line| line.contains("silent for too long")).count(), 1);
    assert_eq!(said.len(), 2, "{said:#?}");
    probe.away(false);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(requests(&http, &headers).await, 1_000);
    let said = lines();
    assert_eq!(said.iter().filter(|line| line.contains("answers again")).count(), 1, "{said:#?}");
    assert_eq!(said.iter().filter(|line| line.contains("trusted again")).count(), 1);
    assert_eq!(said.len(), 2, "{said:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_voucher_that_fails_is_said_once() {
    let (log, _listening) = Log::begin();
    let fails = Arc::new(AtomicBool::new(true));
    let (http, _probe) = start(Hooks::default().with_voucher(Directory(Arc::clone(&fails)))).await;
    let headers = cookie(&http).await;
    log.take();
    assert_eq!(requests(&http, &headers).await, 0);
    let said = log.take();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("the voucher fails") && said.contains("no directory"), "{said}");
    fails.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(requests(&http, &headers).await, 1_000);
    let said = log.take();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("the voucher works again"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn claims_of_another_form_are_said_once() {
    let (log, _listening) = Log::begin();
    let (http, _probe) = start(Hooks::default()).await;
    let headers = cookie(&http).await;
    log.take();
    let (method, uri) = (Method::GET, Uri::from_static("/"));
    for _ in 0..1_000 {
        let head = Head::new(&method, &uri, &headers);
        let identity = http.identify(head, None).resolve().await;
        let request = RequestSession::new(http.clone(), identity, None);
        assert_eq!(request.claims::<u64>(head).unwrap_err().status(), 500, "they are null");
    }
    let said = log.take();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("the claims are of another form"), "{said}");
}
