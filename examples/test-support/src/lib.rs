//! Starts the programs of the README and of the examples, and talks to them as a client that knows
//! nothing of session-kit.

mod client;
mod description;
mod program;
pub mod readme;
mod socket;

pub use client::{Answer, Client, Stream};
pub use description::{Described, Description};
pub use program::{Program, example, free_address};
pub use socket::Socket;
