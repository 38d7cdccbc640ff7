//! Whatever is done in whatever order: nothing is left where it does not belong.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use session_core::cleanup::SweepRule;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{Change, PolicyChange, Selection, Sweep, TenantFilter, Touch};
use session_core::{Actor, EndCause, Session, Store, Timestamp, UserKey};
use session_store_redis::RedisStore;
use tokio::task::JoinSet;

use crate::namespace::Prefix;
use session_conformance::sample::{commit, end, end_all, now, random, session, user, user_in};

/// Runs this many random operations in several tasks, then looks at every key.
pub(crate) async fn operations(prefix: &Prefix, count: i64) {
    let left = Arc::new(AtomicI64::new(count));
    let mut tasks = JoinSet::new();
    for _ in 0..16 {
        let (store, left) = (prefix.store().await, Arc::clone(&left));
        tasks.spawn(async move {
            let mut known = Vec::new();
            while left.fetch_sub(1, Ordering::Relaxed) > 0 {
                operation(&store, &mut known).await;
            }
        });
    }
    tasks.join_all().await;
    let store = prefix.store().await;
    assert_eq!(store.audit().await.unwrap(), [""; 0]);
    let everything = end(Selection::within(TenantFilter::Any));
    let ended = end_all(&store, everything, 500).await.len();
    assert!(ended > 0, "the operations leave sessions behind");
    assert_eq!(store.audit().await.unwrap(), [""; 0]);
    println!("{count} random operations left {ended} sessions and no orphan");
}

fn owner(n: u8) -> UserKey {
    let name = format!("user {}", n / 8);
    match n % 4 {
        0 | 1 => user(&name),
        2 => user_in("north", &name),
        _ => user_in("south", &name),
    }
}

async fn operation(store: &RedisStore, known: &mut Vec<Session>) {
    let [what, who, which, how] = random();
    let owner = owner(who);
    let any = known.get(usize::from(which) % known.len().max(1)).cloned();
    match (what % 20, any) {
        (0..8, _) | (_, None) => {
            known.push(begin(store, &owner, how).await);
            if known.len() > 200 {
                known.swap_remove(usize::from(which) % 200);
            }
        }
        (8..11, Some(session)) => {
            let changes = vec![Change::End(session.id, EndCause::SignedOut)];
            commit(store, &session.owner, changes).await;
        }
        (11..13, Some(session)) => {
            let id = session.id;
            let (token, authenticated_at) = (session.token, (how % 2 == 0).then(now));
            let rotate = Change::ReplaceToken { id, token, authenticated_at };
            commit(store, &session.owner, vec![rotate]).await;
            commit(store, &session.owner, vec![Change::ClaimsChanged(id)]).await;
        }
        (13..16, Some(_)) => {
            let touch = |session: &Session| Touch {
                id: session.id,
                last_accessed: now(),
                ip_addresses: vec![[192, 0, 2, how].into()],
            };
            store.touch(&known.iter().map(touch).collect::<Vec<_>>()).await.unwrap();
        }
        (16, Some(session)) => {
            let except = Selection::user(session.owner.clone()).except(session.id);
            store.end_many(&end(except), 5).await.unwrap();
        }
        (17, Some(session)) => {
            let ids = known.iter().take(5).map(|session| session.id).collect();
            let mut some = Selection::within(TenantFilter::Is(session.owner.tenant));
            some.ids = Some(ids);
            store.end_many(&end(some), 10).await.unwrap();
        }
        (18, Some(_)) => {
            let line = Timestamp::from_micros(2_000_000);
            let rule = SweepRule { inactive_before: line, expired_by: now() };
            store.sweep(&Sweep { rule, after: None, at: now() }, 10).await.unwrap();
            store.trim_log(now().minus(Duration::from_secs(1)), 100).await.unwrap();
        }
        (_, Some(session)) => {
            let policy = (how % 2 == 0).then(Policy::default);
            let scope = PolicyScope::User(session.owner);
            let change = PolicyChange { scope, policy, at: now(), by: Actor::Application };
            store.set_policy(&change).await.unwrap();
        }
    }
}

/// Begins a session, now and then in the place of others.
async fn begin(store: &RedisStore, owner: &UserKey, how: u8) -> Session {
    let mut new = session(store, owner, now());
    // Old ones for the cleanup.
    if how < 64 {
        new.last_accessed = Timestamp::from_micros(1_000_000 + i64::from(how));
    }
    if how.is_multiple_of(2) {
        new.absolute_expiry = Some(now().plus(Duration::from_secs(u64::from(how))));
    }
    let mut changes = vec![Change::Insert(Box::new(new.clone()))];
    let others = store.user(owner).await.unwrap().sessions;
    let evicted = others.iter().take(usize::from(how % 3));
    changes.extend(evicted.map(|other| Change::End(other.id, EndCause::Evicted)));
    commit(store, owner, changes).await;
    new
}
