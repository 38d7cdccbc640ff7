//! A small application with session governance. Three users, whose password is their name.

mod pages;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Form;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Json, Redirect, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use session_kit::axum::{
    AdminAccess, AdminGuard, Caller, CookieOptions, CurrentSession, HttpOptions, HttpSessions,
    NewSession, Rejection, SessionAuth, SessionLayer, routes,
};
use session_kit::core::{DeviceKind, InvalidField, SessionId, Store, StoreError, UserId, UserKey};
use session_kit::engine::{Engine, Options, Parts};
use session_kit::http::Problem;
use session_kit::mongodb::{MongoOptions, MongoStore};
use session_kit::redis::{RedisOptions, RedisStore};
use session_kit::sql::{MySqlStore, PostgresStore, SqliteStore};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Where the demo keeps its sessions. Shown without a URL's user and password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A SQLite file.
    File(PathBuf),
    /// A PostgreSQL database.
    Postgres(String),
    /// A MySQL or MariaDB database.
    MySql(String),
    /// A Redis server.
    Redis(String),
    /// A Redis cluster, by the URLs of some of its servers.
    RedisCluster(Vec<String>),
    /// A MongoDB database.
    MongoDb(String),
}

impl Place {
    /// Reads `sqlite:FILE`, or the URL of a server: `postgres:`, `mysql:`, `redis:`, `mongodb:`, or
    /// `redis-cluster:` with the hosts and ports of some of its servers, separated by commas.
    ///
    /// # Errors
    /// When it is none of them.
    pub fn parse(url: &str) -> Result<Self, InvalidField> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return Ok(Self::File(path.into()));
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Self::Postgres(url.to_owned()));
        }
        if url.starts_with("mysql://") || url.starts_with("mariadb://") {
            return Ok(Self::MySql(url.to_owned()));
        }
        if url.starts_with("redis://") || url.starts_with("rediss://") {
            // The variable that names a cluster for the tests holds one URL after the other.
            return Ok(match url.split_once(',') {
                Some(_) => Self::RedisCluster(url.split(',').map(str::to_owned).collect()),
                None => Self::Redis(url.to_owned()),
            });
        }
        if let Some(hosts) = url.strip_prefix("redis-cluster://") {
            let url =
                |host: &str| format!("redis://{}", host.strip_prefix("redis://").unwrap_or(host));
            return Ok(Self::RedisCluster(hosts.split(',').map(url).collect()));
        }
        if url.starts_with("mongodb://") || url.starts_with("mongodb+srv://") {
            return Ok(Self::MongoDb(url.to_owned()));
        }
        let expected =
            "sqlite:FILE, postgres://, mysql://, redis://, redis-cluster:// or mongodb://";
        Err(InvalidField::malformed("store", expected))
    }

    async fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        Ok(match self {
            Self::File(path) => Arc::new(SqliteStore::open(path).await?),
            Self::Postgres(url) => Arc::new(PostgresStore::connect(url).await?),
            Self::MySql(url) => Arc::new(MySqlStore::connect(url).await?),
            Self::Redis(url) => Arc::new(RedisStore::connect(url, RedisOptions::default()).await?),
            Self::RedisCluster(urls) => {
                let urls: Vec<_> = urls.iter().map(String::as_str).collect();
                Arc::new(RedisStore::connect_cluster(&urls, RedisOptions::default()).await?)
            }
            Self::MongoDb(url) => {
                Arc::new(MongoStore::connect(url, MongoOptions::default()).await?)
            }
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Postgres(url) => write!(f, "PostgreSQL at {}", host(url)),
            Self::MySql(url) => write!(f, "MySQL at {}", host(url)),
            Self::Redis(url) => write!(f, "Redis at {}", host(url)),
            Self::RedisCluster(urls) => {
                let hosts: Vec<_> = urls.iter().map(|url| host(url)).collect();
                write!(f, "Redis Cluster at {}", hosts.join(", "))
            }
            Self::MongoDb(url) => write!(f, "MongoDB at {}", host(url)),
        }
    }
}

/// What of a URL may be shown: neither user nor password nor options.
fn host(url: &str) -> &str {
    let host = url.rsplit_once('@').or_else(|| url.split_once("://")).map_or("", |(_, host)| host);
    host.split('?').next().unwrap_or_default()
}

/// The application over one store.
#[derive(Debug)]
pub struct Demo {
    engine: Engine,
    router: Router,
}

