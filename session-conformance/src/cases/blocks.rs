//! Blocks: where they are set, what they refuse, and until when.

use std::sync::Arc;
use std::time::Instant;

use session_core::block::Block;
use session_core::policy::{Limit, OnExceed, Policy, PolicyScope, Scope};
use session_core::store::{BlockChange, Change, Entries, Outcome, PolicyChange};
use session_core::{
    Actor, BlockReason, DeviceKind, EndCause, Event, EventKind, Session, Store, Timestamp, UserKey,
};

use crate::Namespace;
use crate::sample::{
    FAR_AHEAD, HOUR, LONG_AGO, PATIENCE, SECOND, SLACK, add, add_many, begins, change_at, commit,
    end_at, ids, log_end, now, read_log, session, sorted, updates, used, user, user_in, version,
};

pub(crate) async fn a_beginning_is_refused_and_nothing_else(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let alice = user_in("north", "alice");
    for scope in PolicyScope::of(&alice) {
        let there = add_many(store.as_ref(), &alice, 4).await;
        let block = set(store.as_ref(), &scope, None).await;
        assert_eq!(other.block(&scope).await.unwrap().as_ref(), Some(&block));
        let state = other.user(&alice).await.unwrap();
        assert_eq!(state.blocks, [(scope.clone(), block)], "`user` reads it, with its place");
        assert_eq!(state.sessions.len(), 4, "a block ends no session");
        let mut cursor = log_end(store.as_ref()).await;
        let new = session(other.as_ref(), &alice, there[0].signed_in);
        for changes in [
            vec![begins(&new)],
            vec![Change::End(there[0].id, EndCause::Evicted), begins(&new)],
            vec![begins(&new), Change::ClaimsChanged(there[1].id)],
        ] {
            let outcome = commit(other.as_ref(), &alice, changes).await;
            assert_eq!(outcome, Outcome::Conflict, "an insert where {scope:?} is blocked");
        }
        assert_eq!(version(store.as_ref(), &alice).await, state.version, "nothing has happened");
        assert_eq!(ids(store.as_ref(), &alice).await, sorted(&there));
        assert_eq!(read_log(store.as_ref(), &mut cursor, 10).await, [], "and nothing is told");
        let changes = vec![
            Change::End(there[0].id, EndCause::Blocked),
            updates(&Session { device_kind: DeviceKind::Web, ..there[1].clone() }),
            Change::ClaimsChanged(there[2].id),
        ];
        assert_eq!(
            commit(other.as_ref(), &alice, changes).await,
            Outcome::Done,
            "all else goes on"
        );
        let later = there[3].signed_in.plus(SECOND);
        assert_eq!(other.touch(&[used(there[3].id, later)]).await.unwrap(), []);
        let read = store.load(there[3].id).await.unwrap().unwrap().session;
        assert_eq!(read.last_accessed, later, "what is blocked can be used");
        lift(store.as_ref(), &scope).await;
        assert_eq!(other.block(&scope).await.unwrap(), None);
        assert_eq!(other.user(&alice).await.unwrap().blocks, []);
        add(other.as_ref(), &alice).await;
        for standing in other.user(&alice).await.unwrap().sessions {
            let session = other.load(standing.id).await.unwrap().unwrap().session;
            end_at(store.as_ref(), &session, EndCause::Blocked, session.signed_in).await;
        }
    }
}

pub(crate) async fn a_block_of_one_place_reaches_no_other(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let owners = [
        user("alice"),
        user("north"),
        user_in("north", "alice"),
        user_in("north", "alic"),
        user_in("northwest", "alice"),
        user_in("North", "alice"),
        user_in("alice", "north"),
    ];
    let mut places: Vec<_> = owners.iter().cloned().map(PolicyScope::User).collect();
    let tenants = ["north", "northwest", "North", "alice"];
    places.extend(tenants.map(|tenant| PolicyScope::Tenant(tenant.parse().unwrap())));
    places.push(PolicyScope::Deployment);
    for scope in &places {
        let block = set(store.as_ref(), scope, None).await;
        for owner in &owners {
            let reached = PolicyScope::of(owner).contains(scope);
            let state = other.user(owner).await.unwrap();
            let expected = reached.then(|| (scope.clone(), block.clone()));
            assert_eq!(state.blocks, Vec::from_iter(expected), "the blocks of {owner:?}");
            let begun = begins_now(other.as_ref(), owner).await;
            assert_eq!(begun == Outcome::Conflict, reached, "{owner:?} while {scope:?} is blocked");
        }
        lift(store.as_ref(), scope).await;
    }
    // Blocks of several places hold at once.
    for scope in &places {
        set(other.as_ref(), scope, None).await;
    }
    for owner in &owners {
        let state = store.user(owner).await.unwrap();
        let places: Vec<_> = state.blocks.iter().map(|(scope, _)| scope).collect();
        let of = PolicyScope::of(owner);
        assert_eq!(places.len(), of.len(), "every block that concerns {owner:?}: {places:?}");
        assert!(of.iter().all(|place| places.contains(&place)), "{places:?} of {owner:?}");
    }
    // The narrow ones are lifted first.
    for (n, scope) in places.iter().enumerate() {
        lift(other.as_ref(), scope).await;
        for owner in &owners {
            let blocked = PolicyScope::of(owner).iter().any(|of| places[n + 1..].contains(of));
            let begun = begins_now(store.as_ref(), owner).await;
            let expected = if blocked { Outcome::Conflict } else { Outcome::Done };
            assert_eq!(begun, expected, "{owner:?} when {scope:?} was lifted");
        }
    }
}

