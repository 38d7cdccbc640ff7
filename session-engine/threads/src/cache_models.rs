//! The fill must lose: against an end, a change, a doubt and a cleared cache.

use session_core::store::Selection;
use shuttle::sync::atomic::AtomicBool;
use shuttle::thread;

use crate::options::Options;
use crate::run::check;
use crate::sync::{Arc, Ordering};
use crate::world::{NEW, OLD, World, id, owner, session};

const ID: session_core::SessionId = id(1);

/// The memory of sessions that ended is full at once: only the mark on the fill is left.
fn world() -> Arc<World> {
    let options = Options::default().with_negative_capacity(0);
    World::new(&options, 10, vec![session(ID, OLD)])
}

/// Runs a change beside two loads and a request. Once the change has returned, the cache answers with
/// nothing that is not `good`.
fn race(change: fn(&World), good: fn(&World) -> bool) {
    let (world, changed) = (world(), Arc::new(AtomicBool::new(false)));
    let loads: [_; 2] = std::array::from_fn(|_| {
        let world = Arc::clone(&world);
        thread::spawn(move || {
            world.load(ID);
        })
    });
    let request = {
        let (world, changed) = (Arc::clone(&world), Arc::clone(&changed));
        thread::spawn(move || {
            let is_late = changed.load(Ordering::SeqCst);
            assert!(!is_late || good(&world), "a check after the change sees what was before it");
        })
    };
    let (world_, changed_) = (Arc::clone(&world), Arc::clone(&changed));
    let change = thread::spawn(move || {
        change(&world_);
        changed_.store(true, Ordering::SeqCst);
        assert!(good(&world_));
    });
    for thread in loads.into_iter().chain([request, change]) {
        thread.join().unwrap();
    }
    assert!(good(&world), "a load has brought back what was before the change");
}

fn is_refused(world: &World) -> bool {
    world.cache.get(&ID).is_none()
}

fn has_new_token(world: &World) -> bool {
    let new = session(ID, NEW).token.current;
    world.cache.get(&ID).is_none_or(|entry| entry.session.token.current == new)
}

#[test]
fn no_load_wins_against_an_end() {
    let model = || race(|world| world.end(ID), is_refused);
    check(
        model,
        &[
            "a fill looks at no mark",
            "a fill gives up its lock before it installs",
            "an end marks no fill",
            "an end leaves the entry",
        ],
    );
}

#[test]
fn no_load_wins_against_a_rotation() {
    let model = || race(|world| world.rotate(ID), has_new_token);
    check(
        model,
        &["a fill looks at no mark", "a change marks no fill", "a change leaves the entry valid"],
    );
}

/// The answer of a call that ends sessions was lost.
#[test]
fn no_load_wins_against_a_doubt() {
    let model = || {
        let doubt = |world: &World| {
            world.remove(ID);
            world.cache.doubt(&Selection::user(owner()));
        };
        race(doubt, is_refused);
    };
    check(model, &["a doubt marks no fill"]);
}

#[test]
fn no_load_wins_against_a_cleared_cache() {
    let model = || race(|world| world.rotate_unheard(ID), has_new_token);
    check(model, &["a clear marks no fill", "a clear begins no generation"]);
}
