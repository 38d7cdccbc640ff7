//! Namespaces for the kit, a key prefix each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use session_conformance::sample::PATIENCE;
use session_conformance::{Backend, Namespace};
use session_core::{SessionId, Store, StoreErrorKind};
use session_store_redis::{RedisOptions, RedisStore};
use tokio::sync::RwLock;

use crate::cluster::{Master, masters, node};

/// A test that kills servers is alone with them.
pub(crate) static ALONE: RwLock<()> = RwLock::const_new(());

/// One server.
pub(crate) struct Single;

/// A cluster.
pub(crate) struct Cluster;

/// What only this test uses.
pub(crate) struct Prefix {
    pub(crate) options: RedisOptions,
    is_cluster: bool,
    /// Whether a case has made a record unreadable.
    is_damaged: AtomicBool,
}

fn variable(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} names a server; `cargo xtask test` starts one"))
}

pub(crate) fn url() -> String {
    variable("SESSION_KIT_REDIS_URL")
}

pub(crate) fn cluster_urls() -> Vec<String> {
    variable("SESSION_KIT_REDIS_CLUSTER_URLS").split(',').map(str::to_owned).collect()
}

impl Prefix {
    pub(crate) fn new(is_cluster: bool) -> Self {
        let mut options = RedisOptions::default();
        options.prefix = format!("kit-{:x}:", getrandom::u64().unwrap());
        options.timeout = PATIENCE;
        Self { options, is_cluster, is_damaged: AtomicBool::new(false) }
    }

    /// With the time-out that Redis is used with, for servers that die: it says when a connection
    /// is given up, too.
    pub(crate) fn with_its_timeout(mut self) -> Self {
        self.options.timeout = RedisOptions::default().timeout;
        self
    }

    pub(crate) async fn store(&self) -> RedisStore {
        if self.is_cluster {
            let urls = cluster_urls();
            let urls: Vec<_> = urls.iter().map(String::as_str).collect();
            RedisStore::connect_cluster_with(&urls, self.options.clone()).await.unwrap()
        } else {
            RedisStore::connect_with(&url(), self.options.clone()).await.unwrap()
        }
    }
}

impl Prefix {
    /// Runs a script over the prefix's keys on every server that has some.
    async fn run(&self, script: &str, id: SessionId) {
        let servers = if self.is_cluster {
            masters().await.iter().map(Master::url).collect()
        } else {
            vec![url()]
        };
        for server in servers {
            let mut run = redis::cmd("EVAL");
            run.arg(script).arg(0).arg(format!("{}*", self.options.prefix)).arg(id.as_bytes());
            run.arg(id.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>());
            run.query_async::<()>(&mut node(&server).await).await.unwrap();
        }
    }
}

#[async_trait]
impl Backend for Single {
    async fn fresh(&self) -> Box<dyn Namespace> {
        Box::new(Prefix::new(false))
    }
}

#[async_trait]
impl Backend for Cluster {
    async fn fresh(&self) -> Box<dyn Namespace> {
        Box::new(Prefix::new(true))
    }
}

#[async_trait]
impl Namespace for Prefix {
    async fn connect(&self) -> Arc<dyn Store> {
        Arc::new(self.store().await)
    }

    async fn damage(&self, id: SessionId) -> bool {
        self.run(DAMAGE, id).await;
        self.is_damaged.store(true, Ordering::Relaxed);
        true
    }

    async fn damage_log(&self, id: SessionId) -> bool {
        self.run(DAMAGE_LOG, id).await;
        true
    }

    async fn complaints(&self) -> Vec<String> {
        match self.store().await.audit().await {
            Err(error) if self.is_damaged.load(Ordering::Relaxed) => {
                assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
                Vec::new()
            }
            audit => audit.unwrap(),
        }
    }
}

/// Writes into the accesses of a session, and at the end of a record of the history.
const DAMAGE: &str = "#!lua flags=allow-cross-slot-keys
    for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
      if string.find(key, ':u:', 1, true) and redis.call('HEXISTS', key, ARGV[2]) == 1 then
        redis.call('HSET', key, ARGV[2] .. 'a', '1 soon 0 ')
      elseif string.find(key, ':h:', 1, true) and string.sub(key, -32) == ARGV[3] then
        redis.call('SET', key, string.sub(redis.call('GET', key), 1, -2), 'KEEPTTL')
      end
    end";

/// Writes the log again, with the session's entries of no user. An entry's id stays.
const DAMAGE_LOG: &str = "#!lua flags=allow-cross-slot-keys
    for _, key in ipairs(redis.call('KEYS', ARGV[1] .. ':log')) do
      local entries = redis.call('XRANGE', key, '-', '+')
      redis.call('DEL', key)
      for _, entry in ipairs(entries) do
        local fields, is_damaged, user = entry[2], false, nil
        for n = 1, #fields, 2 do
          if fields[n] == 'session_id' then is_damaged = fields[n + 1] == ARGV[2] end
          if fields[n] == 'user_id' then user = n + 1 end
        end
        if is_damaged then fields[user] = string.char(0) end
        redis.call('XADD', key, entry[1], unpack(fields))
      end
    end";
