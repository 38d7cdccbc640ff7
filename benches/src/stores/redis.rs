//! Redis and Redis Cluster.

use std::sync::Arc;

use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::cluster::ClusterClientBuilder;
use ::redis::cluster_async::ClusterConnection;
use ::redis::{Client, cmd, pipe};
use session_core::store::record::encode_session;
use session_core::{Session, Store, async_trait};
use session_store_redis::{RedisOptions, RedisStore};

use super::{Backend, Bare};
use crate::Failure;

/// A prefix of keys.
pub(super) struct Redis {
    url: String,
    /// Of each server, where it is a cluster.
    servers: Option<Vec<String>>,
    prefix: String,
}

#[derive(Clone)]
struct Writer<C> {
    connection: C,
    prefix: String,
}

impl Redis {
    pub(super) fn single(namespace: &str) -> Result<Self, Failure> {
        let url = super::url("SESSION_KIT_REDIS_URL")?;
        Ok(Self { url, servers: None, prefix: format!("{namespace}:") })
    }

    pub(super) fn cluster(namespace: &str) -> Result<Self, Failure> {
        let url = super::url("SESSION_KIT_REDIS_CLUSTER_URL")?;
        let hosts = url.strip_prefix("redis-cluster://").ok_or("not the URL of a cluster")?;
        let servers = hosts.split(',').map(|host| format!("redis://{host}")).collect();
        Ok(Self { url, servers: Some(servers), prefix: format!("{namespace}:") })
    }

    async fn cluster_connection(servers: &[String]) -> Result<ClusterConnection, Failure> {
        let client = ClusterClientBuilder::new(servers.iter().map(String::as_str)).build()?;
        Ok(client.get_async_connection().await?)
    }

    async fn delete_keys(&self, mut server: MultiplexedConnection) -> Result<(), Failure> {
        let mut cursor: u64 = 0;
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(format!("{}*", self.prefix)).arg("COUNT").arg(1000);
            let (next, keys): (u64, Vec<Vec<u8>>) = scan.query_async(&mut server).await?;
            for key in keys {
                cmd("UNLINK").arg(key).exec_async(&mut server).await?;
            }
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }
}

#[async_trait]
impl Backend for Redis {
    async fn open(&self) -> Result<Arc<dyn Store>, Failure> {
        let options = RedisOptions::default().with_prefix(self.prefix.clone());
        Ok(Arc::new(RedisStore::connect_with(&self.url, options).await?))
    }

    async fn bare(&self) -> Result<Option<Arc<dyn Bare>>, Failure> {
        let prefix = format!("{}bare:", self.prefix);
        if let Some(servers) = &self.servers {
            let connection = Self::cluster_connection(servers).await?;
            return Ok(Some(Arc::new(Writer { connection, prefix })));
        }
        let client = Client::open(self.url.as_str())?;
        let connection = client.get_multiplexed_async_connection().await?;
        Ok(Some(Arc::new(Writer { connection, prefix })))
    }

    /// Also from those servers of a cluster that are replicas at the moment: they refuse, and lose
    /// the keys with their masters.
    async fn remove(&self) -> Result<(), Failure> {
        for url in self.servers.as_deref().unwrap_or(std::slice::from_ref(&self.url)) {
            let client = Client::open(url.as_str())?;
            let mut server = client.get_multiplexed_async_connection().await?;
            let role: Vec<::redis::Value> = cmd("ROLE").query_async(&mut server).await?;
            if role.first() == Some(&::redis::Value::BulkString(b"master".to_vec())) {
                self.delete_keys(server).await?;
            }
        }
        Ok(())
    }
}

/// A hash for the user with the session, its accesses and its token, and three indexes, in keys of
/// one slot, as many as a cluster's store spreads its sessions over.
#[async_trait]
impl<C: ConnectionLike + Clone + Send + Sync> Bare for Writer<C> {
    async fn write(&self, session: &Session) -> Result<(), Failure> {
        let Self { connection, prefix } = self;
        let id = session.id.as_bytes();
        let key = |name: &str| format!("{prefix}{{{}}}:{name}", id[0] % 32);
        let user = key(session.owner.user.as_str());
        let member = [&session.signed_in.as_micros().to_be_bytes()[..], id].concat();
        let used = session.last_accessed.as_micros();
        let deadline = session.deadline.as_micros();
        pipe()
            .atomic()
            .cmd("HSET")
            .arg(&user)
            .arg(&id[..])
            .arg(encode_session(session))
            .arg([&id[..], b"a"].concat())
            .arg(used)
            .arg([&id[..], b"k"].concat())
            .arg(&session.token.current.as_bytes()[..])
            .arg("v")
            .arg(1)
            .ignore()
            .cmd("PEXPIREAT")
            .arg(&user)
            .arg(deadline / 1000)
            .ignore()
            .zadd(key("all"), &member, 0)
            .ignore()
            .zadd(key("deadlines"), &member, deadline)
            .ignore()
            .exec_async(&mut connection.clone())
            .await?;
        Ok(())
    }
}
