//! Benches of the path that every request takes; run with `cargo bench -p session-benches`.
