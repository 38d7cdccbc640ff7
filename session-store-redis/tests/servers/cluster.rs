//! A cluster.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
#[cfg(feature = "fault-tests")]
use std::time::Duration;
use std::time::Instant;

use redis::aio::MultiplexedConnection;
use session_core::store::{Entries, Selection, TenantFilter};
use session_core::{Actor, SessionId, Store, UserKey};
use session_engine::{Access, Engine, SignIn};
use session_store_redis::RedisStore;
use tokio::task::JoinSet;

use crate::monitor::Monitor;
use crate::namespace::{ALONE, Cluster, Prefix, cluster_urls};
use crate::random;
use session_conformance::sample::{
    PATIENCE, end, end_all, insert, load, now, options, options_for_hints, session, user,
};

#[tokio::test(flavor = "multi_thread")]
async fn keeps_every_guarantee() {
    let _shared = ALONE.read().await;
    let report = session_conformance::run(Arc::new(Cluster)).await;
    println!("{report}");
    assert!(report.passed(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn random_operations_leave_no_orphan() {
    let _shared = ALONE.read().await;
    random::operations(&Prefix::new(true), 20_000).await;
}

/// The nodes read the log by themselves far too rarely.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_makes_a_revocation_immediate() {
    let _shared = ALONE.read().await;
    for is_cluster in [false, true] {
        let prefix = Prefix::new(is_cluster);
        let here = Engine::start(prefix.store().await, options_for_hints()).await.unwrap();
        let there = Engine::start(prefix.store().await, options_for_hints()).await.unwrap();
        let mut delays = Vec::new();
        for n in 0..100 {
            let owner = user(&format!("user {n}"));
            let signed_in = here.sessions().sign_in(SignIn::new(owner.clone())).await.unwrap();
            let token = signed_in.token.expose();
            let validate = || there.sessions().validate(token.as_bytes(), Access::default());
            assert!(validate().await.unwrap().session().is_some());
            here.sessions().revoke_user(owner, Actor::Application).await.unwrap();
            let revoked = Instant::now();
            while validate().await.unwrap().session().is_some() {
                assert!(revoked.elapsed() < PATIENCE, "no hint is heard");
                tokio::task::yield_now().await;
            }
            delays.push(revoked.elapsed());
        }
        delays.sort();
        println!(
            "refused by the other node after: median {:?}, 99th of 100 {:?}, cluster: {is_cluster}",
            delays[50], delays[98]
        );
        here.shutdown().await;
        there.shutdown().await;
    }
}

/// Sessions are spread over the masters about evenly, and a page finds them all.
#[tokio::test]
async fn sessions_are_spread_over_all_masters() {
    let _shared = ALONE.read().await;
    let prefix = Prefix::new(true);
    let store = prefix.store().await;
    for n in 0..300 {
        let owner = user(&format!("user {n}"));
        insert(&store, &session(&store, &owner, now(&store).await)).await;
    }
    let mut shares = Vec::new();
    for url in cluster_urls() {
        let mut node = node(&url).await;
        let role: String =
            redis::cmd("INFO").arg("replication").query_async(&mut node).await.unwrap();
        if role.contains("role:master") {
            let pattern = format!("{}*:u:*", prefix.options.prefix);
            let keys: Vec<String> =
                redis::cmd("KEYS").arg(pattern).query_async(&mut node).await.unwrap();
            shares.push(keys.len());
        }
    }
    println!("300 users on three masters: {shares:?}");
    assert_eq!(shares.iter().sum::<usize>(), 300);
    assert!(shares.len() == 3 && shares.iter().all(|share| *share > 50), "{shares:?}");
    let all = end(&store, Selection::within(TenantFilter::Any)).await;
    assert_eq!(end_all(&store, all, 500).await.len(), 300);
}

/// One statement for each read of the log, for any number of shards and of servers; and nothing
/// that was acknowledged is missed for it.
#[tokio::test]
async fn an_idle_node_reads_the_log_of_all_shards_by_one_statement() {
    let _alone = ALONE.write().await;
    let prefix = Prefix::new(true);
    let (reader, writer) = (prefix.store().await, prefix.store().await);
    // They have subscribed.
    tokio::join!(reader.changed(), writer.changed());
    let mut monitor = Monitor::of(masters().await.iter().map(Master::url)).await;
    let cursor = RefCell::new(reader.log_since(None, Entries::All, 1).await.unwrap().next);
    let read = async || {
        let from = cursor.borrow().clone();
        let page = reader.log_since(Some(&from), Entries::All, 100).await.unwrap();
        assert!(!page.gap && !page.more);
        cursor.replace(page.next);
        page.events.len()
    };
    monitor.asked(&prefix).await;
    // As many as an engine makes in a minute.
    for _ in 0..120 {
        assert_eq!(read().await, 0);
    }
    let asked = monitor.asked(&prefix).await;
    assert!((120..=130).contains(&asked.values().sum::<u32>()), "{asked:?}");
    for _ in 0..2 {
        let mut sessions = Vec::new();
        for n in 0..40 {
            let at = now(&writer).await;
            let mine = session(&writer, &user(&format!("user {n}")), at);
            insert(&writer, &mine).await;
            assert_eq!(read().await, 1, "it was acknowledged");
            sessions.push(mine.id);
        }
        let ids = Selection::within(TenantFilter::Any).among(sessions);
        assert_eq!(end_all(&writer, end(&writer, ids).await, 500).await.len(), 40);
        assert_eq!(read().await, 40, "they were acknowledged");
        // It goes back to one statement by itself.
        let begun = Instant::now();
        loop {
            monitor.asked(&prefix).await;
            assert_eq!(read().await, 0);
            if monitor.asked(&prefix).await.values().sum::<u32>() == 1 {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "it reads for ever what does not change");
        }
        println!("one statement {:?} after the last change", begun.elapsed());
    }
}

pub(crate) async fn node(url: &str) -> MultiplexedConnection {
    redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
}

/// Sign-ins and revocations of several nodes for as long as something else goes on.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    failures: Arc<AtomicUsize>,
    workers: JoinSet<Vec<(SessionId, bool)>>,
    nodes: Vec<Arc<Engine>>,
}

impl Traffic {
    pub(crate) async fn begin(prefix: &Prefix, workers: usize) -> Self {
        let mut nodes = Vec::new();
        for _ in 0..2 {
            let engine = Engine::start(prefix.store().await, options()).await.unwrap();
            nodes.push(Arc::new(engine));
        }
        let mut traffic = Self {
            stop: Arc::default(),
            acknowledged: Arc::default(),
            failures: Arc::default(),
            workers: JoinSet::new(),
            nodes,
        };
        for worker in 0..workers {
            let node = Arc::clone(&traffic.nodes[worker % 2]);
            let (stop, acknowledged, failures) = (
                Arc::clone(&traffic.stop),
                Arc::clone(&traffic.acknowledged),
                Arc::clone(&traffic.failures),
            );
            traffic.workers.spawn(async move {
                let mut done = Vec::new();
                for n in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let owner = user(&format!("user {worker} {n}"));
                    match change(&node, &owner, n % 2 == 0).await {
                        Ok(change) => {
                            done.push(change);
                            acknowledged.fetch_add(1, Ordering::SeqCst);
                        }
                        Err(error) => {
                            assert!(error.is_unavailable(), "{error:?}");
                            failures.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }
                done
            });
        }
        traffic
    }

    /// Waits until so many more changes have been acknowledged.
    pub(crate) async fn passes(&self, more: usize) {
        let goal = self.acknowledged.load(Ordering::SeqCst) + more;
        let begun = Instant::now();
        while self.acknowledged.load(Ordering::SeqCst) < goal {
            assert!(begun.elapsed() < PATIENCE * 2, "the traffic goes on by itself");
            tokio::task::yield_now().await;
        }
    }

    /// Stops, and checks that what was acknowledged is there.
    pub(crate) async fn end(mut self, prefix: &Prefix) -> (usize, usize) {
        self.stop.store(true, Ordering::SeqCst);
        let mut done = Vec::new();
        while let Some(worker) = self.workers.join_next().await {
            done.extend(worker.unwrap());
        }
        let store = prefix.store().await;
        for (id, revoked) in &done {
            let found = load(&store, *id).await;
            assert_eq!(found.is_none(), *revoked, "{id} is not as it was acknowledged");
        }
        for node in self.nodes {
            Arc::into_inner(node).unwrap().shutdown().await;
        }
        assert_eq!(store.audit().await.unwrap(), [""; 0]);
        (done.len(), self.failures.load(Ordering::SeqCst))
    }
}

async fn change(
    node: &Engine,
    owner: &UserKey,
    revoked: bool,
) -> Result<(SessionId, bool), session_engine::Error> {
    let signed_in = node.sessions().sign_in(SignIn::new(owner.clone())).await?;
    if revoked {
        node.sessions().revoke_user(owner.clone(), Actor::Application).await?;
    }
    Ok((signed_in.session.id(), revoked))
}

/// A slot moves from one master to another, key by key, while its users sign in: `ASK` for what
/// has moved, `TRYAGAIN` for what is in two places, `MOVED` at the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_moves_while_its_users_sign_in() {
    let _alone = ALONE.write().await;
    let mut prefix = Prefix::new(true).with_its_timeout();
    // All users in one slot.
    prefix.options.shards = Some(1);
    let traffic = Traffic::begin(&prefix, 4).await;
    traffic.passes(50).await;
    let slot = slot_of(&prefix).await;
    let masters = masters().await;
    let from = masters.iter().position(|master| master.slots.contains(&slot)).unwrap();
    let (from, to) = (&masters[from], &masters[(from + 1) % masters.len()]);
    set_slot(to, slot, &["IMPORTING", &from.id]).await;
    set_slot(from, slot, &["MIGRATING", &to.id]).await;
    let mut moved = HashSet::new();
    let mut source = node(&from.url()).await;
    loop {
        let keys: Vec<String> = redis::cmd("CLUSTER")
            .arg("GETKEYSINSLOT")
            .arg(slot)
            .arg(1)
            .query_async(&mut source)
            .await
            .unwrap();
        let Some(key) = keys.first() else { break };
        redis::cmd("MIGRATE")
            .arg("127.0.0.1")
            .arg(to.port)
            .arg(key)
            .arg(0)
            .arg(60_000)
            .exec_async(&mut source)
            .await
            .unwrap();
        moved.insert(key.clone());
    }
    for master in [to, from] {
        set_slot(master, slot, &["NODE", &to.id]).await;
    }
    traffic.passes(50).await;
    let (done, failures) = traffic.end(&prefix).await;
    println!("{} keys moved during {done} changes; {failures} failed as unavailable", moved.len());
    // Other tests find the slot where it was.
    let mut back = redis::cmd("CLUSTER");
    back.arg("COUNTKEYSINSLOT").arg(slot);
    let left: u64 = back.query_async(&mut source).await.unwrap();
    assert_eq!(left, 0);
}

pub(crate) struct Master {
    id: String,
    port: u16,
    slots: HashSet<u16>,
}

impl Master {
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

pub(crate) async fn masters() -> Vec<Master> {
    let mut any = node(&cluster_urls()[0]).await;
    let nodes: String = redis::cmd("CLUSTER").arg("NODES").query_async(&mut any).await.unwrap();
    let masters = nodes.lines().filter(|line| line.contains("master") && !line.contains("fail"));
    let parse = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let address = words[1].split('@').next().unwrap();
        let ranges = words[8..].iter().filter(|range| !range.starts_with('['));
        let slots = ranges.flat_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            first.parse::<u16>().unwrap()..=last.parse().unwrap()
        });
        Master {
            id: words[0].to_owned(),
            port: address.rsplit(':').next().unwrap().parse().unwrap(),
            slots: slots.collect(),
        }
    };
    masters.map(parse).filter(|master| !master.slots.is_empty()).collect()
}

