//! The Redis store on real servers: the conformance kit, and what is Redis's own.

mod cluster;
mod namespace;
mod single;
