//! Sign in on <http://127.0.0.1:3000> as `alice` with the password `correct horse`.

use actix_web::web::{self, Either, Form, Html, Redirect};
use actix_web::{App, HttpServer, Responder, http::StatusCode, rt};
use session_kit::actix::prelude::*;

#[derive(serde::Deserialize)]
struct Login {
    user: String,
    password: String,
}

/// Yours asks a database of users with password hashes, as `examples/actix.rs` does.
fn password_is_right(user: &str, password: &str) -> bool {
    (user, password) == ("alice", "correct horse")
}

async fn login(auth: SessionAuth, form: Form<Login>) -> Result<impl Responder, Rejection> {
    if !password_is_right(&form.user, &form.password) {
        let page = Html::new(LOGIN_PAGE).customize().with_status(StatusCode::UNAUTHORIZED);
        return Ok(Either::Left(page));
    }
    let (_, cookie) = auth.sign_in(&form.user).await?;
    Ok(Either::Right(cookie.on(Redirect::to("/").see_other())))
}

async fn login_page() -> Html {
    Html::new(LOGIN_PAGE)
}

async fn hello(session: CurrentSession) -> String {
    format!("hello {}", session.user())
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Over HTTPS: `Config::default()`, whose cookie browsers keep over HTTPS only.
    let mut config =
        Config::development().with_policy(PreventConcurrentLogin::LogoutFromAllDevices);
    config.http.sign_in_path = Some("/login".to_owned());
    let sessions = Sessions::start(SqliteStore::connect("sessions.db").await?, config).await?;

    let node = sessions.clone();
    let app = move || {
        App::new()
            .route("/", web::get().to(hello))
            .route("/login", web::get().to(login_page))
            .route("/login", web::post().to(login))
            .service(node.routes()) // the API and the pages, below /sessions/
            .wrap(node.middleware())
    };

    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let server = HttpServer::new(app)
        .disable_signals()
        .h1_allow_half_closed(false) // an event stream ends when its client goes
        .shutdown_timeout(1)
        .bind(addr)?
        .run();
    let (node, handle) = (sessions.clone(), server.handle());
    rt::spawn(async move {
        node.graceful(rt::signal::ctrl_c()).await; // ends event streams
        handle.stop(true).await;
    });
    server.await?;
    sessions.shutdown().await; // writes back what is not stored yet
    Ok(())
}

const LOGIN_PAGE: &str = "<!doctype html><title>Sign in</title><form method=post>\
    <input name=user><input name=password type=password><button>Sign in</button></form>";