async fn slot_of(prefix: &Prefix) -> u16 {
    let key = format!("{}{{0}}:log", prefix.options.prefix);
    let mut any = node(&cluster_urls()[0]).await;
    redis::cmd("CLUSTER").arg("KEYSLOT").arg(key).query_async(&mut any).await.unwrap()
}

async fn set_slot(master: &Master, slot: u16, state: &[&str]) {
    let mut set = redis::cmd("CLUSTER");
    set.arg("SETSLOT").arg(slot).arg(state);
    set.exec_async(&mut node(&master.url()).await).await.unwrap();
}

/// As tools name it, on one line.
#[tokio::test]
async fn one_url_names_some_servers() {
    let _shared = ALONE.read().await;
    let prefix = Prefix::new(true);
    let store = prefix.store().await;
    let mine = session(&store, &user("alice"), now(&store).await);
    insert(&store, &mine).await;
    let urls = cluster_urls();
    let hosts: Vec<_> = urls.iter().map(|url| url.trim_start_matches("redis://")).take(2).collect();
    let url = format!("redis-cluster://{}", hosts.join(","));
    let same = RedisStore::connect_with(&url, prefix.options.clone()).await.unwrap();
    assert_eq!(load(&same, mine.id).await.unwrap().session, mine);
    let shards = same.report().await.unwrap().details;
    assert!(shards.contains(&("shards".to_owned(), "32".to_owned())), "{shards:?}");
}

