//! The file that a path led to when it was opened.
//!
//! It may be moved, replaced or deleted later. A process that has it open then reads and writes it as before, apart
//! from those that open the path.

use std::io;
use std::path::{Path, PathBuf};

use session_core::StoreError;

#[derive(Clone, Debug)]
pub(super) struct OpenedFile {
    path: PathBuf,
    identity: Identity,
}

impl OpenedFile {
    /// The file that is at the path now.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) const fn identity(&self) -> Identity {
        self.identity
    }

    /// Fails where the path leads to another file, or to none. Takes microseconds: the system has it in memory.
    pub(super) fn check(&self) -> io::Result<()> {
        let path = self.path.display();
        match identity(&self.path) {
            Ok(identity) if identity == self.identity => Ok(()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Err(io::Error::other(format!(
                "{path} was moved, replaced or deleted after it was opened: start all its nodes again"
            ))),
        }
    }

    /// As [`check`](Self::check), as an error of the store.
    pub(super) fn checked(&self) -> Result<(), StoreError> {
        self.check().map_err(StoreError::unavailable)
    }
}

#[cfg(unix)]
pub(super) type Identity = (u64, u64);

/// The device, and the file's number on it, which no other file gets while this one is open.
#[cfg(unix)]
fn identity(path: &Path) -> io::Result<Identity> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).map(|file| (file.dev(), file.ino()))
}

#[cfg(not(unix))]
pub(super) type Identity = u64;

/// A file that is open can be neither moved nor replaced there.
#[cfg(not(unix))]
fn identity(path: &Path) -> io::Result<Identity> {
    use std::hash::{DefaultHasher, Hash, Hasher};
    std::fs::metadata(path)?;
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    Ok(hasher.finish())
}
