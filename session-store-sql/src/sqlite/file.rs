//! The file that a path led to when it was opened.

use std::io;
use std::path::{Path, PathBuf};

use session_core::StoreError;

/// A file that was opened, by its path. It may be moved, replaced or deleted afterwards: who has it open reads and
/// writes it as before, and nobody else sees what is written.
#[derive(Clone, Debug)]
pub(super) struct OpenedFile {
    path: PathBuf,
    identity: Identity,
}

impl OpenedFile {
    /// Of one that is open.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }

    /// Whether the path still leads to it. Takes microseconds: the system has it in memory.
    pub(super) fn is_there(&self) -> bool {
        identity(&self.path).is_ok_and(|identity| identity == self.identity)
    }

    /// Fails where it is no longer there.
    pub(super) fn check(&self) -> io::Result<()> {
        if self.is_there() {
            return Ok(());
        }
        let path = self.path.display();
        Err(io::Error::other(format!(
            "{path} was moved, replaced or deleted after it was opened: open it again with every process"
        )))
    }

    /// As [`check`](Self::check), of a store.
    pub(super) fn checked(&self) -> Result<(), StoreError> {
        self.check().map_err(StoreError::unavailable)
    }
}

#[cfg(unix)]
type Identity = (u64, u64);

/// The device, and the file's number on it, which no other file gets while this one is open.
#[cfg(unix)]
fn identity(path: &Path) -> io::Result<Identity> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).map(|file| (file.dev(), file.ino()))
}

#[cfg(not(unix))]
type Identity = ();

/// An open file stays where it is.
#[cfg(not(unix))]
fn identity(path: &Path) -> io::Result<Identity> {
    std::fs::metadata(path).map(|_| ())
}