impl Demo {
    /// Opens the store and starts the engine.
    ///
    /// # Errors
    /// When the store cannot be opened.
    pub async fn open(place: &Place) -> Result<Self, Box<dyn std::error::Error>> {
        let store = place.open().await?;
        let engine = Engine::start_with(store, Options::default(), Parts::default()).await?;
        let mut options = HttpOptions::default();
        // The demo speaks plain HTTP on the loopback interface.
        options.cookie = CookieOptions::development();
        options.sign_in_path = Some("/login".to_owned());
        let http = HttpSessions::with_guard(engine.sessions().clone(), options, OnlyRoot)?;
        Ok(Self { engine, router: router(http) })
    }

    /// Serves until `stop` resolves, then writes back what is unstored.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()>,
    ) -> std::io::Result<()> {
        let service = self.router.into_make_service_with_connect_info::<SocketAddr>();
        let (stopping, stopped) = oneshot::channel::<()>();
        let serving = axum::serve(listener, service).with_graceful_shutdown(async move {
            // A sender that is gone means the same.
            let _ = stopped.await;
        });
        let mut serving = std::pin::pin!(serving.into_future());
        tokio::select! {
            result = &mut serving => result?,
            () = stop => {
                drop(stopping);
                // Event streams stay open for ever; they are cut.
                let _ = tokio::time::timeout(GRACE, serving).await;
            }
        }
        self.engine.shutdown().await;
        Ok(())
    }
}

/// Resolves when the process is asked to stop.
pub async fn stop_signal() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    // A signal that cannot be waited for never comes.
    let _ = interrupt.await;
}

/// Only the user `root` administers.
struct OnlyRoot;

#[async_trait::async_trait]
impl AdminGuard for OnlyRoot {
    async fn access(&self, caller: Caller<'_>) -> AdminAccess {
        match caller.session {
            Some(session) if session.owner.user.as_str() == "root" => AdminAccess::Deployment,
            _ => AdminAccess::Denied,
        }
    }
}

fn router(http: HttpSessions) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/login", get(login_page).post(login))
        .route("/logout", post(logout))
        .route("/whoami", get(whoami))
        .merge(routes(&http))
        .layer(SessionLayer::new(http))
}

#[derive(Deserialize)]
struct Login {
    user: String,
    password: String,
    device: Option<String>,
}

#[derive(Serialize)]
struct WhoAmI {
    user: String,
    session_id: SessionId,
}

async fn home(session: Option<CurrentSession>) -> Html<String> {
    Html(pages::home(session.as_ref().map(|session| session.owner.user.as_str())))
}

async fn login_page() -> Html<String> {
    Html(pages::login(""))
}

async fn login(auth: SessionAuth, Form(login): Form<Login>) -> Result<Response, Rejection> {
    if !USERS.contains(&login.user.as_str()) || login.password != login.user {
        return Ok(login_failed(StatusCode::UNAUTHORIZED, "Unknown user or wrong password."));
    }
    let mut new = NewSession::of(UserKey::new(UserId::new(&login.user)?));
    let device = login.device.filter(|device| !device.is_empty());
    new.device_kind = device.as_deref().map(DeviceKind::new).transpose()?;
    match auth.sign_in(new).await {
        Ok((_, cookie)) => Ok((cookie, Redirect::to("/")).into_response()),
        Err(Rejection(problem)) if problem.status() == StatusCode::CONFLICT => {
            let text = "You are signed in on as many devices as you may be. Sign out on another.";
            Ok(login_failed(StatusCode::CONFLICT, text))
        }
        Err(rejection) => Err(rejection),
    }
}

async fn logout(auth: SessionAuth) -> Result<Response, Rejection> {
    match auth.sign_out().await {
        Ok(cookie) => Ok((cookie, Redirect::to("/login")).into_response()),
        // Signed out already, perhaps from elsewhere.
        Err(Rejection(problem)) if problem == Problem::unauthorized() => {
            Ok(Redirect::to("/login").into_response())
        }
        Err(rejection) => Err(rejection),
    }
}

async fn whoami(session: CurrentSession) -> Json<WhoAmI> {
    Json(WhoAmI { user: session.owner.user.to_string(), session_id: session.id })
}

fn login_failed(status: StatusCode, text: &str) -> Response {
    (status, Html(pages::login(text))).into_response()
}

const USERS: [&str; 3] = ["alice", "bob", "root"];
const GRACE: Duration = Duration::from_secs(1);
