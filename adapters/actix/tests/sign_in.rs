//! Sign-ins over actix-web: a limit and its ticket, why a session ended, and renewal.

use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::ServiceResponse;
use actix_web::http::Method;
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::{App, web};
use serde_json::{Value, json};
use session_actix::{
    Config, CurrentSession, Ended, Rejection, RotateReason, SessionAuth, SessionCookie, Sessions,
};
use session_core::policy::{Limit, OnExceed, Policy, Scope};
use session_store_memory::MemoryStore;
use tokio::sync::Notify;

async fn login(auth: SessionAuth) -> Result<SessionCookie, Rejection> {
    Ok(auth.sign_in("alice").await?.1)
}

async fn step_up(auth: SessionAuth) -> Result<SessionCookie, Rejection> {
    auth.rotate(RotateReason::reauthenticated()).await
}

async fn login_page(Ended(ended): Ended) -> String {
    ended.map_or_else(String::new, |ended| format!("{} by {}", ended.cause, ended.by))
}

async fn name(session: CurrentSession) -> String {
    session.user().to_string()
}

/// A page that is made slowly, while another tab does something else.
async fn slow(session: CurrentSession) -> String {
    ENTERED.notify_one();
    OPEN.notified().await;
    session.user().to_string()
}

static ENTERED: Notify = Notify::const_new();
static OPEN: Notify = Notify::const_new();

/// The application, whose type has no name.
macro_rules! start {
    ($config:expr) => {{
        let sessions = Sessions::start(MemoryStore::new(), $config).await.unwrap();
        let app = App::new()
            .service(web::resource("/login").post(login).get(login_page))
            .route("/name", web::get().to(name))
            .route("/callback", web::get().to(login))
            .route("/step-up", web::get().to(step_up))
            .route("/slow", web::get().to(slow))
            .service(sessions.routes())
            .wrap(sessions.middleware());
        init_service(app).await
    }};
}

fn request(method: &str, path: &str, cookie: &str, body: &str) -> TestRequest {
    let request = TestRequest::default().method(Method::from_bytes(method.as_bytes()).unwrap());
    let request = request.uri(path).insert_header(("sec-fetch-site", "same-origin"));
    request.insert_header(("cookie", cookie)).set_payload(body.to_owned())
}

fn header<'r>(response: &'r ServiceResponse<impl MessageBody>, name: &str) -> Vec<&'r str> {
    response.headers().get_all(name).map(|value| value.to_str().unwrap()).collect()
}

fn cookie(response: &ServiceResponse<impl MessageBody>) -> String {
    header(response, "set-cookie")[0].split(';').next().unwrap().to_owned()
}

async fn text<B: MessageBody>(response: ServiceResponse<B>) -> String {
    String::from_utf8(read_body(response).await.to_vec()).unwrap()
}

async fn value<B: MessageBody>(response: ServiceResponse<B>) -> Value {
    serde_json::from_str(&text(response).await).unwrap()
}

#[actix_web::test]
async fn a_refused_sign_in_goes_on_with_a_ticket_and_the_other_device_is_told() {
    let limits = vec![Limit { max: 1, scope: Scope::User, on_exceed: OnExceed::Reject }];
    let app = start!(Config::default().with_policy(Policy { limits, ..Policy::default() }));
    let ask = async |method: &str, path: &str, cookie: &str, body: &str| {
        call_service(&app, request(method, path, cookie, body).to_request()).await
    };
    let old = cookie(&ask("POST", "/login", "", "").await);
    let refused = ask("POST", "/login", "", "").await;
    assert_eq!(refused.status(), 409);
    assert_eq!(header(&refused, "cache-control"), ["no-store"]);
    let problem = value(refused).await;
    assert_eq!(problem["type"], "urn:session-kit:too-many-sessions");
    let end = &problem["sessions"][0]["id"];
    let choice = json!({ "ticket": problem["ticket"], "end": end }).to_string();
    let answer = ask("POST", "/sessions/ticket", "", &choice).await;
    assert_eq!(answer.status(), 200);
    let new = cookie(&answer);
    assert_eq!(text(ask("GET", "/name", &new, "").await).await, "alice");
    assert_eq!(ask("POST", "/sessions/ticket", "", &choice).await.status(), 410);
    // The old one is anonymous, keeps its cookie, and is told why.
    assert_eq!(ask("GET", "/name", &old, "").await.status(), 401);
    let page = ask("GET", "/login", &old, "").await;
    assert_eq!(header(&page, "set-cookie"), [""; 0]);
    assert_eq!(header(&page, "cache-control"), ["private, no-store"]);
    assert!(text(page).await.ends_with(" by user:alice"));
    for other in ["", "__Host-session=garbage", &new] {
        assert_eq!(text(ask("GET", "/login", other, "").await).await, "", "{other}");
    }
    assert_eq!(header(&ask("GET", "/login", "", "").await, "cache-control"), [""; 0]);
}

