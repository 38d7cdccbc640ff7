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
    file: Arc<HintFile>,
    opened: OpenedFile,
    /// Stops when it is dropped.
    _watcher: RecommendedWatcher,
}

#[derive(Debug)]
struct HintFile {
    file: Mutex<File>,
    /// A write is under way or about to begin, and tells of everything up to its beginning.
    is_due: AtomicBool,
}

impl Hints {
    /// Blocks on the file system. The database must exist.
    pub(super) fn open(database: &Path) -> Self {
        let grown = Arc::new(Notify::new());
        let watched = watch(database, Arc::clone(&grown)).inspect_err(|error| {
            tracing::warn!(
                %error,
                "{}-hint cannot be written or watched: changes by other processes are seen within the \
                 propagation bound",
                database.display()
            );
        });
        Self { grown, watched: watched.ok() }
    }

    /// Whether the changes of other processes are told.
    pub(super) fn is_watching(&self) -> bool {
        self.watched.as_ref().is_some_and(|watched| watched.opened.is_there())
    }

    /// Tells every store on the database, this one as well, that the log has grown.
    pub(super) fn tell(&self) {
        let Some(Watched { file, .. }) = &self.watched else { return self.grown.notify_waiters() };
        if !file.is_due.swap(true, Ordering::AcqRel) {
            let (file, grown) = (Arc::clone(file), Arc::clone(&self.grown));
            tokio::task::spawn_blocking(move || {
                if let Err(error) = file.write() {
                    tracing::debug!(%error, "other processes cannot be told of a change");
                    grown.notify_waiters();
                }
            });
        }
    }

    /// Resolves when the log may have grown.
    pub(super) async fn changed(&self) {
        self.grown.notified().await;
    }
}

impl HintFile {
    fn write(&self) -> io::Result<()> {
        self.is_due.store(false, Ordering::Release);
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.rewind()?;
        file.write_all(b"\n")
    }
}

fn watch(database: &Path, grown: Arc<Notify>) -> notify::Result<Watched> {
    let path = path_beside(database)?;
    let file =
        File::options().create(true).append(false).write(true).truncate(false).open(&path)?;
    let opened = OpenedFile::at(&path)?;
    share(&file, database);
    let mut watcher = notify::recommended_watcher(on_write(grown))?;
    watcher.watch(&path, RecursiveMode::NonRecursive)?;
    let file = HintFile { file: Mutex::new(file), is_due: AtomicBool::new(false) };
    Ok(Watched { file: Arc::new(file), opened, _watcher: watcher })
}

/// Gives it the database's owner and permissions, as SQLite does with its own files: a program that the
/// superuser runs on the database leaves nothing behind that its nodes cannot write. Others cannot, and
/// need not.
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
fn path_beside(database: &Path) -> io::Result<PathBuf> {
    let mut path: OsString = database.canonicalize()?.into();
    path.push("-hint");
    Ok(path.into())
}

/// A watch that has lost events tells as well: a hint too many does no harm.
fn on_write(grown: Arc<Notify>) -> impl EventHandler {
    move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            grown.notify_waiters();
        }
    }
}
