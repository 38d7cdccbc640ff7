//! One server.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use redis::aio::MultiplexedConnection;
use session_core::policy::PolicyScope;
use session_core::store::{
    Change, Commit, Cursor, Entries, Forget, Needs, Outcome, PolicyChange, Selection, TenantFilter,
    Touch,
};
use session_core::{Actor, EndCause, FleetKey, Session, SessionId, Store, StoreErrorKind};
use session_store_redis::{RedisOptions, RedisStore, Replicas};

use crate::monitor::Monitor;
use crate::namespace::{ALONE, Prefix, Single, url};
use crate::random;
use session_conformance::sample::{
    PATIENCE, end, end_all, insert, now, revoke, session, sweep_all, user, user_in,
};

#[tokio::test(flavor = "multi_thread")]
async fn keeps_every_guarantee() {
    let _shared = ALONE.read().await;
    let report = session_conformance::run(Arc::new(Single)).await;
    println!("{report}");
    assert!(report.passed(), "{report}");
}

async fn admin() -> MultiplexedConnection {
    redis::Client::open(url()).unwrap().get_multiplexed_async_connection().await.unwrap()
}

pub(crate) async fn ask<T: redis::FromRedisValue>(command: &mut redis::Cmd) -> T {
    command.query_async(&mut admin().await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn random_operations_leave_no_orphan() {
    let _shared = ALONE.read().await;
    random::operations(&Prefix::new(false), 20_000).await;
}

/// The checker can fail: it complains of what is planted or taken away.
#[tokio::test]
async fn orphans_and_gaps_are_found() {
    let _shared = ALONE.read().await;
    let prefix = Prefix::new(false);
    let store = prefix.store().await;
    let at = now(&store).await;
    let (mine, ended) = (
        session(&store, &user_in("north", "alice"), at),
        session(&store, &user_in("north", "bob"), at),
    );
    insert(&store, &mine).await;
    insert(&store, &ended).await;
    assert_eq!(revoke(&store, ended.id).await, 1);
    assert_eq!(store.audit().await.unwrap(), [""; 0]);
    let keys: Vec<String> =
        ask(redis::cmd("KEYS").arg(format!("{}*", prefix.options.prefix))).await;
    let indexes = [":all", ":due", ":t:north", ":n:alice"];
    for index in indexes {
        let index = keys.iter().find(|key| key.ends_with(index)).unwrap();
        ask::<()>(redis::cmd("ZADD").arg(index).arg(0).arg(vec![9_u8; 30])).await;
        assert_eq!(store.audit().await.unwrap().len(), 1, "{index}");
        ask::<()>(redis::cmd("ZREM").arg(index).arg(vec![9_u8; 30])).await;
    }
    let histories = [":history", ":ht:north", ":hu:"];
    for index in indexes.iter().chain(&histories) {
        let index = keys.iter().find(|key| key.contains(index)).unwrap();
        let taken: Vec<(Vec<u8>, f64)> = ask(redis::cmd("ZPOPMIN").arg(index)).await;
        assert_eq!(store.audit().await.unwrap().len(), 1, "{index}");
        ask::<()>(redis::cmd("ZADD").arg(index).arg(taken[0].1).arg(&taken[0].0)).await;
        assert_eq!(store.audit().await.unwrap(), [""; 0]);
    }
    let blocked = format!("{}{{0}}:blocked", prefix.options.prefix);
    ask::<()>(redis::cmd("HSET").arg(&blocked).arg("\0\0").arg("1 ")).await;
    assert_eq!(store.audit().await.unwrap().len(), 1);
    ask::<()>(redis::cmd("DEL").arg(blocked)).await;
    ask::<()>(redis::cmd("PERSIST").arg(keys.iter().find(|key| key.contains(":h:")))).await;
    assert_eq!(store.audit().await.unwrap().len(), 1);
    let record = keys.iter().find(|key| key.contains(":u:")).unwrap();
    ask::<()>(redis::cmd("DEL").arg(record)).await;
    assert_eq!(store.audit().await.unwrap().len(), 5);
}

/// Two round trips for a sign-in, also for one that evicts, counted as what the server was asked.
#[tokio::test]
async fn operations_cost_few_round_trips() {
    // Alone, for others have the server forget its scripts.
    let _alone = ALONE.write().await;
    let prefix = Prefix::new(false);
    let store = prefix.store().await;
    // The first call of a script costs one more.
    let at = now(&store).await;
    let warm = session(&store, &user("bob"), at);
    insert(&store, &warm).await;
    let later = at.plus(Duration::from_secs(1));
    let touch = |id| Touch {
        id,
        last_accessed: later,
        deadline: later,
        claimed: true,
        ip_addresses: Vec::new(),
    };
    store.touch(&[touch(warm.id)]).await.unwrap();
    let mut ending = end(&store, Selection::session(warm.id, TenantFilter::Any)).await;
    assert_eq!(store.end_many(&ending, 10).await.unwrap().ended.len(), 1);
    let cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
    store.log_since(Some(&cursor), Entries::All, 1).await.unwrap();
    let mut monitor = Monitor::of([url()]).await;
    let mut asked = async || monitor.asked(&prefix).await;
    asked().await;
    let only = |commands: &[&str]| -> HashMap<String, u32> {
        commands.iter().map(|command| ((*command).to_owned(), 1)).collect()
    };
    let [first, mine] = [(); 2].map(|()| session(&store, &user("alice"), at));
    let evict = Change::End(first.id, EndCause::Evicted);
    for changes in [vec![insertion(&first)], vec![evict, insertion(&mine)]] {
        let expected = store.user(&mine.owner).await.unwrap().version;
        let (owner, by, from) = (mine.owner.clone(), Actor::Application, None);
        let sign_in = Commit { owner, expected, changes, at, by, from };
        assert_eq!(store.commit(&sign_in).await.unwrap(), Outcome::Done);
        // The two reads leave together; the script is the second round trip.
        assert_eq!(asked().await, only(&["hgetall", "hmget", "evalsha"]));
    }
    store.load(mine.id).await.unwrap();
    assert_eq!(asked().await, only(&["hmget"]));
    store.touch(&[touch(mine.id), touch(mine.id)]).await.unwrap();
    assert_eq!(asked().await, only(&["evalsha"]));
    store.log_since(Some(&cursor), Entries::All, 100).await.unwrap();
    assert_eq!(asked().await, only(&["evalsha"]));
    // What is chosen is read first, and ended by one script.
    ending.selection = Selection::session(mine.id, TenantFilter::Any);
    assert_eq!(store.end_many(&ending, 10).await.unwrap().ended.len(), 1);
    assert_eq!(asked().await, only(&["hget", "evalsha"]));
    assert!(store.ended(mine.id).await.unwrap().is_some());
    assert_eq!(asked().await, only(&["get"]));
}

fn insertion(session: &Session) -> Change {
    Change::Insert(Box::new(session.clone()))
}

/// In a rolling upgrade a node of an older version may start again beside newer ones.
#[tokio::test]
async fn newer_keys_say_which_versions_may_use_them() {
    let _shared = ALONE.read().await;
    let prefix = Prefix::new(false);
    let store = prefix.store().await;
    let mine = session(&store, &user("alice"), now(&store).await);
    insert(&store, &mine).await;
    let agreement = format!("{}{{0}}:agreement", prefix.options.prefix);
    let known: i64 = ask(redis::cmd("HGET").arg(&agreement).arg("version")).await;
    for (version, oldest, may_use) in [
        (known + 1, None, false),
        (known + 1, Some(known + 1), false),
        (known + 1, Some(known), true),
        (known + 9, Some(known - 1), true),
        (known - 1, Some(known - 1), false),
    ] {
        ask::<()>(redis::cmd("HSET").arg(&agreement).arg("version").arg(version)).await;
        if let Some(oldest) = oldest {
            ask::<()>(redis::cmd("HSET").arg(&agreement).arg("oldest").arg(oldest)).await;
        }
        match RedisStore::connect_with(&url(), prefix.options.clone()).await {
            Ok(older) => {
                assert!(may_use, "{version}, {oldest:?}");
                assert!(older.load(mine.id).await.unwrap().is_some());
            }
            Err(error) => {
                assert!(!may_use, "{version}, {oldest:?}: {error}");
                assert_eq!(error.kind(), StoreErrorKind::Internal);
                assert!(error.to_string().contains(&format!("version {version},")), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn forgotten_scripts_are_sent_again() {
    let _shared = ALONE.read().await;
    let store = Prefix::new(false).store().await;
    for _ in 0..3 {
        ask::<()>(redis::cmd("SCRIPT").arg("FLUSH")).await;
        insert(&store, &session(&store, &user("alice"), now(&store).await)).await;
    }
    assert_eq!(store.user(&user("alice")).await.unwrap().sessions.len(), 3);
}

/// Entries beyond the cap stay while they are young, up to ten caps. A reader that fell out of the
/// log knows, and the report says that it reaches back too little.
#[tokio::test]
async fn a_capped_log_keeps_what_is_young_as_long_as_it_can() {
    let _shared = ALONE.read().await;
    let mut prefix = Prefix::new(false);
    prefix.options.log_cap = 10;
    let store = prefix.store().await;
    let begin = store.log_since(None, Entries::All, 1).await.unwrap().next;
    let told = async |cursor: &Cursor| store.log_since(Some(cursor), Entries::All, 1000).await;
    let add = async |count| {
        for _ in 0..count {
            insert(&store, &session(&store, &user("alice"), now(&store).await)).await;
        }
    };
    add(80).await;
    assert_eq!(told(&begin).await.unwrap().events.len(), 80, "they are young");
    assert_eq!(store.report().await.unwrap().problems, [""; 0]);
    let middle = told(&begin).await.unwrap().next;
    // More than ten caps and a node of the stream.
    add(70).await;
    let page = told(&begin).await.unwrap();
    assert!(page.gap && page.events.is_empty(), "more than ten caps do not stay");
    assert_eq!(told(&middle).await.unwrap().events.len(), 70);
    let problems = store.report().await.unwrap().problems;
    assert!(problems.len() == 1 && problems[0].contains("log_cap"), "{problems:?}");
    // To a node that trusts its cache for less long, all of them are old.
    store.configure(&Needs { history: Duration::ZERO, max_staleness: Duration::ZERO });
    add(1).await;
    assert!(told(&middle).await.unwrap().gap, "the old ones go down to the cap");
    let report = store.report().await.unwrap();
    assert_eq!(report.problems, [""; 0]);
    let length = report.details.iter().find(|(name, _)| name == "log entries").unwrap();
    assert!((10..60).contains(&length.1.parse().unwrap()), "{length:?}");
    end_all(&store, end(&store, Selection::user(user("alice"))).await, 500).await;
}

/// A restored backup continues where it had been, with other entries of the same numbers.
#[tokio::test]
async fn a_log_that_went_another_way_is_noticed() {
    let _shared = ALONE.read().await;
    let prefix = Prefix::new(false);
    let store = prefix.store().await;
    let owner = user("alice");
    insert(&store, &session(&store, &owner, now(&store).await)).await;
    let log: Vec<String> =
        ask(redis::cmd("KEYS").arg(format!("{}*:log", prefix.options.prefix))).await;
    let backup: Vec<u8> = ask(redis::cmd("DUMP").arg(&log[0])).await;
    insert(&store, &session(&store, &owner, now(&store).await)).await;
    let cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
    assert!(!store.log_since(Some(&cursor), Entries::All, 10).await.unwrap().gap);
    let restore = ["RESTORE"];
    ask::<()>(redis::cmd(restore[0]).arg(&log[0]).arg(0).arg(&backup).arg("REPLACE")).await;
    assert!(store.log_since(Some(&cursor), Entries::All, 10).await.unwrap().gap, "it is shorter");
    insert(&store, &session(&store, &owner, now(&store).await)).await;
    assert!(
        store.log_since(Some(&cursor), Entries::All, 10).await.unwrap().gap,
        "it went another way"
    );
}

/// Deleting all keys under running nodes deletes what the nodes agree on, too.
#[tokio::test]
async fn nodes_of_an_emptied_server_agree_again_or_stop() {
    let _shared = ALONE.read().await;
    let prefix = Prefix::new(false);
    let store = prefix.store().await;
    let owner = user("alice");
    let [ours, theirs] = [1, 2].map(|n| FleetKey::from_bytes([n; 32]));
    assert_eq!(store.fleet_key(&ours).await.unwrap(), ours);
    let cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
    let empty = async || {
        let all = format!("{}*", prefix.options.prefix);
        let keys: Vec<String> = ask(redis::cmd("KEYS").arg(all)).await;
        ask::<()>(redis::cmd("DEL").arg(keys)).await;
    };
    empty().await;
    assert!(store.log_since(Some(&cursor), Entries::All, 10).await.unwrap().gap);
    let newcomer = prefix.store().await;
    let mine = session(&store, &owner, now(&store).await);
    insert(&store, &mine).await;
    assert_eq!(newcomer.user(&owner).await.unwrap().sessions.len(), 1, "they agree");
    assert_eq!(newcomer.fleet_key(&theirs).await.unwrap(), ours);
    let cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
    empty().await;
    let _another = prefix.store().await;
    let error = store.log_since(Some(&cursor), Entries::All, 10).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Internal, "{error}");
}

/// A node that knows another key of the fleet would refuse the tokens of the others.
#[tokio::test]
async fn a_node_with_another_key_of_the_fleet_stops() {
    let _shared = ALONE.read().await;
    let prefix = Prefix::new(false);
    let (one, other) = (prefix.store().await, prefix.store().await);
    let [ours, theirs] = [1, 2].map(|n| FleetKey::from_bytes([n; 32]));
    assert_eq!(one.fleet_key(&ours).await.unwrap(), ours);
    let cursor = one.log_since(None, Entries::All, 0).await.unwrap().next;
    let key = |name| format!("{}{{0}}:{name}", prefix.options.prefix);
    ask::<()>(redis::cmd("HDEL").arg(key("agreement")).arg("fleet")).await;
    ask::<()>(redis::cmd("DEL").arg(key("log"))).await;
    assert_eq!(other.fleet_key(&theirs).await.unwrap(), theirs);
    let error = one.log_since(Some(&cursor), Entries::All, 10).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Internal, "{error}");
}

/// Where a change has to be on a replica and there is none, it is not acknowledged.
#[tokio::test]
async fn a_change_without_its_replicas_is_not_acknowledged() {
    let _shared = ALONE.read().await;
    let mut prefix = Prefix::new(false);
    let store = prefix.store().await;
    let mine = session(&store, &user("alice"), now(&store).await);
    insert(&store, &mine).await;
    prefix.options.replicas = Some(Replicas { count: 1, within: Duration::from_millis(50) });
    // Even what all nodes agree on is such a change.
    let error = RedisStore::connect_with(&url(), prefix.options.clone()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.to_string().contains("0 of 1 replicas"), "{error}");
}

#[tokio::test]
async fn an_id_that_the_store_did_not_make_is_a_conflict() {
    let _shared = ALONE.read().await;
    let store = Prefix::new(false).store().await;
    let mut foreign = session(&store, &user("alice"), now(&store).await);
    foreign.id = SessionId::from_random([3; 16]);
    let change = Change::Insert(Box::new(foreign.clone()));
    let commit = Commit {
        owner: foreign.owner.clone(),
        expected: store.user(&foreign.owner).await.unwrap().version,
        changes: vec![change],
        at: foreign.signed_in,
        by: Actor::Application,
        from: None,
    };
    assert_eq!(store.commit(&commit).await.unwrap(), Outcome::Conflict);
    assert_eq!(store.user(&foreign.owner).await.unwrap().sessions, []);
}

/// A user and a database number from the URL; a user that may not is told so.
#[tokio::test]
async fn users_and_databases_come_from_the_url() {
    let _shared = ALONE.read().await;
    let prefix = Prefix::new(false);
    let name = prefix.options.prefix.trim_end_matches(':');
    let allow = |rule: String| {
        let mut set = redis::cmd("ACL");
        set.arg("SETUSER").arg(name).arg("on").arg(">secret").arg(rule);
        // Those that the documentation names.
        let channels = format!("&{}*", prefix.options.prefix);
        let commands = "+@read +@write +@scripting +@pubsub +@connection +time +info";
        set.arg(channels).arg(commands.split(' ').collect::<Vec<_>>());
        set
    };
    ask::<()>(&mut allow(format!("~{}*", prefix.options.prefix))).await;
    let host = url().replacen("redis://", &format!("redis://{name}:secret@"), 1);
    let store =
        RedisStore::connect_with(&format!("{host}/3"), prefix.options.clone()).await.unwrap();
    let mine = session(&store, &user("alice"), now(&store).await);
    insert(&store, &mine).await;
    let client = redis::Client::open(format!("{host}/3")).unwrap();
    let same = RedisStore::with_client(client, prefix.options.clone()).await.unwrap();
    assert_eq!(same.load(mine.id).await.unwrap().unwrap().session, mine);
    let touch = Touch {
        id: mine.id,
        last_accessed: mine.last_accessed,
        deadline: mine.deadline,
        claimed: true,
        ip_addresses: Vec::new(),
    };
    assert_eq!(store.touch(&[touch]).await.unwrap(), []);
    assert_eq!(revoke(&store, mine.id).await, 1);
    assert_eq!(sweep_all(&store, Duration::ZERO, 10).await, []);
    assert_eq!(store.forget(&Forget::User(mine.owner), 10).await.unwrap(), 1);
    store.trim_log(Duration::ZERO, 10).await.unwrap();
    store.report().await.unwrap();
    // They have subscribed.
    store.changed().await;
    assert!(store.pushes());
    let here: Vec<String> =
        ask(redis::cmd("KEYS").arg(format!("{}*", prefix.options.prefix))).await;
    assert_eq!(here, [""; 0], "it is in another database");
    drop(store);
    let mut elsewhere = RedisOptions::default();
    elsewhere.prefix = "not-mine:".to_owned();
    let error = RedisStore::connect_with(&host, elsewhere).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Internal, "{error}");
    let wrong = host.replace("secret", "wrong");
    let error = RedisStore::connect_with(&wrong, prefix.options.clone()).await.unwrap_err();
    assert_ne!(error.to_string(), "");
    ask::<()>(redis::cmd("ACL").arg("DELUSER").arg(name)).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_in_time() {
    let mut options = RedisOptions::default();
    options.timeout = Duration::from_millis(300);
    let begun = Instant::now();
    let error = RedisStore::connect_with("redis://127.0.0.1:1", options.clone()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    assert!(begun.elapsed() < PATIENCE);
    let error = RedisStore::connect_with("nonsense", options.clone()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Internal, "{error}");
    options.prefix = "a{b".to_owned();
    assert_eq!(options.validate().unwrap_err().field, "prefix");
    options.prefix.clear();
    options.shards = Some(0);
    assert_eq!(options.validate().unwrap_err().field, "shards");
    options.shards = None;
    options.replicas = Some(Replicas { count: 1, within: Duration::from_micros(999) });
    assert_eq!(options.validate().unwrap_err().field, "replicas.within");
}

/// Every node would read the log for every sign-in of the fleet, and has nothing of it cached.
#[tokio::test]
async fn what_invalidates_nothing_is_not_published() {
    let _shared = ALONE.read().await;
    let prefix = Prefix::new(false);
    let store = prefix.store().await;
    let client = redis::Client::open(url()).unwrap();
    let mut listening = client.get_async_pubsub().await.unwrap();
    let channels = format!("{}*", prefix.options.prefix);
    listening.psubscribe(&channels).await.unwrap();
    let mine = session(&store, &user("alice"), now(&store).await);
    insert(&store, &mine).await;
    let (scope, at) = (PolicyScope::Deployment, now(&store).await);
    let change = PolicyChange { scope, policy: None, at, by: Actor::Application };
    store.set_policy(&change).await.unwrap();
    assert_eq!(revoke(&store, mine.id).await, 1);
    let end = format!("{}end", prefix.options.prefix);
    ask::<()>(redis::cmd("PUBLISH").arg(&end).arg("")).await;
    let mut messages = listening.on_message();
    let mut published = 0;
    while messages.next().await.unwrap().get_channel_name() != end {
        published += 1;
    }
    assert_eq!(published, 1, "of the revocation");
}
