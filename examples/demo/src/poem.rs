//! The demo on poem.

use std::io;
use std::net::TcpListener;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use poem::http::header::{ACCEPT, CACHE_CONTROL};
use poem::http::uri::Scheme;
use poem::http::{HeaderMap, StatusCode};
use poem::listener::{Acceptor, TcpAcceptor};
use poem::middleware::SizeLimit;
use poem::web::{Data, Form, Html, Json, LocalAddr, Path, Query, Redirect, RemoteAddr};
use poem::{Endpoint, EndpointExt, IntoResponse, Response, Route, Server, get, handler, post, put};
use session_kit::SessionId;
use session_kit::http::RequireSession;
use session_kit::poem::{
    Claims, CurrentSession, Ended, Fresh, MaybeSession, Rejection, Require, RotateReason,
    SameOrigin, SessionAuth, Sessions,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

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
) -> io::Result<()> {
    let http = demo.http.clone();
    let acceptor = Connections(TcpAcceptor::from_std(listener)?);
    // A client that neither sends nor reads keeps its connection open: it is cut after the grace.
    Server::new_with_acceptor(acceptor)
        .run_with_graceful_shutdown(app(demo), http.graceful(stop), Some(GRACE))
        .await
}

fn app(demo: Demo) -> impl Endpoint {
    let sessions = Sessions(demo.http.clone());
    let signed_in = Require(RequireSession::signed_in());
    let from_here = || Require(RequireSession::signed_in().from_same_origin());
    // A body whose length is not announced is refused.
    let limit = || SizeLimit::new(MAX_FORM_BYTES);
    live::poem::add_to(Route::new())
        .at("/", get(home))
        .at("/login", get(login_page).post(login.with(limit())))
        .at("/choose.js", get(choose))
        .at("/metrics", get(node_metrics))
        .at("/impersonate", post(impersonate.with(limit())))
        .at("/login/elsewhere", get(login_elsewhere))
        .at("/provider", get(provider))
        .at("/callback", get(callback).post(posted_callback.with(limit())))
        .at("/token", post(token.with(limit())))
        .at("/logout", post(logout))
        .at("/whoami", get(whoami))
        .at("/accounts", get(my_accounts))
        .at("/accounts/:id", post(switch_account))
        .at("/rotate", post(rotate))
        .at("/reauthenticate", post(reauthenticate.with(limit())))
        .at("/count", post(count.with(from_here())))
        .at("/vault", get(vault).post(keep.with(from_here())).delete(clear))
        .at("/roles", get(roles_of))
        .at("/roles/*user", put(set_roles.with(limit())).with(signed_in))
        .with(sessions.routes())
        .with(sessions.middleware())
        .data(demo)
}

#[handler]
async fn home(Data(demo): Data<&Demo>, MaybeSession(session): MaybeSession) -> Html<String> {
    Html(demo.home(session.as_ref()))
}

#[handler]
async fn login_page(
    Data(demo): Data<&Demo>,
    Ended(ended): Ended,
    Query(query): Query<LoginQuery>,
) -> Html<String> {
    Html(demo.sign_in_page(ended.as_deref(), query.next()).await)
}

#[handler]
fn choose() -> Response {
    CHOOSE.with_content_type("text/javascript; charset=utf-8").into_response()
}

/// For Prometheus. An application serves it where only Prometheus can reach it.
#[handler]
fn node_metrics() -> Response {
    metrics::render().with_content_type(metrics::TEXT).into_response()
}

#[handler]
async fn login(
    Data(demo): Data<&Demo>,
    auth: SessionAuth,
    headers: &HeaderMap,
    Form(form): Form<Login>,
) -> Result<Response, Rejection> {
    let Some(user) = accounts::authenticate(&form.user, &form.password) else {
        let page = demo.wrong_password_page(form.next());
        return Ok((StatusCode::UNAUTHORIZED, Html(page)).into_response());
    };
    match auth.sign_in(new_session(user, &form)?).await {
        Ok((_, cookie)) => Ok(cookie.on(Redirect::see_other(after_login(&form)))),
        Err(Rejection(refused)) => {
            let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
            match demo.refused_page(refused.problem(), accept, form.next()) {
                Some(page) => {
                    // It has a ticket.
                    let page = Html(page).with_header(CACHE_CONTROL, "no-store");
                    Ok(page.with_status(refused.status()).into_response())
                }
                None => Err(Rejection(refused)),
            }
        }
    }
}

/// The admin's browser goes on as the other user. Signing out ends that.
#[handler]
async fn impersonate(
    Fresh(session): Fresh<300>,
    _: SameOrigin,
    auth: SessionAuth,
    Form(form): Form<ActAs>,
) -> Result<Response, Rejection> {
    let (_, cookie) = auth.sign_in(form.check(&session)?).await?;
    Ok(cookie.on(Redirect::see_other("/")))
}

/// An app's sign-in: the token is in the answer.
#[handler]
async fn token(
    auth: SessionAuth,
    Json(credentials): Json<Credentials>,
) -> Result<Response, Rejection> {
    let (signed_in, no_cookie) = auth.sign_in_app(credentials.check()?).await?;
    Ok(no_cookie.on(Json(NewToken::of(&signed_in))))
}

