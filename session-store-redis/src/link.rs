//! The way to the servers: one or a cluster, with a time limit on every call.

use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManagerConfig};
use redis::cluster::ClusterClient;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::{
    Client, Cmd, ConnectionInfo, ErrorKind, FromRedisValue, Pipeline, ProtocolVersion, PushInfo,
    RedisError, RedisResult, ServerErrorKind, Value, cmd,
};
use session_core::{StoreError, StoreErrorKind};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::error::Elapsed;

use crate::connections::{Connection, Connections, Target};
use crate::options::{RedisOptions, Replicas};
use crate::placement::{Placement, Shard};
use crate::scripts::{Source, WRITE};

/// Connections are shared by all callers and opened again when they are lost.
#[derive(Clone)]
pub(crate) struct Link {
    connections: Connections,
    timeout: Duration,
    waiting: Option<Waiting>,
}

/// Connections of their own for calls that wait for replicas: what follows a `WAIT` on its
/// connection waits, too.
#[derive(Clone)]
struct Waiting {
    connections: Connections,
    replicas: Replicas,
    limit: Duration,
}

/// Where the servers are.
#[derive(Clone, Copy)]
pub(crate) enum Address<'a> {
    Single(&'a ConnectionInfo),
    /// Some servers of a cluster.
    Cluster(&'a [&'a str]),
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("is_cluster", &self.is_cluster()).finish_non_exhaustive()
    }
}

/// Where to wait for replicas.
pub(crate) struct Wait {
    slot: u16,
    /// A key of the slot that is never read: a wait is for what its connection has written last.
    key: String,
}

impl Wait {
    pub(crate) fn on(placement: &Placement, shard: Shard) -> Self {
        Self { slot: placement.slot(shard), key: placement.waited(shard) }
    }
}

/// A call of a script.
pub(crate) struct Call<'s> {
    script: &'s Source,
    wait: Wait,
    keys: Vec<Vec<u8>>,
    arguments: Vec<Vec<u8>>,
}

impl<'s> Call<'s> {
    pub(crate) fn new(script: &'s Source, placement: &Placement, shard: Shard) -> Self {
        let wait = Wait::on(placement, shard);
        Self { script, wait, keys: Vec::new(), arguments: Vec::new() }
    }

    pub(crate) fn key(&mut self, key: impl Into<Vec<u8>>) -> &mut Self {
        self.keys.push(key.into());
        self
    }

    pub(crate) fn arg(&mut self, argument: impl Into<Vec<u8>>) -> &mut Self {
        self.arguments.push(argument.into());
        self
    }

    pub(crate) fn number(&mut self, number: impl std::fmt::Display) -> &mut Self {
        self.arg(number.to_string())
    }

    /// How many parts follow, then these.
    pub(crate) fn list(&mut self, parts: &[Vec<u8>]) -> &mut Self {
        self.number(parts.len());
        self.arguments.extend_from_slice(parts);
        self
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = cmd(name);
        command.arg(script).arg(self.keys.len()).arg(&self.keys).arg(&self.arguments);
        command
    }
}

impl Address<'_> {
    /// Opens a connection whose calls may take this long.
    async fn connect(
        self,
        options: &RedisOptions,
        limit: Duration,
        pushes: &UnboundedSender<PushInfo>,
    ) -> Result<Connections, StoreError> {
        let target = match self {
            Self::Single(info) => single(info, options, limit, pushes.clone()),
            Self::Cluster(urls) => cluster(urls, options, limit, pushes.clone()),
        };
        let (target, timeout) = (target.map_err(store_error)?, options.timeout);
        let connection = tokio::time::timeout(timeout, target.connect()).await;
        let connection = answer(connection, "connect", timeout)?;
        Ok(Connections::new(target, connection, pushes.clone(), timeout))
    }
}

fn single(
    info: &ConnectionInfo,
    options: &RedisOptions,
    limit: Duration,
    pushes: UnboundedSender<PushInfo>,
) -> RedisResult<Target> {
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let info = info.clone().set_redis_settings(settings);
    let client = match &options.tls {
        Some(tls) => Client::build_with_tls(info, tls.certificates()),
        None => Client::open(info),
    };
    let config = ConnectionManagerConfig::new()
        .set_push_sender(pushes)
        .set_automatic_resubscription()
        .set_connection_timeout(Some(options.timeout))
        .set_response_timeout(Some(limit))
        .set_number_of_retries(CONNECTION_TRIES)
        .set_min_delay(FIRST_PAUSE)
        .set_max_delay(LONGEST_PAUSE);
    Ok(Target::Single(client?, Box::new(config)))
}

