//! The demo on axum.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use axum::extract::{Form, Path, Query, State};
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{Html, IntoResponse, Json, Redirect, Response};
use axum::routing::{get, post, put};
use axum::{Router, serve::ListenerExt};
use session_kit::SessionId;
use session_kit::axum::{
    Claims, CurrentSession, Ended, Fresh, MaybeSession, Rejection, Require, RotateReason,
    SameOrigin, SessionAuth, SessionCookie, Sessions,
};
use session_kit::http::RequireSession;
use tokio::sync::oneshot;

use crate::Demo;
use crate::accounts;
use crate::forms::{
    ActAs, Callback, Credentials, Login, LoginQuery, NewRoles, NewToken, Password, WhoAmI,
    after_flow, after_login, confirm, new_session, provider_path, require_root,
};
use crate::live;
use crate::metrics;
use crate::pages;
use crate::sign_in::CHOOSE;

pub(crate) async fn serve(
    demo: Demo,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let http = demo.http.clone();
    let listener = tokio::net::TcpListener::from_std(listener)?.tap_io(|stream| {
        // A connection on which this fails is gone anyway.
        let _ = stream.set_nodelay(true);
    });
    let service = router(demo).into_make_service_with_connect_info::<SocketAddr>();
    let (stopping, stopped) = oneshot::channel::<()>();
    let stop = async move {
        http.graceful(stop).await;
        drop(stopping);
    };
    let serving = axum::serve(listener, service).with_graceful_shutdown(stop);
    tokio::select! {
        result = serving.into_future() => result,
        // A client that neither sends nor reads keeps its connection open: it is cut.
        () = async { let _ = stopped.await; tokio::time::sleep(GRACE).await } => Ok(()),
    }
}

fn router(demo: Demo) -> Router {
    let sessions = Sessions(demo.http.clone());
    let roles = Router::new()
        .route("/roles/{*user}", put(set_roles))
        .route_layer(Require(RequireSession::signed_in()));
    let kept = Router::new()
        .route("/vault", post(keep))
        .route("/count", post(count))
        .route_layer(Require(RequireSession::signed_in().from_same_origin()));
    Router::new()
        .route("/", get(home))
        .route("/login", get(login_page).post(login))
        .route("/choose.js", get(choose))
        .route("/metrics", get(node_metrics))
        .route("/impersonate", post(impersonate))
        .route("/login/elsewhere", get(login_elsewhere))
        .route("/provider", get(provider))
        .route("/callback", get(callback).post(posted_callback))
        .route("/token", post(token))
        .route("/logout", post(logout))
        .route("/whoami", get(whoami))
        .route("/accounts", get(my_accounts))
        .route("/accounts/{id}", post(switch_account))
        .route("/rotate", post(rotate))
        .route("/reauthenticate", post(reauthenticate))
        .route("/vault", get(vault).delete(clear))
        .merge(kept)
        .route("/roles", get(roles_of))
        .merge(roles)
        .merge(live::axum::routes())
        .merge(sessions.routes())
        .layer(sessions.layer())
        .with_state(demo)
}

async fn home(State(demo): State<Demo>, MaybeSession(session): MaybeSession) -> Html<String> {
    Html(demo.home(session.as_ref()))
}

async fn login_page(
    State(demo): State<Demo>,
    Ended(ended): Ended,
    Query(query): Query<LoginQuery>,
) -> Html<String> {
    Html(demo.sign_in_page(ended.as_deref(), query.next()).await)
}

