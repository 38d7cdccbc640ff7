//! The adapter from outside: requests in, responses out.

mod admin;
mod app;
mod hostile;
mod me;
mod session;
