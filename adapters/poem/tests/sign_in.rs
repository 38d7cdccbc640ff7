//! Sign-ins over poem: a limit and its ticket, why a session ended, and renewal.

use std::time::Duration;

use poem::http::Method;
use poem::{Endpoint, EndpointExt, Request, Response, Route, get, handler};
use serde_json::{Value, json};
use session_core::policy::{Limit, OnExceed, Policy, Scope};
use session_poem::{
    Config, CurrentSession, Ended, Rejection, RotateReason, SessionAuth, SessionCookie, Sessions,
};
use session_store_memory::MemoryStore;
use tokio::sync::Notify;

#[handler]
async fn login(auth: SessionAuth) -> Result<SessionCookie, Rejection> {
    Ok(auth.sign_in("alice").await?.1)
}

#[handler]
async fn step_up(auth: SessionAuth) -> Result<SessionCookie, Rejection> {
    auth.rotate(RotateReason::reauthenticated()).await
}

#[handler]
fn login_page(Ended(ended): Ended) -> String {
    ended.map_or_else(String::new, |ended| format!("{} by {}", ended.cause, ended.by))
}

#[handler]
async fn user(session: CurrentSession) -> String {
    session.user().to_string()
}

/// A page that is made slowly, while another tab does something else.
#[handler]
async fn slow(session: CurrentSession) -> String {
    ENTERED.notify_one();
    OPEN.notified().await;
    session.user().to_string()
}

static ENTERED: Notify = Notify::const_new();
static OPEN: Notify = Notify::const_new();

async fn start(config: Config) -> impl Endpoint<Output = Response> {
    let sessions = Sessions::start(MemoryStore::new(), config).await.unwrap();
    Route::new()
        .at("/login", get(login_page).post(login))
        .at("/name", get(user))
        .at("/callback", get(login))
        .at("/step-up", get(step_up))
        .at("/slow", get(slow))
        .with(sessions.routes())
        .with(sessions.middleware())
}

async fn ask(
    app: &impl Endpoint<Output = Response>,
    method: &str,
    path: &str,
    cookie: &str,
    body: &str,
) -> Response {
    let request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap());
    let request = request.uri_str(path).header("cookie", cookie);
    let request = request.header("sec-fetch-site", "same-origin").body(body.to_owned());
    app.get_response(request).await
}

async fn read(app: &impl Endpoint<Output = Response>, path: &str, cookie: &str) -> (u16, String) {
    let response = ask(app, "GET", path, cookie, "").await;
    (response.status().as_u16(), text(response).await)
}

async fn text(response: Response) -> String {
    response.into_body().into_string().await.unwrap()
}

async fn value(response: Response) -> Value {
    serde_json::from_str(&text(response).await).unwrap()
}

fn header<'r>(response: &'r Response, name: &str) -> Vec<&'r str> {
    response.headers().get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

