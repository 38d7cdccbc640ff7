//! session-kit for poem.
