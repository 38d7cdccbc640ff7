//! tokio's `watch`, of which each call is one step: before it another thread may go on.

use tokio::sync::watch;
use tokio::sync::watch::error::RecvError;

use crate::sync::{AtomicU64, Ordering};

#[derive(Debug, Default)]
pub(crate) struct Sender<T>(watch::Sender<T>);

#[derive(Debug)]
pub(crate) struct Receiver<T>(watch::Receiver<T>);

pub(crate) fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = watch::channel(value);
    (Sender(sender), Receiver(receiver))
}

impl<T> Sender<T> {
    pub(crate) fn subscribe(&self) -> Receiver<T> {
        step();
        Receiver(self.0.subscribe())
    }

    pub(crate) fn send_replace(&self, value: T) -> T {
        step();
        self.0.send_replace(value)
    }

    pub(crate) fn send_if_modified(&self, modify: impl FnOnce(&mut T) -> bool) -> bool {
        step();
        self.0.send_if_modified(modify)
    }

    pub(crate) fn receiver_count(&self) -> usize {
        step();
        self.0.receiver_count()
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        step();
    }
}

impl<T> Receiver<T> {
    pub(crate) async fn changed(&mut self) -> Result<(), RecvError> {
        step();
        self.0.changed().await
    }

    pub(crate) fn borrow_and_update(&mut self) -> watch::Ref<'_, T> {
        step();
        self.0.borrow_and_update()
    }

    pub(crate) async fn wait_for(
        &mut self,
        is_it: impl FnMut(&T) -> bool,
    ) -> Result<watch::Ref<'_, T>, RecvError> {
        step();
        self.0.wait_for(is_it).await
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        step();
        Self(self.0.clone())
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        step();
    }
}

/// The scheduler chooses before each call of one of its own.
fn step() {
    if !std::thread::panicking() {
        AtomicU64::new(0).load(Ordering::SeqCst);
    }
}
