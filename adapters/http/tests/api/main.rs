//! The JSON API as clients see it, on simulated time.

mod admin;
mod ended;
mod given_up;
mod health;
mod me;
mod node;
mod renewal;
mod tickets;
