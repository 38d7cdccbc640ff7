//! A server that has reached `maxmemory` and evicts nothing, of the test's own.

use std::time::Duration;

use session_conformance::sample::{
    PATIENCE, commit, end, end_all, insert, now, session, sweep_all, user, user_in,
};
use session_core::store::{Change, Commit, Entries, Outcome, Selection};
use session_core::{Actor, EndCause, EventKind, Store, StoreErrorKind};
use session_store_redis::RedisOptions;

use crate::server::{Server, program};

async fn set_memory(server: &Server, bytes: u32) {
    let client = redis::Client::open(server.url()).unwrap();
    let mut admin = client.get_multiplexed_async_connection().await.unwrap();
    let mut set = redis::cmd("CONFIG");
    set.arg("SET").arg("maxmemory").arg(bytes).arg("maxmemory-policy").arg("noeviction");
    set.query_async::<()>(&mut admin).await.unwrap();
}

/// Nothing begins, and everything can be ended: by a commit, by a selection, and by the cleanup. What
/// ends is in the history and in the log.
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
