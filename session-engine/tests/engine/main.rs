//! The engine's guarantees, on simulated time where time matters.

mod again;
mod attacks;
mod bounds;
mod calls;
mod claims;
mod cleanup;
mod clock;
mod events;
mod finality;
mod health;
mod history;
mod idle;
mod model;
mod outage;
mod probe;
mod rotation;
mod runtime;
mod said;
mod sign_in;
mod take_back;
mod tickets;
mod time;
mod waits;
mod write_back;
