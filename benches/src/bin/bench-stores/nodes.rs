//! Nodes of a fleet.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use session_benches::Failure;
use session_benches::stores::Backend;
use session_core::cleanup::Cleanup;
use session_core::{UserId, UserKey};
use session_engine::{Engine, Options, Parts, SignIn};

/// Starts nodes, each on connections of its own. They do not clean up by themselves.
pub(crate) async fn start(backend: &dyn Backend, count: usize) -> Result<Vec<Engine>, Failure> {
    let options = Options::default().with_cleanup(Cleanup::default().with_enabled(false));
    let mut nodes = Vec::with_capacity(count);
    for _ in 0..count {
        let store = backend.open().await?;
        nodes.push(Engine::start_with(store, options.clone(), Parts::default()).await?);
    }
    Ok(nodes)
}

pub(crate) async fn stop(nodes: Vec<Engine>) {
    for node in nodes {
        node.shutdown().await;
    }
}

/// Hands out users who have not signed in before.
#[derive(Clone, Default)]
pub(crate) struct Newcomers(Arc<AtomicU64>);

impl Newcomers {
    pub(crate) fn next(&self) -> Result<UserKey, Failure> {
        let n = self.0.fetch_add(1, Ordering::Relaxed);
        Ok(UserKey::new(UserId::new(&format!("newcomer-{n:08}"))?))
    }

    pub(crate) fn sign_in(&self) -> Result<SignIn, Failure> {
        let info = "Firefox 140 on Linux".parse()?;
        Ok(SignIn::new(self.next()?)
            .with_device_info(Some(info))
            .with_ip(Some([10, 1, 2, 3].into())))
    }
}
