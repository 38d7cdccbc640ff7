//! Every access is written back once, beside reloads, evictions and flushes that are given up.

use std::net::IpAddr;
use std::time::Duration;

use session_core::SessionId;
use session_core::usage::WriteBack;
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

use crate::options::Options;
use crate::queue::Leaving;
use crate::run::check;
use crate::sync::{self, Arc};
use crate::world::{OLD, World, claimed, id, ip, session};

fn options(every_hits: u32) -> Options {
    Options::default().with_write_back(WriteBack::default().with_every_hits(every_hits))
}

/// What a thread does.
type Run = Box<dyn FnOnce(&World) + Send>;

/// Runs all beside each other, and waits for them.
fn together(world: &Arc<World>, threads: Vec<Run>) {
    let spawn = |run: Run| {
        let world = Arc::clone(world);
        thread::spawn(move || run(&world))
    };
    let threads: Vec<_> = threads.into_iter().map(spawn).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn requests(id: SessionId, addresses: &'static [u8]) -> Run {
    Box::new(move |world: &World| addresses.iter().for_each(|address| world.request(id, *address)))
}

fn all(addresses: std::ops::RangeInclusive<u8>) -> Vec<IpAddr> {
    addresses.map(ip).collect()
}

/// Requests, a reload, the eviction of the session by another one, and flushes of which some are dropped
/// in the middle.
fn accesses_beside_all_else() {
    let options = options(2).with_cache_capacity(1);
    let world = World::new(&options, 10, vec![session(id(1), OLD), session(id(2), OLD)]);
    let reload = |world: &World| {
        world.rotate(id(1));
        world.load(id(1));
    };
    let evict = |world: &World| {
        world.load(id(2));
    };
    let flush = |world: &World| {
        world.flush(Leaving::Due, thread_rng().gen_bool(0.5));
        sync::advance(Duration::from_secs(60));
        world.flush(Leaving::Due, thread_rng().gen_bool(0.5));
    };
    together(
        &world,
        vec![
            requests(id(1), &[1, 2]),
            requests(id(1), &[3, 4]),
            Box::new(reload),
            Box::new(evict),
            Box::new(flush),
        ],
    );
    assert_eq!(world.flush_all(), all(1..=4), "each access arrives once");
    assert_eq!(world.queue.dropped(), 0);
    let stored = world.stored(id(1)).unwrap();
    assert!(stored.claimed, "its token was presented");
    assert!(stored.last_accessed >= session_core::Timestamp::EPOCH.plus(Duration::from_secs(3600)));
}

#[test]
fn no_access_is_lost_or_written_twice() {
    check(
        accesses_beside_all_else,
        &[
            "a reload leaves the older copy what it takes over",
            "a reload forgets that the session is claimed",
            "a flush that is dropped gives nothing back",
            "what comes back from a flush is not queued",
        ],
    );
}

/// A reload beside flushes that are dropped: the newer copy shows what the older one has seen.
fn a_reload() {
    let world = World::new(&options(2), 10, vec![session(id(1), OLD)]);
    let reload = |world: &World| {
        world.request(id(1), 1);
        world.rotate(id(1));
        world.load(id(1));
        let entry = world.cache.get(&id(1)).unwrap();
        assert_eq!(entry.use_().activity.ip_addresses(), all(1..=1));
        assert_eq!(entry.use_().activity.last_accessed(), World::now());
    };
    let flushes = |world: &World| {
        for _ in 0..2 {
            world.flush(Leaving::Due, false);
        }
    };
    together(&world, vec![Box::new(reload), Box::new(flushes)]);
    assert_eq!(world.flush_all(), all(1..=1));
}

#[test]
fn a_newer_copy_has_seen_what_the_older_one_has() {
    check(a_reload, &["a reload forgets what the older copy has seen"]);
}

fn two_requests(every_hits: u32) {
    let world = World::new(&options(every_hits), 10, vec![claimed(id(1))]);
    world.load(id(1));
    together(&world, vec![requests(id(1), &[1]), requests(id(1), &[2])]);
    assert_eq!(world.queue.len(), 1);
    assert_eq!(world.flush_all(), all(1..=2));
}

#[test]
fn a_session_is_due_once() {
    check(|| two_requests(1), &["what is due is queued again"]);
}

/// A flush takes the session while it becomes due again.
fn requests_beside_a_flush() {
    let world = World::new(&options(1), 10, vec![claimed(id(1))]);
    world.load(id(1));
    let flush = |world: &World| world.flush(Leaving::Due, true);
    together(&world, vec![requests(id(1), &[1]), requests(id(1), &[2]), Box::new(flush)]);
    assert_eq!(world.flush_all(), all(1..=2));
}

#[test]
fn a_session_that_is_due_again_during_a_flush_leaves_with_the_next() {
    check(requests_beside_a_flush, &["a flush lets go between what it takes and the mark"]);
}

#[test]
fn a_session_is_planned_once() {
    check(|| two_requests(100), &["every access plans a write-back"]);
}

/// Of three sessions one finds no room. Its next access asks again, and brings the first along.
fn a_full_queue() {
    let world = World::new(&options(100), 1, [1, 2, 3].map(|n| claimed(id(n))).into());
    for n in 1..=3 {
        world.load(id(n));
    }
    let first = [requests(id(1), &[1]), requests(id(2), &[2]), requests(id(3), &[3])];
    together(&world, first.into());
    assert_eq!(world.queue.len(), 2);
    world.flush_all();
    for n in 1..=3 {
        world.request(id(n), n + 3);
        world.flush_all();
    }
    assert_eq!(world.flush_all(), all(1..=6));
}

#[test]
fn a_full_queue_forgets_no_session_that_stays_cached() {
    check(
        a_full_queue,
        &[
            "an access does not notice that there was no room",
            "what found no room counts as queued",
        ],
    );
}
