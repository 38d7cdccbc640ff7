//! The Redis store on real servers: the conformance kit, and what is Redis's own.

mod besides;
mod blocks;
mod bounds;
mod cluster;
mod damage;
mod expiry;
#[cfg(feature = "fault-tests")]
mod faults;
mod full;
mod history;
mod monitor;
mod namespace;
mod random;
mod replicas;
mod resent;
mod server;
mod silence;
mod single;
mod tls;
