//! Nothing that is wrong with a browser's old session keeps its user from signing out, or in.

use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;
use session_conformance::Probe;
use session_core::store::TenantFilter;
use session_core::{Actor, Session, Timestamp};
use session_engine::clock::{Clock, TokioClock};
use session_http::{Config, Head, Hooks, HttpSessions, Vouch, Voucher};
use session_store_memory::MemoryStore;

use crate::node::{Client, user};

/// An application with signed documents, of which these requests carry none.
struct Nothing;

#[async_trait]
impl Voucher for Nothing {
    async fn vouch(&self, _: Head<'_>) -> Result<Vouch, Box<dyn Error + Send + Sync>> {
        Ok(Vouch::Nothing)
    }
}

fn store() -> (Probe, TokioClock) {
    let clock = TokioClock::starting_at(Timestamp::from_micros(1_780_000_000_000_000));
    (Probe::over(MemoryStore::with_clock(move || clock.now())), clock)
}

/// A node whose provider knows no user of the name bob once they are signed in.
async fn node((probe, clock): &(Probe, TokioClock)) -> HttpSessions {
    let claims = |session: Session| async move {
        match session.owner.user.as_str() {
            "bob" if session.claimed => Err("no such user"),
            _ => Ok(serde_json::json!({})),
        }
    };
    let hooks = Hooks::default().with_clock(*clock).with_claims(claims).with_voucher(Nothing);
    let store = Arc::new(probe.clone());
    HttpSessions::start_with(store, Config::default(), hooks).await.unwrap()
}

async fn live(http: &HttpSessions) -> Vec<String> {
    let query = http.manager().query(TenantFilter::Any);
    let page = http.manager().list(&query).await.unwrap();
    page.sessions.iter().map(|session| session.owner.user.to_string()).collect()
}

/// Their claims fail from now on, as those of a user whom the application has deleted.
async fn without_claims(http: &HttpSessions) -> Client {
    let client = Client::signed_in(http, "bob").await;
    assert!(client.session_id().await.is_some());
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    http.manager().claims_changed(&user("bob"), Actor::Application).await.unwrap();
    client
}

#[tokio::test(start_paused = true)]
async fn a_session_is_given_up_without_its_claims() {
    let http = node(&store()).await;
    let bob = without_claims(&http).await;
    assert_eq!(bob.get("/me").await.status, 503);
    bob.answer(bob.auth().await.sign_out().await).await.ok();
    assert_eq!(live(&http).await, [""; 0]);
    let mut bob = without_claims(&http).await;
    bob.keep(&bob.sign_in(user("alice").into()).await);
    assert_eq!(live(&http).await, ["alice"]);
    assert!(bob.session_id().await.is_some());
    http.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_read_locks_no_browser() {
    let store = store();
    let http = node(&store).await;
    for (has_ended, next) in [(false, "carol"), (true, "alice")] {
        let mut alice = Client::browser(&http);
        let (signed_in, cookie) = alice.auth().await.sign_in("alice").await.unwrap();
        alice.keep(&alice.answer(Ok(cookie)).await);
        let id = signed_in.session.id();
        if has_ended {
            http.manager().revoke(id, &user("alice"), Actor::Application).await.unwrap();
        }
        store.0.corrupt(id);
        // One that has nothing of it in its cache.
        alice.http = node(&store).await;
        assert_eq!(alice.get("/me").await.status, 401, "ended: {has_ended}");
        alice.answer(alice.auth().await.sign_out().await).await.ok();
        alice.keep(&alice.sign_in(user(next).into()).await);
        assert!(alice.session_id().await.is_some(), "ended: {has_ended}");
        alice.http.shutdown().await;
    }
    http.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_to_read_anything_signs_nobody_out() {
    let store = store();
    let http = node(&store).await;
    let mut alice = Client::signed_in(&http, "alice").await;
    alice.http = node(&store).await;
    store.0.refuse("load", true);
    assert_eq!(alice.get("/me").await.status, 503);
    assert_eq!(alice.sign_in(user("alice").into()).await.status, 500);
    assert_eq!(alice.answer(alice.auth().await.sign_out().await).await.status, 500);
    store.0.refuse("load", false);
    assert!(alice.session_id().await.is_some());
    alice.http.shutdown().await;
    http.shutdown().await;
}