fn cluster(
    urls: &[&str],
    options: &RedisOptions,
    limit: Duration,
    pushes: UnboundedSender<PushInfo>,
) -> RedisResult<Target> {
    let mut client = ClusterClient::builder(urls.iter().copied())
        .use_protocol(ProtocolVersion::RESP3)
        .push_sender(pushes)
        .connection_timeout(options.timeout)
        .response_timeout(limit)
        .min_retry_wait(FIRST_PAUSE.as_millis() as u64)
        .max_retry_wait(LONGEST_PAUSE.as_millis() as u64);
    if let Some(tls) = &options.tls {
        client = client.certs(tls.certificates());
    }
    client.build().map(Target::Cluster)
}

impl Link {
    pub(crate) async fn open(
        address: Address<'_>,
        options: &RedisOptions,
        pushes: &UnboundedSender<PushInfo>,
    ) -> Result<Self, StoreError> {
        let timeout = options.timeout;
        let connections = address.connect(options, timeout, pushes).await?;
        let waiting = match options.replicas {
            Some(replicas) => {
                let limit = timeout.saturating_add(replicas.within);
                let connections = address.connect(options, limit, pushes).await?;
                Some(Waiting { connections, replicas, limit })
            }
            None => None,
        };
        Ok(Self { connections, timeout, waiting })
    }

    pub(crate) fn is_cluster(&self) -> bool {
        self.connections.is_cluster()
    }

    pub(crate) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        self.within("a read", self.ask(command)).await
    }

    /// Commands whose keys are all in one slot, in one round trip.
    pub(crate) async fn pipe<T: FromRedisValue>(
        &self,
        pipeline: &Pipeline,
    ) -> Result<T, StoreError> {
        let ask = async {
            match self.connection().await {
                Connection::Single(mut single) => pipeline.query_async(&mut single).await,
                Connection::Cluster(mut cluster) => pipeline.query_async(&mut cluster).await,
            }
        };
        self.within("a read", ask).await
    }

    /// Runs a script that reads, or whose change may be lost in a failover.
    pub(crate) async fn run<T: FromRedisValue>(&self, call: &Call<'_>) -> Result<T, StoreError> {
        self.within(call.script.name, self.evaluate(call)).await
    }

    /// Runs a script whose change has to be on as many replicas as the options say. So has what an
    /// earlier call has changed, if this one finds it done.
    pub(crate) async fn change<T: FromRedisValue>(&self, call: &Call<'_>) -> Result<T, StoreError> {
        let Some(waiting) = &self.waiting else { return self.run(call).await };
        let script = async |name, script| {
            let mut commands = redis::pipe();
            commands.add_command(call.command(name, script));
            waiting.ask(commands, &call.wait).await
        };
        let change = async {
            match script("EVALSHA", &call.script.hash).await {
                Err(error) if is_unknown_script(&error) => script("EVAL", call.script.text).await,
                answer => answer,
            }
        };
        let mut answers = waiting.within(call.script.name, change).await?;
        let answer = answers.pop().unwrap_or(Value::Nil);
        T::from_redis_value(answer).map_err(|error| store_error(error.into()))
    }

    /// Commands whose keys are all in one slot, and whose answers the caller goes by as it goes by
    /// that of a change: what they read has to be on as many replicas as a change.
    pub(crate) async fn confirmed<T: FromRedisValue>(
        &self,
        commands: Pipeline,
        wait: &Wait,
    ) -> Result<T, StoreError> {
        let Some(waiting) = &self.waiting else { return self.pipe(&commands).await };
        let answers = waiting.within("a read on replicas", waiting.ask(commands, wait)).await?;
        T::from_redis_value(Value::Array(answers)).map_err(|error| store_error(error.into()))
    }

    /// How long a change may take.
    pub(crate) fn limit(&self) -> Duration {
        self.waiting.as_ref().map_or(self.timeout, |waiting| waiting.limit)
    }

    pub(crate) const fn waits(&self) -> bool {
        self.waiting.is_some()
    }

    /// Asks the server that has this slot.
    pub(crate) async fn query_at<T: FromRedisValue>(
        &self,
        slot: u16,
        command: Cmd,
    ) -> Result<T, StoreError> {
        let ask = async {
            match self.connection().await {
                Connection::Single(mut single) => command.query_async(&mut single).await,
                Connection::Cluster(mut cluster) => {
                    let master = Route::new(slot, SlotAddr::Master);
                    let master = SingleNodeRoutingInfo::SpecificNode(master);
                    let value = cluster.route_command(command, RoutingInfo::SingleNode(master));
                    Ok(T::from_redis_value(value.await?)?)
                }
            }
        };
        self.within("a read", ask).await
    }

    pub(crate) async fn subscribe(&self, channel: &str) -> Result<(), StoreError> {
        let subscribe = async {
            match self.connection().await {
                Connection::Single(mut single) => single.subscribe(channel).await,
                Connection::Cluster(mut cluster) => cluster.ssubscribe(channel).await,
            }
        };
        self.within("subscribe", subscribe).await
    }

    /// By its hash; in full where the server does not know it, or not any more.
    async fn evaluate<T: FromRedisValue>(&self, call: &Call<'_>) -> RedisResult<T> {
        match self.ask(&call.command("EVALSHA", &call.script.hash)).await {
            Err(error) if is_unknown_script(&error) => {
                self.ask(&call.command("EVAL", call.script.text)).await
            }
            answer => answer,
        }
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        match self.connection().await {
            Connection::Single(mut single) => command.query_async(&mut single).await,
            Connection::Cluster(mut cluster) => command.query_async(&mut cluster).await,
        }
    }

    async fn connection(&self) -> Connection {
        self.connections.connection().await
    }

    async fn within<T>(
        &self,
        call: &'static str,
        answered: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, StoreError> {
        within(&self.connections, call, self.timeout, answered).await
    }
}

