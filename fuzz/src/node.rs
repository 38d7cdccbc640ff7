//! A node on a store in memory, with a session of its admin.

use std::cell::RefCell;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, Uri};
use session_core::{DeviceKind, UserId, UserKey};
use session_engine::SignIn;
use session_http::{
    AdminAccess, Body, Caller, Config, Content, Head, Hooks, HttpSessions, Identity, Peer,
    RequestSession,
};
use session_store_memory::MemoryStore;
use tokio::runtime::{Builder, Runtime};

/// After so many runs the node is a new one: what requests leave in the store would grow.
const RUNS: u32 = 2_000;

thread_local! {
    static NODE: RefCell<Option<Node>> = const { RefCell::new(None) };
}

/// A node, and what its admin holds.
pub(crate) struct Node {
    runtime: Runtime,
    http: HttpSessions,
    token: String,
    runs: u32,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// Empty for a stream of events.
    pub(crate) body: Bytes,
}

/// Lends this thread's node, or a new one where it was used up.
pub(crate) fn with<T>(run: impl FnOnce(&Node) -> T) -> T {
    NODE.with_borrow_mut(|slot| {
        let node = slot.take().filter(|node| node.runs < RUNS && node.admin_is_signed_in());
        let node = slot.insert(node.unwrap_or_else(Node::start));
        node.runs += 1;
        run(node)
    })
}

impl Node {
    fn start() -> Self {
        let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
        let (http, token) = runtime.block_on(async {
            let hooks = Hooks::default().with_guard(|caller: Caller<'_>| match caller.session {
                Some(_) => AdminAccess::Deployment,
                None => AdminAccess::Denied,
            });
            let store = Arc::new(MemoryStore::new());
            let http = HttpSessions::start_with(store, Config::development(), hooks).await;
            let http = http.expect("the options are valid");
            let root = UserKey::new(UserId::new("root").expect("a name"));
            let new = SignIn::new(root).with_device_kind(DeviceKind::Web);
            let signed_in = http.manager().sign_in(new).await.expect("nothing forbids it");
            (http, signed_in.token.expose())
        });
        Self { runtime, http, token, runs: 0 }
    }

    /// The rules.
    pub(crate) const fn http(&self) -> &HttpSessions {
        &self.http
    }

    /// Runs on the node's runtime.
    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// The bytes with what no seed can know: the admin's token in place of `{token}`, and for `{now}` the
    /// time in microseconds.
    pub(crate) fn filled(&self, data: &[u8]) -> Vec<u8> {
        let now = self.http.manager().now().as_micros().to_string();
        replaced(&replaced(data, b"{token}", &self.token), b"{now}", &now)
    }

    /// Headers that the admin's browser sends with a request of this origin.
    pub(crate) fn admins(&self) -> HeaderMap {
        let cookie = format!("{}={}", self.http.options().cookie.name, self.token);
        HeaderMap::from_iter([
            (COOKIE, HeaderValue::try_from(cookie).expect("hexadecimal digits")),
            (HeaderName::from_static("sec-fetch-site"), HeaderValue::from_static("same-origin")),
        ])
    }

    /// Whose request it is.
    pub(crate) fn identify(&self, head: Head<'_>) -> Identity {
        let peer = Some(Peer::Unix);
        let identity = self.wait(self.http.identify(head, peer).resolve());
        assert!(!matches!(identity, Identity::Unavailable), "a store in memory is never away");
        identity
    }

    /// Asks the API, and checks what holds for every answer.
    pub(crate) fn ask(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: impl Stream<Item = Result<Bytes, Infallible>>,
    ) -> Option<Answer> {
        let head = Head::new(method, uri, headers);
        let path = self.http.below_prefix(uri.path())?;
        let request = RequestSession::new(self.http.clone(), self.identify(head), None);
        let answer = Answer::of(self.wait(request.serve(head, path, body)));
        assert!(answer.status < 500, "{method} {uri}: {}", answer.status);
        for cookie in answer.headers.get_all(SET_COOKIE) {
            let cookie = String::from_utf8_lossy(cookie.as_bytes());
            assert!(cookie.contains("Max-Age=0"), "{method} {uri} sets a cookie: {cookie}");
        }
        let text = String::from_utf8_lossy(&answer.body);
        assert!(!text.contains(&self.token), "{method} {uri} shows the token");
        assert!(answer.body.len() < LONGEST, "{method} {uri}: {} bytes", answer.body.len());
        answer.assert_problem_is_whole();
        Some(answer)
    }

    /// The same without a body, as the admin.
    pub(crate) fn ask_as_admin(&self, method: &Method, path_and_query: &str) -> Option<Answer> {
        let uri = Uri::try_from(path_and_query).ok()?;
        self.ask(method, &uri, &self.admins(), stream::empty())
    }

    fn admin_is_signed_in(&self) -> bool {
        let (uri, headers) = (Uri::default(), self.admins());
        self.identify(Head::new(&Method::OPTIONS, &uri, &headers)).session().is_some()
    }
}

impl Answer {
    fn of(response: Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        let body = match body.into_content() {
            Content::Bytes(bytes) => bytes,
            Content::Stream(_) => Bytes::new(),
        };
        Self { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// The body of a refusal is JSON that repeats the status.
    fn assert_problem_is_whole(&self) {
        let kind = self.headers.get("content-type").map(HeaderValue::as_bytes);
        if kind == Some(b"application/problem+json") {
            let status = &self.json()["status"];
            assert_eq!(status.as_u64(), Some(self.status.into()), "the problem says {status}");
        }
    }

    /// The body.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}

fn replaced(data: &[u8], place: &[u8], by: &str) -> Vec<u8> {
    let mut filled = Vec::with_capacity(data.len());
    let mut rest = data;
    while let Some(at) = rest.windows(place.len()).position(|window| window == place) {
        filled.extend_from_slice(&rest[..at]);
        filled.extend_from_slice(by.as_bytes());
        rest = &rest[at + place.len()..];
    }
    filled.extend_from_slice(rest);
    filled
}

/// More than the longest file of the pages and the description of the API.
const LONGEST: usize = 512 * 1024;
