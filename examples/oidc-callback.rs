//! Signing in with an identity provider: OpenID Connect's authorization code flow with PKCE.
//!
//! `cargo run --example oidc-callback`, then open <http://127.0.0.1:3000>. The provider is a stand-in in
//! the module at the end of this file; it knows `alice` and `bob` and asks for no password.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::Redirect;
use axum::routing::{get, post};
use axum::{Router, http::StatusCode};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use jsonwebtoken::{Algorithm, Validation, decode};
use serde::Deserialize;
use session_kit::axum::prelude::*;
use sha2::{Digest, Sha256};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The cookies of `development()` go over plain HTTP: over HTTPS use `Config::default()`, so that
    // they also come back with a form that the provider posts (`response_mode=form_post`).
    let mut config =
        Config::development().with_policy(PreventConcurrentLogin::LogoutFromSameTypeDevices);
    config.http.sign_in_path = Some("/login".to_owned());
    let sessions = Sessions::start(SqliteStore::connect("example.db").await?, config).await?;

    let provider = Arc::new(provider::Provider::new()?);
    let app = Router::new()
        .route("/", get(home))
        .route("/login", get(login))
        .route("/callback", get(callback))
        .route("/logout", post(logout))
        .with_state(Arc::clone(&provider))
        .merge(sessions.routes())
        .layer(sessions.layer())
        .merge(provider::routes(provider))
        .into_make_service_with_connect_info::<SocketAddr>();

    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(addr).await?;
    let node = sessions.clone();
    let stop = async move { node.graceful(tokio::signal::ctrl_c()).await };
    axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    sessions.shutdown().await;
    Ok(())
}

async fn home(session: CurrentSession) -> String {
    format!("hello {}", session.user())
}

#[derive(Deserialize)]
struct Next {
    next: Option<String>,
}

/// Sends the browser to the provider. The flow's cookie remembers state, nonce and verifier, and as
/// its data where to go afterwards.
async fn login(
    auth: SessionAuth,
    Query(query): Query<Next>,
) -> Result<(SessionCookie, Redirect), Rejection> {
    let (flow, cookie) = auth.begin_flow(query.next.as_deref().unwrap_or("/"))?;
    let parameters = form_urlencoded::Serializer::new(String::new())
        .append_pair("response_type", "code")
        .append_pair("scope", "openid")
        .append_pair("client_id", CLIENT_ID)
        .append_pair("redirect_uri", "/callback") // a real provider wants the whole URL
        .append_pair("state", &flow.state)
        .append_pair("nonce", &flow.nonce)
        .append_pair("code_challenge", &hashed(&flow.verifier))
        .append_pair("code_challenge_method", "S256")
        .finish();
    Ok((cookie, Redirect::to(&format!("/provider/authorize?{parameters}"))))
}

#[derive(Deserialize)]
struct Callback {
    state: String,
    /// None where the user, or the provider, has refused.
    code: Option<String>,
}

#[derive(Deserialize)]
struct IdToken {
    sub: String,
    nonce: String,
}

/// The browser is back. `finish_flow` makes sure that this very browser began, and that it does not
/// come twice; the rest is the provider's word, and it is checked here.
async fn callback(
    State(provider): State<Arc<provider::Provider>>,
    auth: SessionAuth,
    Query(callback): Query<Callback>,
) -> Result<(SessionCookie, Redirect), Rejection> {
    let (flow, proof) = auth.finish_flow(&callback.state)?;
    let refused = || Problem::new(StatusCode::FORBIDDEN, "urn:example:refused", "not signed in");
    // With a real provider: a POST to its token endpoint.
    let code = callback.code.as_deref().ok_or_else(refused)?;
    let token = provider.exchange(code, &flow.verifier).ok_or_else(refused)?;
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_issuer(&[provider::ISSUER]);
    validation.set_audience(&[CLIENT_ID]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    let token = decode::<IdToken>(&token, &provider.public_key(), &validation);
    let claims = token.map_err(|error| refused().with_detail(error.to_string()))?.claims;
    if claims.nonce != flow.nonce {
        return Err(refused().with_detail("a token of another flow").into());
    }
    let (_, cookie) = auth.sign_in_from_callback(proof, &claims.sub).await?;
    Ok((cookie, Redirect::to(local_path(&flow.data).unwrap_or("/"))))
}

async fn logout(auth: SessionAuth) -> Result<(SessionCookie, Redirect), Rejection> {
    Ok((auth.sign_out().await?, Redirect::to("/")))
}

fn hashed(text: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(text))
}

