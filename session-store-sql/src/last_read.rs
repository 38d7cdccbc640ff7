//! The entries of a log that a reader has read last, which it looks at again with every read.
//!
//! A failover may lose the changes that were committed last. Numbers are not in the order of
//! commits, so the entry of the highest number may be there while one that was read is lost.

/// Of entries in the order in which they were read, those to look at again.
pub(crate) fn remembered<T>(mut read: Vec<T>) -> Vec<T> {
    read.split_off(read.len().saturating_sub(REMEMBERED))
}

/// What is committed last of a page is hardly further from its end: that many changes would have to
/// be under way at the same time.
pub(crate) const REMEMBERED: usize = 32;
