//! The demo on poem.

use std::net::TcpListener;
use std::time::Duration;

use poem::http::StatusCode;
use poem::http::uri::Scheme;
use poem::listener::{Acceptor, TcpAcceptor};
use poem::web::{Data, Form, Html, Json, LocalAddr, Path, Query, Redirect, RemoteAddr};
use poem::{Endpoint, EndpointExt, IntoResponse, Response, Route, Server, get, handler, post, put};
use session_kit::http::RequireSession;
use session_kit::poem::{
    Claims, CurrentSession, Fresh, MaybeSession, Rejection, Require, RotateReason, SessionAuth,
    Sessions,
};
use tokio::net::TcpStream;

use crate::Demo;
use crate::accounts;
use crate::forms::{
    Login, LoginQuery, NewRoles, Password, WhoAmI, after_login, confirm, is_root, new_session,
};
use crate::pages;

pub(crate) async fn serve(
    demo: Demo,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let http = demo.http.clone();
    let acceptor = NoDelay(TcpAcceptor::from_std(listener)?);
    // A client that neither sends nor reads keeps its connection open: it is cut after the grace.
    Server::new_with_acceptor(acceptor)
        .run_with_graceful_shutdown(app(demo), http.graceful(stop), Some(GRACE))
        .await
}

fn app(demo: Demo) -> impl Endpoint {
    let sessions = Sessions(demo.http.clone());
    let signed_in = Require(RequireSession::signed_in());
    Route::new()
        .at("/", get(home))
        .at("/login", get(login_page).post(login))
        .at("/logout", post(logout))
        .at("/whoami", get(whoami))
        .at("/rotate", post(rotate))
        .at("/reauthenticate", post(reauthenticate))
        .at("/vault", get(vault))
        .at("/roles", get(roles_of))
        .at("/roles/*user", put(set_roles).with(signed_in))
        .with(sessions.routes())
        .with(sessions.middleware())
        .data(demo)
}

#[handler]
async fn home(MaybeSession(session): MaybeSession) -> Html<String> {
    Html(pages::home(session.as_ref()))
}

#[handler]
async fn login_page(Query(query): Query<LoginQuery>) -> Html<String> {
    Html(pages::login("", query.next()))
}

#[handler]
async fn login(auth: SessionAuth, Form(form): Form<Login>) -> Result<Response, Rejection> {
    let Some(user) = accounts::authenticate(&form.user, &form.password) else {
        return Ok(failed(StatusCode::UNAUTHORIZED, pages::WRONG_PASSWORD, &form));
    };
    match auth.sign_in(new_session(user, &form)?).await {
        Ok((_, cookie)) => Ok(cookie.on(Redirect::see_other(after_login(&form)))),
        Err(Rejection(refused)) if refused.problem().status() == StatusCode::CONFLICT => {
            Ok(failed(StatusCode::CONFLICT, pages::TOO_MANY, &form))
        }
        Err(rejection) => Err(rejection),
    }
}

fn failed(status: StatusCode, text: &str, form: &Login) -> Response {
    (status, Html(pages::login(text, form.next()))).into_response()
}

#[handler]
async fn logout(auth: SessionAuth) -> Result<Response, Rejection> {
    Ok(auth.sign_out().await?.on(Redirect::see_other("/login")))
}

#[handler]
async fn whoami(session: CurrentSession) -> Json<WhoAmI> {
    Json(WhoAmI::of(&session))
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
    confirm(&session, &form.password)?;
    Ok(auth.rotate(RotateReason::Reauthenticated).await?.on(Json(WhoAmI::of(&session))))
}

#[handler]
async fn vault(Fresh(session): Fresh<300>) -> String {
    pages::vault(&session)
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
    is_root(&session)?;
    Ok(Json(demo.set_roles(&user, roles.into()).await?))
}

/// Accepts connections on which small writes leave at once.
struct NoDelay(TcpAcceptor);

impl Acceptor for NoDelay {
    type Io = TcpStream;

    fn local_addr(&self) -> Vec<LocalAddr> {
        self.0.local_addr()
    }

    async fn accept(&mut self) -> std::io::Result<(TcpStream, LocalAddr, RemoteAddr, Scheme)> {
        let accepted = self.0.accept().await?;
        // A connection on which this fails is gone anyway.
        let _ = accepted.0.set_nodelay(true);
        Ok(accepted)
    }
}

/// How long a connection that is not idle may last after the signal to stop.
const GRACE: Duration = Duration::from_secs(1);
