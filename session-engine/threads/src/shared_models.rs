//! Reads that callers share, and connections that wait for the end of a session.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use session_core::{EndCause, SessionId};
use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

use crate::reads::Reads;
use crate::run::check;
use crate::sync::{Arc, AtomicU64, Ordering};
use crate::watchers::{Seen, Watch, Watchers};
use crate::world::id;

const ID: SessionId = id(1);

/// The reads that were begun, and those that are under way.
#[derive(Default)]
struct Made {
    begun: AtomicU64,
    under_way: AtomicU64,
}

/// Joins or makes a read, some of which are given up. Each finds a number of its own.
fn ask(reads: &Reads<u64>, made: &Arc<Made>) -> Option<u64> {
    let (wait, read) = reads.join(ID);
    if let Some(read) = read {
        let made = Arc::clone(made);
        thread::spawn(move || {
            let number = made.begun.fetch_add(1, Ordering::SeqCst) + 1;
            assert_eq!(made.under_way.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
            made.under_way.fetch_sub(1, Ordering::SeqCst);
            if thread_rng().gen_bool(0.8) {
                read.end(number);
            }
        });
    }
    block_on(wait.found())
}

fn readers() {
    let (reads, made) = (Reads::default(), Arc::new(Made::default()));
    let callers: [_; 3] = std::array::from_fn(|_| {
        let (reads, made) = (reads.clone(), Arc::clone(&made));
        thread::spawn(move || {
            let [first, second] = [(); 2].map(|()| ask(&reads, &made));
            if let (Some(first), Some(second)) = (first, second) {
                assert!(second > first, "the second read began before the first answer");
            }
        })
    });
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    assert_eq!(reads.count(), 0);
}

#[test]
fn callers_share_a_read_and_none_gets_one_that_is_over() {
    let faults =
        ["a read that has ended can be joined", "a read that was given up is still waited for"];
    check(readers, &faults);
}

/// What is seen if it can be seen now.
fn seen_now(watch: &mut Watch) -> Option<Seen> {
    let mut next = pin!(watch.next());
    block_on(poll_fn(|context| match next.as_mut().poll(context) {
        Poll::Ready(seen) => Poll::Ready(Some(seen)),
        Poll::Pending => Poll::Ready(None),
    }))
}

/// One watcher stays and one leaves beside the end and a doubt.
fn an_end_beside_a_doubt() {
    let watchers = Watchers::default();
    let (mut stays, leaves) = (watchers.watch(ID), watchers.watch(ID));
    let spawn = |run: fn(&Watchers)| {
        let watchers = watchers.clone();
        thread::spawn(move || run(&watchers))
    };
    let threads = [
        thread::spawn(move || drop(leaves)),
        spawn(|watchers| watchers.ended(ID, EndCause::Revoked)),
        spawn(Watchers::doubt),
    ];
    let mut ends = 0;
    while ends == 0 {
        ends += u32::from(block_on(stays.next()) == Seen::Ended(EndCause::Revoked));
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(seen_now(&mut stays), None, "it was told once");
    drop(stays);
    assert_eq!(watchers.count(), 0);
}

#[test]
fn a_watcher_is_told_of_the_end_once() {
    let faults = ["a doubt hides an end", "the first watcher who leaves takes the others along"];
    check(an_end_beside_a_doubt, &faults);
}

#[test]
fn a_session_is_forgotten_with_its_last_watcher() {
    let model = || {
        let watchers = Watchers::default();
        let leave = || {
            let watch = watchers.watch(ID);
            thread::spawn(move || drop(watch))
        };
        let threads = [leave(), leave()];
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(watchers.count(), 0);
    };
    check(model, &["the last watcher leaves the session behind"]);
}