pub(crate) async fn a_block_comes_back_whole(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let alice = user_in("north", "alice");
    let wide = |bytes: usize| "ü".repeat(bytes / 2) + &"u".repeat(bytes % 2);
    let longest = BlockReason::new(&wide(BlockReason::MAX_BYTES)).unwrap();
    let block = |reason, until, since, by| Block { reason, until, since, by };
    let blocks = [
        block(Some(longest), Some(FAR_AHEAD), LONG_AGO, Actor::User(alice.clone())),
        block(None, None, FAR_AHEAD, Actor::System),
        block(
            Some("it's \"fraud\"".parse().unwrap()),
            Some(LONG_AGO),
            LONG_AGO,
            Actor::Application,
        ),
        block(None, Some(Timestamp::EPOCH), Timestamp::EPOCH, Actor::Unknown),
    ];
    for scope in PolicyScope::of(&alice) {
        for block in &blocks {
            let at = now(store.as_ref()).await;
            let (scope, block) = (scope.clone(), Some(block.clone()));
            let change = BlockChange { scope, block, at, by: Actor::Application };
            store.set_block(&change).await.unwrap();
            let read = other.block(&change.scope).await.unwrap();
            assert_eq!(read, change.block, "the last of several calls wins, whole");
        }
        lift(other.as_ref(), &scope).await;
        lift(other.as_ref(), &scope).await;
        assert_eq!(store.block(&scope).await.unwrap(), None, "lifted twice is lifted");
    }
}

pub(crate) async fn a_block_ends_at_its_time(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let alice = user_in("north", "alice");
    for scope in PolicyScope::of(&alice) {
        let begun = now(store.as_ref()).await;
        set(store.as_ref(), &scope, Some(begun)).await;
        until_it_begins(other.as_ref(), &alice, begun).await;
        // The next block replaces the time of the last one, in both directions.
        set(store.as_ref(), &scope, None).await;
        assert_eq!(begins_now(other.as_ref(), &alice).await, Outcome::Conflict);
        let short = now(store.as_ref()).await.plus(SLACK * 3);
        set(store.as_ref(), &scope, Some(short)).await;
        until_it_begins(other.as_ref(), &alice, short).await;
        lift(store.as_ref(), &scope).await;
    }
}

/// Tries until a session begins: not before this time by the store's clock, and soon after it.
async fn until_it_begins(store: &dyn Store, owner: &UserKey, until: Timestamp) {
    let begun = Instant::now();
    loop {
        let before = now(store).await;
        let outcome = begins_now(store, owner).await;
        if outcome == Outcome::Done {
            let after = now(store).await;
            assert!(after.plus(SLACK) >= until, "a block until {until} was over at {after}");
            return;
        }
        assert!(before < until.plus(SLACK), "a block until {until} held at {before}");
        assert!(begun.elapsed() < PATIENCE, "a block ends by itself");
        tokio::task::yield_now().await;
    }
}

/// What a node takes for the time of a sign-in does not matter.
pub(crate) async fn a_block_goes_by_the_stores_clock(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let alice = user_in("north", "alice");
    let begun = now(store.as_ref()).await;
    for scope in PolicyScope::of(&alice) {
        for (until, at, expected) in [
            (begun.plus(HOUR), begun.plus(HOUR * 24), Outcome::Conflict),
            (begun.minus(SECOND), begun.minus(HOUR * 24), Outcome::Done),
        ] {
            set(store.as_ref(), &scope, Some(until)).await;
            let new = session(store.as_ref(), &alice, at);
            let known = version(store.as_ref(), &alice).await;
            let commit = change_at(&alice, known, vec![begins(&new)], at);
            let outcome = store.commit(&commit).await.unwrap();
            assert_eq!(outcome, expected, "{scope:?} until {until}, for a node at {at}");
        }
        lift(store.as_ref(), &scope).await;
    }
}