#[handler]
async fn login_elsewhere(
    auth: SessionAuth,
    Query(query): Query<LoginQuery>,
) -> Result<Response, Rejection> {
    let (flow, cookie) = auth.begin_flow(query.next().unwrap_or_default())?;
    Ok(cookie.on(Redirect::see_other(provider_path(&flow))))
}

#[handler]
async fn provider(Data(demo): Data<&Demo>, Query(back): Query<Callback>) -> Html<String> {
    Html(demo.provider_page(&back.state))
}

#[handler]
async fn callback(auth: SessionAuth, Query(back): Query<Callback>) -> Result<Response, Rejection> {
    signed_in_elsewhere(&auth, &back).await
}

#[handler]
async fn posted_callback(
    auth: SessionAuth,
    Form(back): Form<Callback>,
) -> Result<Response, Rejection> {
    signed_in_elsewhere(&auth, &back).await
}

async fn signed_in_elsewhere(auth: &SessionAuth, back: &Callback) -> Result<Response, Rejection> {
    let (flow, proof) = auth.finish_flow(&back.state)?;
    let (_, cookie) = auth.sign_in_from_callback(proof, back.check()?).await?;
    Ok(cookie.on(Redirect::see_other(after_flow(&flow))))
}

#[handler]
async fn logout(auth: SessionAuth) -> Result<Response, Rejection> {
    Ok(auth.sign_out().await?.on(Redirect::see_other("/login")))
}

#[handler]
async fn whoami(session: CurrentSession) -> Json<WhoAmI> {
    Json(WhoAmI::of(&session))
}

/// The accounts that this browser is signed in to side by side, the one in use first.
#[handler]
async fn my_accounts(auth: SessionAuth) -> Result<Json<Vec<WhoAmI>>, Rejection> {
    Ok(Json(auth.accounts().await?.iter().map(WhoAmI::of).collect()))
}

#[handler]
async fn switch_account(
    auth: SessionAuth,
    Path(id): Path<SessionId>,
) -> Result<Response, Rejection> {
    Ok(auth.switch_account(id).await?.on(Redirect::see_other("/")))
}

#[handler]
async fn rotate(session: CurrentSession, auth: SessionAuth) -> Result<Response, Rejection> {
    Ok(auth.rotate(RotateReason::Renewal).await?.on(Json(WhoAmI::of(&session))))
}

#[handler]
async fn reauthenticate(
    session: CurrentSession,
    auth: SessionAuth,
    Form(form): Form<Password>,
) -> Result<Response, Rejection> {
    let reason = confirm(&session, &form.password)?;
    Ok(auth.rotate(reason).await?.on(Json(WhoAmI::of(&session))))
}

#[handler]
async fn count(
    Data(demo): Data<&Demo>,
    session: CurrentSession,
    _: SameOrigin,
) -> Result<String, Rejection> {
    Ok(demo.count(&session).await?)
}

#[handler]
async fn vault(Fresh(session): Fresh<300>) -> String {
    pages::vault(&session)
}

/// A guard has seen to it that no page of another origin asks.
#[handler]
async fn keep(session: CurrentSession) -> String {
    pages::kept(&session)
}

/// The same, by an extractor.
#[handler]
async fn clear(session: CurrentSession, _: SameOrigin) -> String {
    pages::cleared(&session)
}

#[handler]
async fn roles_of(Claims(claims): Claims<accounts::Claims>) -> Json<accounts::Claims> {
    Json(claims)
}

#[handler]
async fn set_roles(
    Data(demo): Data<&Demo>,
    session: CurrentSession,
    Path(user): Path<String>,
    Json(roles): Json<NewRoles>,
) -> Result<Json<accounts::Claims>, Rejection> {
    require_root(&session)?;
    Ok(Json(demo.set_roles(&user, roles.into()).await?))
}

/// Accepts connections on which small writes leave at once, and which end with their clients.
struct Connections(TcpAcceptor);

impl Acceptor for Connections {
    type Io = Connection;

    fn local_addr(&self) -> Vec<LocalAddr> {
        self.0.local_addr()
    }

    async fn accept(&mut self) -> io::Result<(Connection, LocalAddr, RemoteAddr, Scheme)> {
        let (stream, local, remote, scheme) = self.0.accept().await?;
        // A connection on which this fails is gone anyway.
        let _ = stream.set_nodelay(true);
        Ok((Connection { stream, client_left: false }, local, remote, scheme))
    }
}

/// A connection that fails writes once its client has left. poem's server would otherwise hold an event
/// stream until a write to the client fails by itself, two heartbeats later.
struct Connection {
    stream: TcpStream,
    client_left: bool,
}

impl Connection {
    fn writes(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        if self.client_left {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(Pin::new(&mut self.stream))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, room) = (buffer.filled().len(), buffer.remaining());
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        self.client_left |= room > 0 && buffer.filled().len() == before;
        Poll::Ready(read)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes()?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writes()?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The longest form or JSON that the demo takes.
const MAX_FORM_BYTES: usize = 2 * 1024 * 1024;
/// How long a connection that is not idle may last after the signal to stop.
const GRACE: Duration = Duration::from_secs(1);
