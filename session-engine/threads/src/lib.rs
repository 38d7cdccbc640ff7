//! The engine's modules that threads share, compiled with the locks of
//! [shuttle](https://docs.rs/shuttle) in place of std's, and models that run them in thousands of
//! orders: by chance, and with few preemptions in bad places. tokio's paused time, on which the engine's
//! other tests run, shows none of this: there one task runs at a time.
//!
//! The build copies the modules from `session-engine/src`. The copy has each fault of `faults.rs` behind
//! a switch, and a model has to find it: so no model can lose its teeth, and nothing of this is in the
//! engine. shuttle runs one thread at a time: it finds wrong orders of steps, not a memory ordering
//! that is too weak. What is shared is behind locks, but for an entry's generation and a counter.
#![cfg(test)]

mod cache_models;
#[allow(dead_code, reason = "the build reads the rest")]
mod faults;
mod memory;
mod queue_models;
mod run;
mod shared_models;
mod sync;
mod watch;
mod world;

use run::is_planted;

macro_rules! engine {
    ($($module:ident { $($more:item)* })*) => {$(
        #[allow(dead_code, unreachable_pub, reason = "the models use a part")]
        #[allow(clippy::all, reason = "faults are not well put")]
        mod $module {
            include!(concat!(env!("OUT_DIR"), "/", stringify!($module), ".rs"));
            $($more)*
        }
    )*};
}

engine! {
    cache {}
    ending {}
    entry {}
    options {}
    queue {}
    reads {
        impl<T> Reads<T> {
            /// How many are under way.
            pub(crate) fn count(&self) -> usize {
                self.running().len()
            }
        }
    }
    watchers {
        impl Watchers {
            /// How many sessions are watched.
            pub(crate) fn count(&self) -> usize {
                self.watched().len()
            }
        }
    }
}