#[actix_web::test]
async fn a_navigation_renews_the_cookie_after_the_handler() {
    let mut config = Config::default();
    config.engine = config.engine.with_renew_after(Duration::from_micros(1));
    let app = start!(config);
    let signed_in = call_service(&app, request("POST", "/login", "", "").to_request()).await;
    let cookie = cookie(&signed_in);
    let ask = async |path: &str, mode: &str| {
        let request = request("GET", path, &cookie, "").insert_header(("sec-fetch-mode", mode));
        let request = request.insert_header(("sec-fetch-dest", "document")).to_request();
        call_service(&app, request).await
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
#[actix_web::test]
async fn no_renewal_overtakes_a_sign_in() {
    let mut config = Config::default();
    config.engine = config.engine.with_renew_after(Duration::from_micros(1));
    let app = start!(config);
    let ask = async |method: &str, path: &str, cookie: &str, mode: &str| {
        let request = request(method, path, cookie, "").insert_header(("sec-fetch-mode", mode));
        let request = request.insert_header(("sec-fetch-dest", "document"));
        call_service(&app, request.to_request()).await
    };
    let first = cookie(&ask("POST", "/login", "", "cors").await);
    let page = ask("GET", "/callback", &first, "navigate").await;
    assert_eq!(header(&page, "set-cookie").len(), 1);
    let second = cookie(&page);
    assert_eq!(ask("GET", "/name", &first, "cors").await.status(), 200, "the answer may be lost");
    let page = ask("GET", "/step-up", &second, "navigate").await;
    assert_eq!(header(&page, "set-cookie").len(), 1);
    let second = cookie(&page);
    assert_eq!(ask("GET", "/name", &second, "cors").await.status(), 200);
    let (page, third) = tokio::join!(ask("GET", "/slow", &second, "navigate"), async {
        ENTERED.notified().await;
        let signed_in = ask("POST", "/login", &second, "cors").await;
        OPEN.notify_one();
        cookie(&signed_in)
    });
    assert_eq!(page.status(), 200);
    assert_eq!(header(&page, "set-cookie"), [""; 0]);
    assert_eq!(ask("GET", "/name", &third, "cors").await.status(), 200);
    let page = ask("GET", "/name", &third, "navigate").await;
    assert_eq!(header(&page, "set-cookie").len(), 1, "it is due");
}

/// Methods and bodies of the API pass through the scope.
#[actix_web::test]
async fn the_api_takes_every_method() {
    let app = start!(Config::default());
    let signed_in = call_service(&app, request("POST", "/login", "", "").to_request()).await;
    let cookie = cookie(&signed_in);
    let ask = async |method: &str, path: &str, body: &str| {
        call_service(&app, request(method, path, &cookie, body).to_request()).await
    };
    let me = value(ask("GET", "/sessions/me", "").await).await;
    let path = format!("/sessions/me/{}", me["session_id"].as_str().unwrap());
    let body = json!({ "device_name": "Kitchen tablet" }).to_string();
    assert_eq!(value(ask("PATCH", &path, &body).await).await["device_name"], "Kitchen tablet");
    assert_eq!(ask("PUT", "/sessions/admin/block", "{}").await.status(), 403);
}