pub(crate) async fn a_block_and_a_policy_of_one_place_are_apart(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let alice = user_in("north", "alice");
    let limit = Limit { max: 3, scope: Scope::User, on_exceed: OnExceed::Reject };
    for scope in PolicyScope::of(&alice) {
        let set_policy = async |policy| {
            let (scope, at) = (scope.clone(), now(store.as_ref()).await);
            let change = PolicyChange { scope, policy, at, by: Actor::Application };
            store.set_policy(&change).await.unwrap();
        };
        let are = async |policy: Option<&Policy>, block: Option<&Block>| {
            assert_eq!(other.policy(&scope).await.unwrap().as_ref(), policy, "{scope:?}");
            assert_eq!(other.block(&scope).await.unwrap().as_ref(), block, "{scope:?}");
            let state = other.user(&alice).await.unwrap();
            let layers = &state.policies;
            let set = [&layers.deployment, &layers.tenant, &layers.user];
            assert_eq!(set.into_iter().flatten().next(), policy, "`user` reads the policy");
            assert_eq!(state.blocks.first().map(|(_, block)| block), block, "and the block");
        };
        let policy = Policy::limit(limit);
        set_policy(Some(policy.clone())).await;
        let block = set(store.as_ref(), &scope, None).await;
        are(Some(&policy), Some(&block)).await;
        lift(store.as_ref(), &scope).await;
        are(Some(&policy), None).await;
        let block = set(store.as_ref(), &scope, Some(FAR_AHEAD)).await;
        set_policy(None).await;
        are(None, Some(&block)).await;
        assert_eq!(begins_now(other.as_ref(), &alice).await, Outcome::Conflict);
        set_policy(Some(policy.clone())).await;
        are(Some(&policy), Some(&block)).await;
        set_policy(None).await;
        lift(store.as_ref(), &scope).await;
        are(None, None).await;
    }
}

pub(crate) async fn blocks_are_told_whole(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let alice = user_in("north", "alice");
    let mut places = PolicyScope::of(&alice);
    places.push(PolicyScope::User(user("alice")));
    for (n, scope) in (1..).zip(places) {
        let begun = now(store.as_ref()).await;
        let start = log_end(other.as_ref()).await;
        let by = Actor::User(UserKey::new(format!("admin {n}").parse().unwrap()));
        let block = Block { reason: None, until: None, since: begun, by: by.clone() };
        let mut expected = Vec::new();
        // Also where nothing changes.
        for (m, block) in (0..).zip([None, Some(block.clone()), Some(block), None, None]) {
            let (at, by) = (begun.minus(SECOND * (n + m)), by.clone());
            let change = BlockChange { scope: scope.clone(), block, at, by };
            store.set_block(&change).await.unwrap();
            expected.push(change.event());
        }
        let mut told = read_log(other.as_ref(), &mut start.clone(), 2).await;
        // Only a user's sessions have an order in the log.
        told.sort_by_key(|event: &Event| std::cmp::Reverse(event.at));
        assert_eq!(told, expected, "each call is told: kind, place, time and actor");
        let set = told.iter().filter(|event| event.kind == EventKind::BlockSet).count();
        assert_eq!(set, 2, "a block that is set, and set again");
        let page = other.log_since(Some(&start), Entries::Invalidations, 100).await.unwrap();
        assert_eq!(page.events, [], "no cached session is wrong by it");
    }
}

pub(crate) async fn a_block_raises_no_version_and_ends_nothing(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let alice = user_in("north", "alice");
    let sessions = add_many(store.as_ref(), &alice, 3).await;
    let before = version(store.as_ref(), &alice).await;
    for scope in PolicyScope::of(&alice) {
        set(store.as_ref(), &scope, None).await;
        lift(store.as_ref(), &scope).await;
    }
    assert_eq!(ids(store.as_ref(), &alice).await, sorted(&sessions), "a block ends nothing");
    let late = vec![Change::ClaimsChanged(sessions[0].id)];
    let late = change_at(&alice, before, late, sessions[0].signed_in);
    assert_eq!(store.commit(&late).await.unwrap(), Outcome::Done, "and changes no user's sessions");
}

/// Tries once to begin a session.
pub(super) async fn begins_now(store: &dyn Store, owner: &UserKey) -> Outcome {
    let session = session(store, owner, now(store).await);
    commit(store, owner, vec![begins(&session)]).await
}

/// Blocks a place until this time.
pub(super) async fn set(store: &dyn Store, scope: &PolicyScope, until: Option<Timestamp>) -> Block {
    let (at, by) = (now(store).await, Actor::Application);
    let reason = Some("an incident".parse().unwrap());
    let block = Block { reason, until, since: at, by: by.clone() };
    let change = BlockChange { scope: scope.clone(), block: Some(block.clone()), at, by };
    store.set_block(&change).await.unwrap();
    block
}

/// Lifts the block of a place.
pub(super) async fn lift(store: &dyn Store, scope: &PolicyScope) {
    let (at, by) = (now(store).await, Actor::Application);
    let change = BlockChange { scope: scope.clone(), block: None, at, by };
    store.set_block(&change).await.unwrap();
}
