//! Empty: the MongoDB store is not written yet.