const CLIENT_ID: &str = "example";

/// A stand-in for an identity provider.
mod provider {
    use std::collections::HashMap;
    use std::sync::{Arc, Mutex};
    use std::time::SystemTime;

    use axum::Router;
    use axum::extract::{Query, State};
    use axum::response::{Html, Redirect};
    use axum::routing::get;
    use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, encode};
    use serde_json::json;

    pub(super) const ISSUER: &str = "https://provider.example";

    pub(super) struct Provider {
        keys: rcgen::KeyPair,
        /// What each code stands for; a code is good once.
        codes: Mutex<HashMap<String, HashMap<String, String>>>,
    }

    impl Provider {
        pub(super) fn new() -> Result<Self, rcgen::Error> {
            let keys = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
            Ok(Self { keys, codes: Mutex::default() })
        }

        pub(super) fn public_key(&self) -> DecodingKey {
            DecodingKey::from_ed_der(self.keys.public_key_raw())
        }

        /// The token endpoint: a code and the PKCE verifier for an ID token.
        pub(super) fn exchange(&self, code: &str, verifier: &str) -> Option<String> {
            let asked = self.codes.lock().unwrap().remove(code)?;
            if asked["code_challenge"] != super::hashed(verifier) {
                return None;
            }
            let now = SystemTime::UNIX_EPOCH.elapsed().ok()?.as_secs();
            let claims = json!({
                "iss": ISSUER, "aud": asked["client_id"], "sub": asked["user"],
                "nonce": asked["nonce"], "iat": now, "exp": now + 60,
            });
            let key = EncodingKey::from_ed_der(self.keys.serialized_der());
            encode(&Header::new(Algorithm::EdDSA), &claims, &key).ok()
        }
    }

    pub(super) fn routes(provider: Arc<Provider>) -> Router {
        Router::new()
            .route("/provider/authorize", get(page))
            .route("/provider/allow", get(allow))
            .with_state(provider)
    }

    async fn page(Query(asked): Query<HashMap<String, String>>) -> Html<String> {
        let mut form = "<!doctype html><title>Provider</title><form action=allow>".to_owned();
        for (name, value) in asked {
            let safe = |c: char| c.is_ascii_alphanumeric() || "-_/".contains(c);
            if [&name, &value].into_iter().all(|text| text.chars().all(safe)) {
                form += &format!(r#"<input type=hidden name="{name}" value="{value}">"#);
            }
        }
        Html(form + "<button name=user value=alice>alice</button><button name=user value=bob>bob")
    }

    async fn allow(
        State(provider): State<Arc<Provider>>,
        Query(asked): Query<HashMap<String, String>>,
    ) -> Redirect {
        let needed = ["user", "state", "nonce", "client_id", "code_challenge"];
        if !needed.iter().all(|name| asked.contains_key(*name)) {
            return Redirect::to("/");
        }
        // A real provider compares the redirect URI with what the client has registered.
        let mut code = [0; 16];
        getrandom::fill(&mut code).expect("random bytes");
        let code = super::hashed(&format!("{code:?}"));
        let back = format!("/callback?state={}&code={code}", asked["state"]);
        provider.codes.lock().unwrap().insert(code, asked);
        Redirect::to(&back)
    }
}