async fn choose() -> ([(HeaderName, &'static str); 1], &'static str) {
    ([(CONTENT_TYPE, "text/javascript; charset=utf-8")], CHOOSE)
}

/// For Prometheus. An application serves it where only Prometheus can reach it.
async fn node_metrics() -> ([(HeaderName, &'static str); 1], String) {
    ([(CONTENT_TYPE, metrics::TEXT)], metrics::render())
}

async fn login(
    State(demo): State<Demo>,
    auth: SessionAuth,
    headers: HeaderMap,
    Form(login): Form<Login>,
) -> Result<Response, Rejection> {
    let Some(user) = accounts::authenticate(&login.user, &login.password) else {
        let page = demo.wrong_password_page(login.next());
        return Ok((StatusCode::UNAUTHORIZED, Html(page)).into_response());
    };
    match auth.sign_in(new_session(user, &login)?).await {
        Ok((_, cookie)) => Ok((cookie, Redirect::to(after_login(&login))).into_response()),
        Err(Rejection(refused)) => {
            let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
            match demo.refused_page(refused.problem(), accept, login.next()) {
                Some(page) => {
                    // It has a ticket.
                    let headers = [(CACHE_CONTROL, "no-store")];
                    Ok((refused.status(), headers, Html(page)).into_response())
                }
                None => Err(Rejection(refused)),
            }
        }
    }
}

/// The admin's browser goes on as the other user. Signing out ends that.
async fn impersonate(
    Fresh(session): Fresh<300>,
    _: SameOrigin,
    auth: SessionAuth,
    Form(form): Form<ActAs>,
) -> Result<(SessionCookie, Redirect), Rejection> {
    let (_, cookie) = auth.sign_in(form.check(&session)?).await?;
    Ok((cookie, Redirect::to("/")))
}

/// An app's sign-in: the token is in the answer.
async fn token(
    auth: SessionAuth,
    Json(credentials): Json<Credentials>,
) -> Result<(SessionCookie, Json<NewToken>), Rejection> {
    let (signed_in, no_cookie) = auth.sign_in_app(credentials.check()?).await?;
    Ok((no_cookie, Json(NewToken::of(&signed_in))))
}

async fn login_elsewhere(
    auth: SessionAuth,
    Query(query): Query<LoginQuery>,
) -> Result<(SessionCookie, Redirect), Rejection> {
    let (flow, cookie) = auth.begin_flow(query.next().unwrap_or_default())?;
    Ok((cookie, Redirect::to(&provider_path(&flow))))
}

async fn provider(State(demo): State<Demo>, Query(callback): Query<Callback>) -> Html<String> {
    Html(demo.provider_page(&callback.state))
}

async fn callback(
    auth: SessionAuth,
    Query(callback): Query<Callback>,
) -> Result<(SessionCookie, Redirect), Rejection> {
    let (flow, proof) = auth.finish_flow(&callback.state)?;
    let (_, cookie) = auth.sign_in_from_callback(proof, callback.check()?).await?;
    Ok((cookie, Redirect::to(after_flow(&flow))))
}

async fn posted_callback(
    auth: SessionAuth,
    Form(form): Form<Callback>,
) -> Result<(SessionCookie, Redirect), Rejection> {
    callback(auth, Query(form)).await
}

async fn logout(auth: SessionAuth) -> Result<impl IntoResponse, Rejection> {
    Ok((auth.sign_out().await?, Redirect::to("/login")))
}

async fn whoami(session: CurrentSession) -> Json<WhoAmI> {
    Json(WhoAmI::of(&session))
}

/// The accounts that this browser is signed in to side by side, the one in use first.
async fn my_accounts(auth: SessionAuth) -> Result<Json<Vec<WhoAmI>>, Rejection> {
    Ok(Json(auth.accounts().await?.iter().map(WhoAmI::of).collect()))
}

async fn switch_account(
    auth: SessionAuth,
    Path(id): Path<SessionId>,
) -> Result<(SessionCookie, Redirect), Rejection> {
    Ok((auth.switch_account(id).await?, Redirect::to("/")))
}

async fn rotate(
    session: CurrentSession,
    auth: SessionAuth,
) -> Result<(SessionCookie, Json<WhoAmI>), Rejection> {
    Ok((auth.rotate(RotateReason::Renewal).await?, whoami(session).await))
}

async fn reauthenticate(
    session: CurrentSession,
    auth: SessionAuth,
    Form(form): Form<Password>,
) -> Result<(SessionCookie, Json<WhoAmI>), Rejection> {
    let reason = confirm(&session, &form.password)?;
    Ok((auth.rotate(reason).await?, whoami(session).await))
}

async fn count(
    State(demo): State<Demo>,
    session: CurrentSession,
    _: SameOrigin,
) -> Result<String, Rejection> {
    Ok(demo.count(&session).await?)
}

async fn vault(Fresh(session): Fresh<300>) -> String {
    pages::vault(&session)
}

/// A guard has seen to it that no page of another origin asks.
async fn keep(session: CurrentSession) -> String {
    pages::kept(&session)
}

/// The same, by an extractor.
async fn clear(session: CurrentSession, _: SameOrigin) -> String {
    pages::cleared(&session)
}

async fn roles_of(Claims(claims): Claims<accounts::Claims>) -> Json<accounts::Claims> {
    Json(claims)
}

async fn set_roles(
    State(demo): State<Demo>,
    session: CurrentSession,
    Path(user): Path<String>,
    Json(roles): Json<NewRoles>,
) -> Result<Json<accounts::Claims>, Rejection> {
    require_root(&session)?;
    Ok(Json(demo.set_roles(&user, roles.into()).await?))
}

/// How long a connection that is not idle may last after the signal to stop.
const GRACE: Duration = Duration::from_secs(1);
