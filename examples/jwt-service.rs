//! A service that takes signed tokens of a login service: a token names a session, and the service checks
//! that the session is still live.
//!
//! `cargo run --example jwt-service` runs both in one process, over one store: the login on
//! `/login`, `/logout`, `/token` and `/.well-known/jwks.json`, and the orders service, which knows no
//! cookie of the login's, on `/orders`. A password is the user's name:
//!
//! ```sh
//! curl -c jar -d 'user=alice&password=alice' http://127.0.0.1:3000/login
//! TOKEN=$(curl -s -b jar http://127.0.0.1:3000/token)
//! curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:3000/orders
//! curl -b jar -X POST http://127.0.0.1:3000/logout
//! ```
//!
//! After that the token is worth nothing, long before it expires.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{Form, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ED25519};
use serde::Deserialize;
use serde_json::{Value, json};
use session_kit::axum::prelude::*;
use session_kit::core::{Session, Store};
use session_kit::http::jwt::{JwtOptions, JwtVoucher};

const ISSUER: &str = "https://login.example.com";
const AUDIENCE: &str = "orders";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store: Arc<dyn Store> = Arc::new(SqliteStore::connect("example.db").await?);
    let keys = Arc::new(KeyPair::generate_for(&PKCS_ED25519)?);
    let (login, sessions) = login_service(Arc::clone(&store), Arc::clone(&keys)).await?;
    let (orders, orders_sessions) = orders_service(store, keys).await?;
    let app = login.nest("/orders", orders).into_make_service_with_connect_info::<SocketAddr>();

    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(addr).await?;
    let node = sessions.clone();
    let stop = async move { node.graceful(tokio::signal::ctrl_c()).await };
    axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    sessions.shutdown().await;
    orders_sessions.shutdown().await;
    Ok(())
}

/// A node of its own, which knows the login by the store and by the issuer's keys.
async fn orders_service(
    store: Arc<dyn Store>,
    keys: Arc<KeyPair>,
) -> Result<(Router, Sessions), Box<dyn std::error::Error>> {
    // With a real issuer: get https://login.example.com/.well-known/jwks.json.
    let fetch = move || {
        let keys = key_set(&keys).to_string();
        async move { Ok::<_, std::io::Error>(keys) }
    };
    let hooks = Hooks::default()
        .with_voucher(JwtVoucher::new(JwtOptions::new(ISSUER, AUDIENCE), fetch)?)
        .with_claims(|session: Session| async move {
            let buys = session.owner.user.as_str() == "alice";
            Ok::<_, std::io::Error>(json!({ "buys": buys }))
        });
    // A node on another host would not see the login's cookie.
    let mut config = Config::development();
    config.http.cookie.name = "orders".to_owned();
    let sessions = Sessions::start_with(store, config, hooks).await?;
    let buyers = RequireSession::signed_in().claims(|claims| claims["buys"] == true);
    let router = Router::new()
        .route("/buy", post(|| async { "bought" }))
        .route_layer(Require(buyers))
        .route("/", get(orders))
        .merge(sessions.routes())
        .layer(sessions.layer());
    Ok((router, sessions))
}

async fn orders(session: CurrentSession) -> String {
    format!("the orders of {}", session.user())
}

async fn login_service(
    store: Arc<dyn Store>,
    keys: Arc<KeyPair>,
) -> Result<(Router, Sessions), Box<dyn std::error::Error>> {
    let config =
        Config::development().with_policy(PreventConcurrentLogin::LogoutFromSameTypeDevices);
    let sessions = Sessions::start_with(store, config, Hooks::default()).await?;
    let router = Router::new()
        .route("/login", post(login))
        .route("/logout", post(logout))
        .route("/token", get(token))
        .route("/.well-known/jwks.json", get(published))
        .merge(sessions.routes())
        .layer(sessions.layer())
        .with_state(keys);
    Ok((router, sessions))
}

#[derive(Deserialize)]
struct Login {
    user: String,
    password: String,
}

async fn login(auth: SessionAuth, Form(form): Form<Login>) -> Result<SessionCookie, Rejection> {
    // Yours are hashed: see the example `axum`.
    if !["alice", "bob"].contains(&&*form.user) || form.password != form.user {
        return Err(Problem::unauthorized().with_detail("unknown user or wrong password").into());
    }
    Ok(auth.sign_in(&form.user).await?.1)
}

async fn logout(auth: SessionAuth) -> Result<SessionCookie, Rejection> {
    auth.sign_out().await
}

/// A token for the orders service. It says which session, and nothing about its user: roles that are
/// signed today would still be believed when they are taken.
async fn token(
    State(keys): State<Arc<KeyPair>>,
    session: CurrentSession,
) -> Result<String, Rejection> {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    let claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "sid": session.id(), "sub": session.user(),
        "iat": now, "exp": now + 3600,
    });
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = Some("today".to_owned());
    let token = encode(&header, &claims, &EncodingKey::from_ed_der(keys.serialized_der()));
    Ok(token.map_err(|_| Problem::internal())?)
}

async fn published(State(keys): State<Arc<KeyPair>>) -> Json<Value> {
    Json(key_set(&keys))
}

fn key_set(keys: &KeyPair) -> Value {
    let x = BASE64_URL_SAFE_NO_PAD.encode(keys.public_key_raw());
    json!({ "keys": [
        { "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": "today", "x": x },
    ] })
}
