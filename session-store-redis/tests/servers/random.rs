//! Random operations in any order leave nothing where it does not belong.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use session_core::block::Block;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{
    BlockChange, Change, Forget, PolicyChange, Selection, Sweep, TenantFilter, Touch,
};
use session_core::{Actor, EndCause, EventKind, Session, Store, Timestamp, UserKey};
use session_store_redis::RedisStore;
use tokio::task::JoinSet;

use crate::namespace::Prefix;
use session_conformance::sample::{commit, end, end_all, random, session, user, user_in};

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
    let everything = end(&store, Selection::within(TenantFilter::Any)).await;
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
    match (what % 24, any) {
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
        (11..13, Some(mut session)) => {
            let (id, owner) = (session.id, session.owner.clone());
            session.deadline = host_now().plus(Duration::from_secs(how.into()));
            session.token.issued = host_now();
            let update = Change::Update { session: Box::new(session), kind: EventKind::Rotated };
            commit(store, &owner, vec![update]).await;
            commit(store, &owner, vec![Change::ClaimsChanged(id)]).await;
        }
        (13..16, Some(_)) => {
            let touch = |session: &Session| Touch {
                id: session.id,
                last_accessed: host_now(),
                deadline: host_now().plus(Duration::from_secs(how.into())),
                claimed: how.is_multiple_of(2),
                ip_addresses: vec![[192, 0, 2, how].into()],
            };
            store.touch(&known.iter().map(touch).collect::<Vec<_>>()).await.unwrap();
        }
        (16, Some(session)) => {
            let except = Selection::user(session.owner.clone()).except(session.id);
            store.end_many(&end(store, except).await, 5).await.unwrap();
        }
        (17, Some(session)) => {
            let ids = known.iter().take(5).map(|session| session.id).collect();
            let mut some = Selection::within(TenantFilter::Is(session.owner.tenant));
            some.ids = Some(ids);
            store.end_many(&end(store, some).await, 10).await.unwrap();
        }
        (18, Some(_)) => {
            let sweep = Sweep { overdue: Duration::from_secs(1), after: None, at: host_now() };
            store.sweep(&sweep, 10).await.unwrap();
            store.trim_log(Duration::from_secs(1), 100).await.unwrap();
        }
        (19, Some(session)) => {
            store.forget(&Forget::User(session.owner), 10).await.unwrap();
        }
        (20, Some(_)) => {
            store.forget(&Forget::OlderThan(Duration::from_secs(1)), 10).await.unwrap();
        }
        (21, Some(session)) => block(store, session.owner, how).await,
        (_, Some(session)) => {
            let policy = how.is_multiple_of(2).then(Policy::default);
            let scope = PolicyScope::User(session.owner);
            let change = PolicyChange { scope, policy, at: host_now(), by: Actor::Application };
            store.set_policy(&change).await.unwrap();
        }
    }
}

/// Sets the block of a user or lifts it, most often.
async fn block(store: &RedisStore, owner: UserKey, how: u8) {
    let (since, by) = (host_now(), Actor::Application);
    let until = Some(since.plus(Duration::from_millis(how.into())));
    let block = (how < 64).then(|| Block { reason: None, until, since, by: by.clone() });
    let change = BlockChange { scope: PolicyScope::User(owner), block, at: since, by };
    store.set_block(&change).await.unwrap();
}

/// Begins a session, now and then in the place of others.
async fn begin(store: &RedisStore, owner: &UserKey, how: u8) -> Session {
    let mut new = session(store, owner, host_now());
    // Old ones for the cleanup.
    if how < 64 {
        new.deadline = Timestamp::from_micros(1_000_000 + i64::from(how));
    } else if how.is_multiple_of(2) {
        new.deadline = host_now().plus(Duration::from_secs(u64::from(how)));
    }
    let mut changes = vec![Change::Insert(Box::new(new.clone()))];
    let others = store.user(owner).await.unwrap().sessions;
    let evicted = others.iter().take(usize::from(how % 3));
    changes.extend(evicted.map(|other| Change::End(other.id, EndCause::Evicted)));
    commit(store, owner, changes).await;
    new
}

/// The time by this host's clock, without a question to the store.
fn host_now() -> Timestamp {
    Timestamp::EPOCH.plus(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap())
}
