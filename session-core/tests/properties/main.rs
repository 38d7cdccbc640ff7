//! Properties of the pure rules, for inputs nobody thought of.

mod admission;
mod cleanup;
mod strategy;
mod token;
mod write_back;
