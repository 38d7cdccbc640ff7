//! Namespaces for the kit, a key prefix each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use session_conformance::sample::PATIENCE;
use session_conformance::{Backend, Namespace, RestorePoint};
use session_core::{SessionId, Store, StoreErrorKind, UserKey};
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

fn cluster_url() -> String {
    variable("SESSION_KIT_REDIS_CLUSTER_URL")
}

/// The URL of each server.
pub(crate) fn cluster_urls() -> Vec<String> {
    let url = cluster_url();
    let servers = url.strip_prefix("redis-cluster://").expect("the URL of a cluster").split(',');
    servers.map(|server| format!("redis://{server}")).collect()
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
        let url = if self.is_cluster { cluster_url() } else { url() };
        RedisStore::connect_with(&url, self.options.clone()).await.unwrap()
    }
}

impl Prefix {
    /// The servers that have keys.
    async fn servers(&self) -> Vec<String> {
        if self.is_cluster {
            masters().await.iter().map(Master::url).collect()
        } else {
            vec![url()]
        }
    }

    /// Runs a script over the prefix's keys on every server that has some.
    async fn run(&self, script: &str, id: SessionId) {
        for server in self.servers().await {
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

    async fn restore_point(&self) -> Option<Box<dyn RestorePoint>> {
        let mut servers = Vec::new();
        for url in self.servers().await {
            let mut server = node(&url).await;
            let mut copies = Vec::new();
            for key in keys(&mut server, &self.options.prefix).await {
                let mut read = redis::pipe();
                read.cmd("DUMP").arg(&key).cmd("PEXPIRETIME").arg(&key);
                let (value, expires) = read.query_async(&mut server).await.unwrap();
                // It may have expired by now.
                if let Some(value) = value {
                    copies.push(Copied { key, value, expires });
                }
            }
            servers.push((url, copies));
        }
        Some(Box::new(Copy { prefix: self.options.prefix.clone(), servers }))
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

    async fn damage_settings(&self, owner: &UserKey) -> bool {
        for server in self.servers().await {
            let mut run = redis::cmd("EVAL");
            run.arg(DAMAGE_SETTINGS).arg(0).arg(format!("{}*", self.options.prefix));
            run.arg(owner.user.as_str());
            run.query_async::<()>(&mut node(&server).await).await.unwrap();
        }
        true
    }

    async fn remember_alive(&self, id: SessionId) -> bool {
        self.run(REMEMBER_ALIVE, id).await;
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

/// All keys of a prefix, as they are on each server.
struct Copy {
    prefix: String,
    servers: Vec<(String, Vec<Copied>)>,
}

struct Copied {
    key: Vec<u8>,
    value: Vec<u8>,
    /// In milliseconds since the Unix epoch; negative for never.
    expires: i64,
}

#[async_trait]
impl RestorePoint for Copy {
    async fn restore(self: Box<Self>) {
        for (url, copies) in self.servers {
            let mut server = node(&url).await;
            for key in keys(&mut server, &self.prefix).await {
                redis::cmd("DEL").arg(key).exec_async(&mut server).await.unwrap();
            }
            for Copied { key, value, expires } in copies {
                let mut restore = redis::cmd("RESTORE");
                restore.arg(key).arg(expires.max(0)).arg(value).arg("ABSTTL");
                restore.exec_async(&mut server).await.unwrap();
            }
        }
    }
}

async fn keys(server: &mut MultiplexedConnection, prefix: &str) -> Vec<Vec<u8>> {
    redis::cmd("KEYS").arg(format!("{prefix}*")).query_async(server).await.unwrap()
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

/// Writes into the policies and blocks whose places have this in their names.
const DAMAGE_SETTINGS: &str = "#!lua flags=allow-cross-slot-keys
    for _, key in ipairs(redis.call('KEYS', ARGV[1] .. ':scopes')) do
      for _, field in ipairs(redis.call('HKEYS', key)) do
        if string.find(field, ARGV[2], 1, true) then redis.call('HSET', key, field, '{') end
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

/// Writes a session into the history as an end does, and leaves it where it is.
const REMEMBER_ALIVE: &str = "#!lua flags=allow-cross-slot-keys
    for _, key in ipairs(redis.call('KEYS', ARGV[1] .. ':u:*')) do
      if redis.call('HEXISTS', key, ARGV[2]) == 1 then
        local shard, tag = string.match(key, '^(.*:)u:(%x+)$')
        local parts = redis.call('HMGET', key, ARGV[2], ARGV[2] .. 'a', ARGV[2] .. 'd')
        parts[4] = '{\"ended\":0,\"cause\":\"evicted\",\"actor\":\"system\"}'
        local user = 10 + string.byte(parts[1], 9)
        local tenant = string.sub(parts[1], 10, user - 1)
        local owner = string.sub(parts[1], 9, user + string.byte(parts[1], user))
        for n, part in ipairs(parts) do parts[n] = struct.pack('>I4', #part) .. part end
        redis.call('SET', shard .. 'h:' .. ARGV[3], table.concat(parts), 'EX', 86400)
        local place = '\\127' .. string.rep('\\255', 7) .. ARGV[2]
        redis.call('ZADD', shard .. 'history', 0, place .. owner)
        redis.call('ZADD', shard .. 'hu:' .. tag, 0, place)
        if tenant ~= '' then redis.call('ZADD', shard .. 'ht:' .. tenant, 0, place) end
      end
    end";
