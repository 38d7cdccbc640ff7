//! A small application, and a browser of few virtues.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Form};
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::routing::{get, post};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::Value;
use session_axum::{
    AdminAccess, AdminGuard, Caller, CurrentSession, Fresh, HttpOptions, HttpSessions, NewSession,
    Rejection, RotateReason, SessionAuth, SessionCookie, SessionLayer, routes,
};
use session_conformance::Probe;
use session_core::{TenantId, UserId, UserKey};
use session_engine::{Engine, Options, Parts};
use session_store_memory::MemoryStore;
use tower::ServiceExt;

pub(crate) struct App {
    pub(crate) engine: Engine,
    pub(crate) probe: Probe,
    router: Router,
}

/// `root` administers everything, `boss` of a tenant that tenant.
struct Guard;

#[async_trait::async_trait]
impl AdminGuard for Guard {
    async fn access(&self, caller: Caller<'_>) -> AdminAccess {
        match caller.session.map(|session| (session.owner.user.as_str(), &session.owner.tenant)) {
            Some(("root", _)) => AdminAccess::Deployment,
            Some(("boss", tenant)) => AdminAccess::Tenant(tenant.clone()),
            _ => AdminAccess::Denied,
        }
    }
}

pub(crate) fn user(name: &str) -> UserKey {
    match name.split_once('/') {
        Some((tenant, name)) => {
            UserKey::in_tenant(TenantId::new(tenant).unwrap(), UserId::new(name).unwrap())
        }
        None => UserKey::new(UserId::new(name).unwrap()),
    }
}

async fn login(
    auth: SessionAuth,
    Form(name): Form<Vec<(String, String)>>,
) -> Result<(SessionCookie, &'static str), Rejection> {
    let field = |field| name.iter().find(|(name, _)| name == field).map(|(_, value)| value);
    let mut new = NewSession::of(user(field("user").unwrap()));
    new.device_kind = field("device").map(|device| device.parse()).transpose()?;
    let (_, cookie) = auth.sign_in(new).await?;
    Ok((cookie, "welcome"))
}

async fn logout(auth: SessionAuth) -> Result<SessionCookie, Rejection> {
    auth.sign_out().await
}

async fn confirm(auth: SessionAuth) -> Result<SessionCookie, Rejection> {
    auth.rotate(RotateReason::Reauthenticated).await
}

async fn optional(session: Option<CurrentSession>) -> String {
    session.map_or("nobody".to_owned(), |session| session.owner.user.to_string())
}

async fn required(session: CurrentSession) -> String {
    session.id.to_string()
}

async fn fresh(Fresh(session): Fresh<60>) -> String {
    session.id.to_string()
}

impl App {
    pub(crate) async fn start() -> Self {
        Self::with(Options::default(), HttpOptions::default()).await
    }

    pub(crate) async fn with(options: Options, http: HttpOptions) -> Self {
        let probe = Probe::over(MemoryStore::new());
        let mut parts = Parts::default();
        let start = session_core::Timestamp::from_micros(1_780_000_000_000_000);
        parts.clock = Arc::new(session_engine::clock::TokioClock::starting_at(start));
        let store = Arc::new(probe.clone());
        let engine = Engine::start_with(store, options, parts).await.unwrap();
        let http = HttpSessions::with_guard(engine.sessions().clone(), http, Guard).unwrap();
        let router = Router::new()
            .route("/", get(optional))
            .route("/required", get(required))
            .route("/fresh", get(fresh))
            .route("/login", post(login))
            .route("/logout", post(logout))
            .route("/confirm", post(confirm))
            .merge(routes(&http))
            .layer(SessionLayer::new(http));
        Self { engine, probe, router }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// The response with its body still to come.
    pub(crate) async fn open(&self, request: Request<Body>) -> axum::response::Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn browser(&self, name: &str) -> Browser<'_> {
        let mut browser = Browser { app: self, cookie: None };
        browser.login(name).await;
        browser
    }

    pub(crate) const fn stranger(&self) -> Browser<'_> {
        Browser { app: self, cookie: None }
    }
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The status, and that a problem is told as one.
    pub(crate) fn problem(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert!(!self.headers.contains_key(SET_COOKIE), "a refusal writes no cookie");
        let problem = self.json();
        assert_eq!(problem["status"], status);
        problem
    }
}

/// Keeps its cookie and proves its origin.
pub(crate) struct Browser<'a> {
    app: &'a App,
    pub(crate) cookie: Option<String>,
}

impl Browser<'_> {
    pub(crate) fn request(&self, method: &str, path: &str, body: &str) -> Request<Body> {
        let address = SocketAddr::from(([203, 0, 113, 7], 4711));
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "app.example")
            .header("sec-fetch-site", "same-origin")
            .extension(ConnectInfo(address));
        if method == "POST" {
            request = request.header("content-type", "application/x-www-form-urlencoded");
        }
        if let Some(cookie) = &self.cookie {
            request = request.header(COOKIE, cookie);
        }
        request.body(Body::from(body.to_owned())).unwrap()
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        self.app.send(self.request(method, path, body)).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "").await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, "").await
    }

    /// Sends a form and keeps the cookie that comes back.
    pub(crate) async fn post(&mut self, path: &str, body: &str) -> Answer {
        let answer = self.send("POST", path, body).await;
        if let Some(cookie) = answer.headers.get(SET_COOKIE) {
            assert_eq!(answer.headers["cache-control"], "no-store");
            let cookie = cookie.to_str().unwrap();
            self.cookie = Some(cookie.split(';').next().unwrap().to_owned());
        }
        answer
    }

    pub(crate) async fn login(&mut self, name: &str) {
        let body = format!("user={}", name.replace('/', "%2F"));
        assert_eq!(self.post("/login", &body).await.status, 200);
    }

    pub(crate) async fn id(&self) -> String {
        self.get("/required").await.text().to_owned()
    }
}