/// A master dies while its users sign in: its replica takes over, and what was acknowledged
/// by the replicas as well is there.
#[cfg(feature = "fault-tests")]
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_loses_nothing_that_a_replica_has() {
    use session_conformance::faults::Server;
    use session_store_redis::Replicas;

    let _alone = ALONE.write().await;
    let mut prefix = Prefix::new(true).with_its_timeout();
    prefix.options.replicas = Some(Replicas { count: 1, within: Duration::from_secs(1) });
    let traffic = Traffic::begin(&prefix, 8).await;
    traffic.passes(200).await;
    let doomed = &masters().await[0];
    let info: String =
        redis::cmd("INFO").arg("server").query_async(&mut node(&doomed.url()).await).await.unwrap();
    let pid = info.lines().find_map(|line| line.strip_prefix("process_id:")).unwrap();
    let killed = Instant::now();
    let status = std::process::Command::new("kill").args(["-9", pid.trim()]).status().unwrap();
    assert!(status.success());
    let failed = traffic.failures.load(Ordering::SeqCst);
    while traffic.failures.load(Ordering::SeqCst) == failed {
        assert!(killed.elapsed() < PATIENCE, "a third of the slots is gone");
        tokio::task::yield_now().await;
    }
    // The slots of the dead master have another one.
    loop {
        let urls = cluster_urls();
        let alive = urls.iter().find(|url| !url.ends_with(&format!(":{}", doomed.port))).unwrap();
        let mut alive = node(alive).await;
        let state: String =
            redis::cmd("CLUSTER").arg("INFO").query_async(&mut alive).await.unwrap();
        let nodes: String =
            redis::cmd("CLUSTER").arg("NODES").query_async(&mut alive).await.unwrap();
        if state.contains("cluster_state:ok")
            && nodes.lines().any(|line| line.starts_with(&doomed.id) && line.contains("fail"))
        {
            break;
        }
        assert!(killed.elapsed() < PATIENCE, "a replica takes over: {nodes}");
        tokio::task::yield_now().await;
    }
    println!("a replica took over after {:?}", killed.elapsed());
    // What its shard now lacks is a replica: it comes back as one.
    crate::faults::server("redis-cluster").restart().await;
    traffic.passes(200).await;
    let (done, failures) = traffic.end(&prefix).await;
    println!("{done} changes acknowledged, {failures} failed as unavailable");
}
