//! A server that has reached `maxmemory` and evicts nothing, of the test's own.

use std::time::Duration;

use session_conformance::sample::{
    PATIENCE, commit, end, end_all, insert, now, session, sweep_all, user, user_in,
};
use session_core::block::Block;
use session_core::policy::{Policy, PolicyScope, PreventConcurrentLogin};
use session_core::store::{
    BlockChange, Change, Commit, Entries, Outcome, PolicyChange, Selection, Touch,
};
use session_core::{Actor, EndCause, EventKind, Session, Store, StoreErrorKind};
use session_store_redis::{RedisOptions, RedisStore, Replicas};

use crate::server::{Server, program};

async fn set_memory(server: &Server, bytes: u32) {
    let client = redis::Client::open(server.url()).unwrap();
    let mut admin = client.get_multiplexed_async_connection().await.unwrap();
    let mut set = redis::cmd("CONFIG");
    set.arg("SET").arg("maxmemory").arg(bytes).arg("maxmemory-policy").arg("noeviction");
    set.query_async::<()>(&mut admin).await.unwrap();
}

/// Nothing begins, and everything can be ended: by a commit, by a selection, and by the cleanup.
/// What ends is in the history and in the log.
#[tokio::test]
async fn a_full_server_ends_sessions() {
    let server = Server::start(&program().await, None);
    let mut options = RedisOptions::default();
    options.timeout = PATIENCE;
    let store = server.store(&options).await;
    let at = now(&store).await;
    let owners = [user_in("north", "alice"), user_in("north", "bob"), user("carol")];
    let [signed_out, revoked, mut overdue] = owners.each_ref().map(|o| session(&store, o, at));
    overdue.deadline = at;
    for begun in [&signed_out, &revoked, &overdue] {
        insert(&store, begun).await;
    }
    let cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;

    set_memory(&server, 1).await;
    let late = session(&store, &user("dora"), at);
    let refused = Commit {
        owner: late.owner.clone(),
        expected: store.user(&late.owner).await.unwrap().version,
        changes: vec![Change::Insert(Box::new(late))],
        at,
        by: Actor::Application,
        from: None,
    };
    let error = store.commit(&refused).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    let ends = vec![Change::End(signed_out.id, EndCause::SignedOut)];
    assert_eq!(commit(&store, &signed_out.owner, ends).await, Outcome::Done);
    let selected = end(&store, Selection::user(revoked.owner.clone())).await;
    assert_eq!(end_all(&store, selected, 10).await.len(), 1);
    assert_eq!(sweep_all(&store, Duration::ZERO, 10).await.len(), 1);
    let told = store.log_since(Some(&cursor), Entries::All, 10).await.unwrap().events;
    let causes = [
        (&signed_out, EndCause::SignedOut),
        (&revoked, EndCause::Revoked),
        (&overdue, EndCause::Expired),
    ];
    let kinds: Vec<_> = told.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, causes.map(|(_, cause)| EventKind::Ended(cause)));
    for (session, cause) in causes {
        assert_eq!(store.load(session.id).await.unwrap(), None);
        let ended = store.ended(session.id).await.unwrap().unwrap();
        assert_eq!((&ended.session, ended.cause), (session, cause));
    }

    set_memory(&server, 0).await;
    assert_eq!(store.commit(&refused).await.unwrap(), Outcome::Done);
    assert_eq!(store.audit().await.unwrap(), [""; 0]);
}

/// What keeps sessions in use, what keeps users out, and a new node.
async fn all_else_goes_on(store: &RedisStore, open: impl AsyncFn() -> RedisStore, used: &Session) {
    let later = used.last_accessed.plus(Duration::from_secs(1));
    let (id, deadline) = (used.id, later.plus(Duration::from_secs(60)));
    let ip_addresses = vec![[192, 0, 2, 77].into()];
    let touch = Touch { id, last_accessed: later, deadline, claimed: true, ip_addresses };
    assert_eq!(store.touch(&[touch]).await.unwrap(), []);
    let read = store.load(id).await.unwrap().unwrap().session;
    assert_eq!((read.last_accessed, read.claimed, read.ip_addresses.len()), (later, true, 2));

    let session = Box::new(Session { data: None, ..read });
    let rotated = vec![Change::Update { session, kind: EventKind::Rotated }];
    assert_eq!(commit(store, &used.owner, rotated).await, Outcome::Done);
    let claims = vec![Change::ClaimsChanged(id)];
    assert_eq!(commit(store, &used.owner, claims).await, Outcome::Done);
    assert!(store.lease("cleanup", "one", Duration::from_secs(60)).await.unwrap());

    let (at, by) = (now(store).await, Actor::Application);
    for scope in PolicyScope::of(&used.owner) {
        let block = Some(Block { reason: None, until: None, since: at, by: by.clone() });
        let set = BlockChange { scope: scope.clone(), block: block.clone(), at, by: by.clone() };
        store.set_block(&set).await.unwrap();
        assert_eq!(store.block(&scope).await.unwrap(), block);
        let lift = BlockChange { block: None, ..set };
        store.set_block(&lift).await.unwrap();
        let policy = Some(Policy::from(PreventConcurrentLogin::LogoutFromAllDevices));
        let change = PolicyChange { scope, policy, at, by: by.clone() };
        store.set_policy(&change).await.unwrap();
    }
    let fresh = open().await;
    assert_eq!(fresh.load(id).await.unwrap().unwrap().session.last_accessed, later);
    let all = end(&fresh, Selection::user(used.owner.clone())).await;
    assert_eq!(end_all(&fresh, all, 10).await.len(), 1);
    assert_eq!(store.load(id).await.unwrap(), None);
}

#[tokio::test]
async fn on_a_full_server_all_but_sign_ins_goes_on() {
    let program = program().await;
    let master = Server::start(&program, None);
    let _replica = Server::start(&program, Some(master.port));
    let mut options = RedisOptions::default();
    options.timeout = PATIENCE;
    for replicas in [None, Some(Replicas { count: 1, within: PATIENCE })] {
        options.replicas = replicas;
        let store = master.store(&options).await;
        let used = session(&store, &user_in("north", "alice"), now(&store).await);
        insert(&store, &used).await;
        set_memory(&master, 1).await;
        all_else_goes_on(&store, || master.store(&options), &used).await;
        set_memory(&master, 0).await;
        assert_eq!(store.audit().await.unwrap(), [""; 0]);
    }
}

/// The first shard, in which others are announced, is on the full server, too.
#[tokio::test]
async fn on_a_full_cluster_all_but_sign_ins_goes_on() {
    let server = Server::cluster(&program().await, None).await;
    let mut options = RedisOptions::default();
    options.timeout = PATIENCE;
    let url = server.cluster_url();
    let open = async || RedisStore::connect_with(&url, options.clone()).await.unwrap();
    let (store, full) = (open().await, open().await);
    let used = session(&store, &user_in("north", "alice"), now(&store).await);
    insert(&store, &used).await;
    set_memory(&server, 1).await;
    // A node that has announced nothing yet.
    all_else_goes_on(&full, open, &used).await;
    set_memory(&server, 0).await;
    assert_eq!(store.audit().await.unwrap(), [""; 0]);
}