impl Waiting {
    /// The commands and the wait for their replicas go to one server together: were they apart, a
    /// replica that lacks the change could take over in between, and be waited for. Returns the
    /// commands' answers, and how many replicas have what was written.
    async fn ask(&self, mut together: Pipeline, wait: &Wait) -> RedisResult<(Vec<Value>, u32)> {
        let Replicas { count, within } = self.replicas;
        // Always writes, so that the wait also covers a change that was already applied.
        together.cmd("EVAL").arg(WRITE).arg(1).arg(&wait.key);
        together.cmd("WAIT").arg(count).arg(within.as_millis() as u64);
        let count = together.cmd_iter().count();
        let answers = match self.connections.connection().await {
            Connection::Single(mut single) => {
                single.req_packed_commands(&together, 0, count).await?
            }
            Connection::Cluster(mut cluster) => {
                let master = Route::new(wait.slot, SlotAddr::Master);
                let master = SingleNodeRoutingInfo::SpecificNode(master);
                cluster.route_pipeline(together, 0, count, master).await?
            }
        };
        let answers = answers.into_iter().map(Value::extract_error);
        let mut answers = answers.collect::<RedisResult<Vec<_>>>()?;
        let reached = u32::from_redis_value(answers.pop().unwrap_or(Value::Nil))?;
        answers.pop();
        Ok((answers, reached))
    }

    /// The answers, if as many replicas as the options say have what was written.
    async fn within(
        &self,
        call: &'static str,
        answered: impl Future<Output = RedisResult<(Vec<Value>, u32)>>,
    ) -> Result<Vec<Value>, StoreError> {
        let (answers, reached) = within(&self.connections, call, self.limit, answered).await?;
        self.replicas.check(reached)?;
        Ok(answers)
    }
}

async fn within<T>(
    connections: &Connections,
    call: &'static str,
    limit: Duration,
    answered: impl Future<Output = RedisResult<T>>,
) -> Result<T, StoreError> {
    let attempt = connections.begin();
    let result = tokio::time::timeout(limit, answered).await;
    if let Ok(result) = &result {
        attempt.end(result);
    }
    answer(result, call, limit)
}

impl Replicas {
    fn check(self, reached: u32) -> Result<(), StoreError> {
        if reached >= self.count {
            return Ok(());
        }
        let text = format!("the change is on {reached} of {} replicas", self.count);
        Err(StoreError::unavailable(text))
    }
}

fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

fn answer<T>(
    result: Result<RedisResult<T>, Elapsed>,
    call: &'static str,
    limit: Duration,
) -> Result<T, StoreError> {
    match result {
        Ok(result) => result.map_err(store_error),
        Err(_) => Err(StoreError::timed_out(call, limit)),
    }
}

/// A value that cannot be read and a refused command are told from servers that cannot be reached
/// right now, or not for writing.
pub(crate) fn store_error(error: RedisError) -> StoreError {
    let kind = match error.kind() {
        ErrorKind::UnexpectedReturnType => StoreErrorKind::Corrupt,
        _ if error.code() == Some(DAMAGED) => StoreErrorKind::Corrupt,
        ErrorKind::AuthenticationFailed
        | ErrorKind::InvalidClientConfig
        | ErrorKind::RESP3NotSupported
        | ErrorKind::Server(
            ServerErrorKind::NoPerm | ServerErrorKind::CrossSlot | ServerErrorKind::NoScript,
        ) => StoreErrorKind::Internal,
        // A script that fails because its writes are refused says so in its text.
        ErrorKind::Server(ServerErrorKind::ResponseError) => {
            let text = error.to_string();
            let passing = ["READONLY", "MISCONF", "NOREPLICAS", "OOM", "CLUSTERDOWN", "LOADING"];
            match passing.iter().any(|word| text.contains(word)) {
                true => StoreErrorKind::Unavailable,
                false => StoreErrorKind::Internal,
            }
        }
        _ => StoreErrorKind::Unavailable,
    };
    StoreError::new(kind, error)
}

/// The code of a script's error where a stored value cannot be read.
const DAMAGED: &str = "DAMAGED";

const CONNECTION_TRIES: usize = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
