//! A node with a guard, and clients of it.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use futures_util::stream;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, COOKIE, SET_COOKIE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Response, Uri};
use http_body_util::BodyExt;
use serde_json::Value;
use session_core::policy::{Limit, OnExceed, Policy, Scope};
use session_core::{TenantId, Timestamp, UserId, UserKey};
use session_engine::clock::{Clock, TokioClock};
use session_http::{
    AdminAccess, Auth, Body, Caller, Config, CookieHeaders, Head, Hooks, HttpSessions, NewSession,
    RequestSession,
};
use session_store_memory::MemoryStore;
use session_test_support::{Described, Description};

/// `root` administers the deployment, `boss` their tenant, `porter` the users outside all tenants.
pub(crate) async fn start(config: Config) -> HttpSessions {
    let clock = TokioClock::starting_at(Timestamp::from_micros(1_780_000_000_000_000));
    let hooks = Hooks::default().with_clock(clock).with_guard(|caller: Caller<'_>| {
        let session = caller.session;
        match session.map(|session| session.user().as_str()) {
            Some("root") => AdminAccess::Deployment,
            Some("boss") => AdminAccess::Tenant(session.and_then(|it| it.tenant().cloned())),
            Some("porter") => AdminAccess::Tenant(None),
            _ => AdminAccess::Denied,
        }
    });
    let store = MemoryStore::with_clock(move || clock.now());
    HttpSessions::start_with(Arc::new(store), config, hooks).await.unwrap()
}

/// At most so many sessions; the next sign-in is refused.
pub(crate) fn at_most(max: u32) -> Config {
    let limits = vec![Limit { max, scope: Scope::User, on_exceed: OnExceed::Reject }];
    Config::default().with_policy(Policy { limits, ..Policy::default() })
}

pub(crate) fn user(name: &str) -> UserKey {
    match name.split_once('/') {
        Some((tenant, user)) => {
            UserKey::in_tenant(TenantId::new(tenant).unwrap(), UserId::new(user).unwrap())
        }
        None => UserKey::new(UserId::new(name).unwrap()),
    }
}

/// What a client got.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) json: Value,
    body: Bytes,
}

static DESCRIPTION: LazyLock<Description> = LazyLock::new(|| {
    let current = session_http::api::openapi("/sessions").to_json().unwrap();
    Description::parse(&current)
});

impl Answer {
    async fn of(response: Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let json = serde_json::from_slice(&body).unwrap_or_default();
        Self { status: parts.status.as_u16(), headers: parts.headers, json, body }
    }

    /// Compares it with the API's description.
    fn described(self, method: &Method, uri: &Uri) -> Self {
        let content_type = self.headers.get(CONTENT_TYPE).map(|kind| kind.to_str().unwrap());
        let described = Described {
            method: method.as_str(),
            path: uri.path(),
            status: self.status,
            content_type: content_type.unwrap_or_default(),
            body: &self.body,
        };
        DESCRIPTION.check(described).unwrap();
        self
    }

    /// A problem of this status and kind.
    pub(crate) fn problem(self, status: u16, kind: &str) -> Value {
        assert_eq!((self.status, &self.json["status"]), (status, &status.into()), "{self:?}");
        assert_eq!(self.json["type"], format!("urn:session-kit:{kind}"), "{self:?}");
        assert!(!self.headers.contains_key(SET_COOKIE), "{self:?}");
        assert_eq!(self.headers[CACHE_CONTROL], "no-store", "{self:?}");
        self.json
    }

    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json
    }

    pub(crate) fn cookie(&self) -> Option<&str> {
        Some(self.headers.get(SET_COOKIE)?.to_str().unwrap().split(';').next().unwrap())
    }
}

/// A browser on a page of this origin, or a program.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) http: HttpSessions,
    pub(crate) headers: HeaderMap,
}

impl Client {
    pub(crate) fn browser(http: &HttpSessions) -> Self {
        let mut client = Self { http: http.clone(), headers: HeaderMap::new() };
        client.set("sec-fetch-site", "same-origin");
        client
    }

    pub(crate) fn on(mut self, agent: &'static str) -> Self {
        self.headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        self
    }

    pub(crate) fn set(&mut self, name: &'static str, value: &str) {
        self.headers.insert(name, value.parse().unwrap());
    }

    pub(crate) async fn signed_in(http: &HttpSessions, name: &str) -> Self {
        Self::signed_in_as(http, NewSession::of(user(name))).await
    }

    pub(crate) async fn signed_in_as(http: &HttpSessions, new: NewSession) -> Self {
        let mut client = Self::browser(http);
        let answer = client.sign_in(new).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        client.keep(&answer);
        client
    }

    pub(crate) async fn auth(&self) -> Auth {
        let (method, uri) = (Method::POST, Uri::from_static("/login"));
        let head = Head::new(&method, &uri, &self.headers);
        self.request(head).await.auth(head)
    }

    pub(crate) async fn request(&self, head: Head<'_>) -> RequestSession {
        let identity = self.http.identify(head, None).resolve().await;
        RequestSession::new(self.http.clone(), identity, None)
    }

    /// What an application answers that leaves everything to the library.
    pub(crate) async fn sign_in(&self, new: NewSession) -> Answer {
        let signed_in = self.auth().await.sign_in(new).await;
        self.answer(signed_in.map(|(_, cookie)| cookie)).await
    }

    pub(crate) async fn answer(
        &self,
        cookie: Result<CookieHeaders, session_http::Rejection>,
    ) -> Answer {
        let response = cookie.map(|cookie| {
            let mut response = Response::new(Body::empty());
            cookie.apply(response.headers_mut());
            response
        });
        Answer::of(response.unwrap_or_else(|rejection| rejection.into_response())).await
    }

    pub(crate) fn keep(&mut self, answer: &Answer) {
        let cookie = answer.cookie().expect("a cookie").parse().unwrap();
        self.headers.insert(COOKIE, cookie);
    }

    pub(crate) fn bear(&mut self, token: &str) {
        self.headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let method: Method = method.parse().unwrap();
        let uri: Uri = format!("/sessions{path}").parse().unwrap();
        let head = Head::new(&method, &uri, &self.headers);
        let body = stream::iter([Ok::<_, std::io::Error>(Bytes::copy_from_slice(body.as_bytes()))]);
        let below = self.http.below_prefix(uri.path()).unwrap();
        let answer = Answer::of(self.request(head).await.serve(head, below, body).await).await;
        answer.described(&method, &uri)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.ask("DELETE", path, "").await
    }

    /// The id of its session; none where it is nobody's.
    pub(crate) async fn session_id(&self) -> Option<String> {
        let me = self.get("/me").await;
        Some(me.json["session_id"].as_str()?.to_owned())
    }
}
