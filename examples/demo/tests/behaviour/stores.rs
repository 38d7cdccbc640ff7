//! Where the demo keeps its sessions in a test.

use std::sync::Arc;

use session_demo::Place;
use session_kit::core::Store;
use session_kit::engine::clock::Clock;
use session_kit::memory::MemoryStore;
use session_kit::testing::ManualClock;

#[cfg(feature = "server-tests")]
use crate::servers;

/// A kind of store.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Memory,
    Sqlite,
    #[cfg(feature = "server-tests")]
    Postgres,
    #[cfg(feature = "server-tests")]
    MySql,
    #[cfg(feature = "server-tests")]
    Redis,
    #[cfg(feature = "server-tests")]
    RedisCluster,
    #[cfg(feature = "server-tests")]
    MongoDb,
}

impl Kind {
    /// A store that only this test uses. The one in memory goes by the clock.
    pub(crate) async fn open(self, place: &Place, clock: &ManualClock) -> Arc<dyn Store> {
        match self {
            Self::Memory => {
                let clock = clock.clone();
                Arc::new(MemoryStore::with_clock(move || clock.now()))
            }
            Self::Sqlite => place.open().await.unwrap(),
            #[cfg(feature = "server-tests")]
            Self::Postgres => servers::postgres().await,
            #[cfg(feature = "server-tests")]
            Self::MySql => servers::mysql().await,
            #[cfg(feature = "server-tests")]
            Self::Redis => servers::redis().await,
            #[cfg(feature = "server-tests")]
            Self::RedisCluster => servers::redis_cluster().await,
            #[cfg(feature = "server-tests")]
            Self::MongoDb => servers::mongodb().await,
        }
    }
}
