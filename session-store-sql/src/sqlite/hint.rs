//! Hints that the log has grown: a small file beside the database, written after every change that
//! makes a cached session wrong and watched by every store on the database.
//!
//! SQLite's own files would not do. Its write-ahead log is written before a change can be read, by
//! every write-back and every renewed lease, page by page; and no other process is told when a
//! change becomes visible.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use notify::{EventHandler, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use super::file::OpenedFile;

#[derive(Debug)]
pub(super) struct Hints {
    grown: Arc<Notify>,
    /// None where the file cannot be written or watched: only this store's own changes are told.
    watched: Option<Watched>,
}

#[derive(Debug)]
struct Watched {
    file: Mutex<File>,
    opened: OpenedFile,
    /// Whether the last write failed.
    is_mute: AtomicBool,
    /// Stops when it is dropped.
    _watcher: RecommendedWatcher,
}

impl Hints {
    /// Blocks on the file system. The database must exist.
    pub(super) fn open(database: &Path) -> Self {
        let grown = Arc::new(Notify::new());
        let path = path_beside(database);
        let watched = watch(&path, database, Arc::clone(&grown)).inspect_err(|error| {
            tracing::warn!(
                %error,
                path = %path.display(),
                "the hint file cannot be written or watched: changes by other processes are seen within the \
                 propagation bound"
            );
        });
        Self { grown, watched: watched.ok() }
    }

    /// Whether the changes of other processes are told.
    pub(super) fn is_watching(&self) -> bool {
        self.watched.as_ref().is_some_and(|watched| {
            !watched.is_mute.load(Ordering::Relaxed) && watched.opened.check().is_ok()
        })
    }

    /// Tells every store on the database, this one as well, that the log has grown. Writes a byte.
    pub(super) fn tell(&self) {
        let Some(watched) = &self.watched else { return self.grown.notify_waiters() };
        let written = watched.write();
        watched.is_mute.store(written.is_err(), Ordering::Relaxed);
        if let Err(error) = written {
            tracing::debug!(%error, "other processes cannot be told of a change");
            self.grown.notify_waiters();
        }
    }

    /// Resolves when the log may have grown.
    pub(super) async fn changed(&self) {
        self.grown.notified().await;
    }
}

impl Watched {
    fn write(&self) -> io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.rewind()?;
        file.write_all(b"\n")
    }
}

fn watch(path: &Path, database: &Path, grown: Arc<Notify>) -> notify::Result<Watched> {
    let file = open(path, database)?;
    let opened = OpenedFile::at(path)?;
    let mut watcher = notify::recommended_watcher(on_write(grown))?;
    watcher.watch(path, RecursiveMode::NonRecursive)?;
    let (file, is_mute) = (Mutex::new(file), AtomicBool::new(false));
    Ok(Watched { file, opened, is_mute, _watcher: watcher })
}

/// Follows no link: by one, the owner of the folder could choose the file that another user writes to.
fn open(path: &Path, database: &Path) -> io::Result<File> {
    match File::options().write(true).create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        created => return created.inspect(|file| share(file, database)),
    }
    if !std::fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    File::options().write(true).open(path)
}

/// Gives a new file the database's owner and permissions, as SQLite does with its log, so that a program which the
/// superuser runs on the database leaves nothing behind that its nodes cannot write. Another user's program cannot, and
/// its nodes then report it.
#[cfg(unix)]
fn share(file: &File, database: &Path) {
    use std::os::unix::fs::{MetadataExt, fchown};
    if let Ok(database) = std::fs::metadata(database) {
        let _ = fchown(file, Some(database.uid()), Some(database.gid()));
        let _ = file.set_permissions(database.permissions());
    }
}

#[cfg(not(unix))]
fn share(_: &File, _: &Path) {}

/// Beside the file itself, as SQLite's own, whichever links lead to it.
fn path_beside(database: &Path) -> PathBuf {
    let database = database.canonicalize().unwrap_or_else(|_| database.to_owned());
    let mut path = OsString::from(database);
    path.push("-hint");
    path.into()
}

/// A watch that has lost events tells as well: a hint too many does no harm.
fn on_write(grown: Arc<Notify>) -> impl EventHandler {
    move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            grown.notify_waiters();
        }
    }
}