fn cookie(response: &Response) -> String {
    header(response, "set-cookie")[0].split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_refused_sign_in_goes_on_with_a_ticket_and_the_other_device_is_told() {
    let limits = vec![Limit { max: 1, scope: Scope::User, on_exceed: OnExceed::Reject }];
    let app = start(Config::default().with_policy(Policy { limits, ..Policy::default() })).await;
    let old = cookie(&ask(&app, "POST", "/login", "", "").await);
    let refused = ask(&app, "POST", "/login", "", "").await;
    assert_eq!(refused.status(), 409);
    assert_eq!(header(&refused, "cache-control"), ["no-store"]);
    let problem = value(refused).await;
    assert_eq!(problem["type"], "urn:session-kit:too-many-sessions");
    let end = &problem["sessions"][0]["id"];
    let choice = json!({ "ticket": problem["ticket"], "end": end }).to_string();
    let answer = ask(&app, "POST", "/sessions/ticket", "", &choice).await;
    assert_eq!(answer.status(), 200);
    let new = cookie(&answer);
    assert_eq!(read(&app, "/name", &new).await, (200, "alice".to_owned()));
    assert_eq!(ask(&app, "POST", "/sessions/ticket", "", &choice).await.status(), 410);
    // The old one is anonymous, keeps its cookie, and is told why.
    assert_eq!(read(&app, "/name", &old).await.0, 401);
    let page = ask(&app, "GET", "/login", &old, "").await;
    assert_eq!(header(&page, "set-cookie"), [""; 0]);
    assert_eq!(header(&page, "cache-control"), ["private, no-store"]);
    assert!(text(page).await.ends_with(" by user:alice"));
    for other in ["", "__Host-session=garbage", &new] {
        assert_eq!(read(&app, "/login", other).await.1, "", "{other}");
    }
    assert_eq!(header(&ask(&app, "GET", "/login", "", "").await, "cache-control"), [""; 0]);
}

#[tokio::test]
async fn a_navigation_renews_the_cookie_after_the_handler() {
    let mut config = Config::default();
    config.engine = config.engine.with_renew_after(Duration::from_micros(1));
    let app = start(config).await;
    let cookie = cookie(&ask(&app, "POST", "/login", "", "").await);
    let ask = async |path: &str, mode: &str| {
        let request = Request::builder().uri_str(path).header("cookie", &cookie);
        let request = request.header("sec-fetch-mode", mode).header("sec-fetch-dest", "document");
        app.get_response(request.finish()).await
    };
    assert_eq!(header(&ask("/name", "cors").await, "set-cookie"), [""; 0]);
    for path in ["/name", "/nothing", "/sessions/"] {
        let page = ask(path, "navigate").await;
        let renewed = header(&page, "set-cookie");
        assert_eq!(renewed.len(), 1, "{path}");
        assert!(renewed[0].starts_with("__Host-session=") && !renewed[0].contains(&cookie));
        assert_eq!(header(&page, "cache-control"), ["no-store"], "{path}");
    }
    assert_eq!(ask("/name", "cors").await.status(), 200);
}

/// The cookie of a sign-in or a step-up is newer than a renewal: where both are of one response, and where
/// the user has signed in in another tab since the request.
#[tokio::test]
async fn no_renewal_overtakes_a_sign_in() {
    let mut config = Config::default();
    config.engine = config.engine.with_renew_after(Duration::from_micros(1));
    let app = start(config).await;
    let navigate = async |path: &str, cookie: &str| {
        let request = Request::builder().uri_str(path).header("cookie", cookie);
        let request = request.header("sec-fetch-mode", "navigate");
        let request = request.header("sec-fetch-dest", "document").header("sec-fetch-site", "none");
        app.get_response(request.finish()).await
    };
    let first = cookie(&ask(&app, "POST", "/login", "", "").await);
    let page = navigate("/callback", &first).await;
    assert_eq!(header(&page, "set-cookie").len(), 1);
    let second = cookie(&page);
    assert_eq!(read(&app, "/name", &first).await.0, 200, "the answer may be lost");
    let page = navigate("/step-up", &second).await;
    assert_eq!(header(&page, "set-cookie").len(), 1);
    let second = cookie(&page);
    assert_eq!(read(&app, "/name", &second).await.0, 200);
    let (page, third) = tokio::join!(navigate("/slow", &second), async {
        ENTERED.notified().await;
        let signed_in = ask(&app, "POST", "/login", &second, "").await;
        OPEN.notify_one();
        cookie(&signed_in)
    });
    assert_eq!(page.status(), 200);
    assert_eq!(header(&page, "set-cookie"), [""; 0]);
    assert_eq!(read(&app, "/name", &third).await.0, 200);
    assert_eq!(header(&navigate("/name", &third).await, "set-cookie").len(), 1, "it is due");
}

/// Methods and bodies of the API pass through the route.
#[tokio::test]
async fn the_api_takes_every_method() {
    let app = start(Config::default()).await;
    let cookie = cookie(&ask(&app, "POST", "/login", "", "").await);
    let me = value(ask(&app, "GET", "/sessions/me", &cookie, "").await).await;
    let path = format!("/sessions/me/{}", me["session_id"].as_str().unwrap());
    let body = json!({ "device_name": "Kitchen tablet" }).to_string();
    let named = ask(&app, "PATCH", &path, &cookie, &body).await;
    assert_eq!(value(named).await["device_name"], "Kitchen tablet");
    assert_eq!(ask(&app, "PUT", "/sessions/admin/block", &cookie, "{}").await.status(), 403);
}
