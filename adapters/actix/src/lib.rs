//! session-kit for actix.
