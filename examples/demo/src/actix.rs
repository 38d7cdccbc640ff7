//! The demo on actix-web.

use std::net::TcpListener;

use actix_web::error::{JsonPayloadError, UrlencodedError};
use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use actix_web::web::{self, Data, Form, FormConfig, Html, Json, JsonConfig, Path, Query};
use actix_web::{
    App, Either, Error, HttpRequest, HttpResponse, HttpServer, Responder, ResponseError, Route,
    error, guard,
};
use session_kit::SessionId;
use session_kit::actix::{
    Claims, CurrentSession, Ended, Fresh, MaybeSession, Rejection, Require, RotateReason,
    SameOrigin, SessionAuth, Sessions,
};
use session_kit::http::RequireSession;

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
    let sessions = Sessions(demo.http.clone());
    let app = move || {
        App::new()
            .app_data(Data::new(demo.clone()))
            .app_data(FormConfig::default().limit(MAX_FORM_BYTES).error_handler(bad_form))
            .app_data(JsonConfig::default().error_handler(bad_json))
            .configure(routes)
            .configure(live::actix::routes)
            .service(sessions.routes())
            .wrap(sessions.middleware())
    };
    let server = HttpServer::new(app)
        .workers(2)
        .tcp_nodelay(true)
        .disable_signals()
        // A stream ends when its client goes, not when the next event finds nobody.
        .h1_allow_half_closed(false)
        // A client that neither sends nor reads keeps its connection open: it is cut.
        .shutdown_timeout(1)
        .listen_auto_h2c(listener)?
        .run();
    let handle = server.handle();
    let stopping = async move {
        http.graceful(stop).await;
        handle.stop(true).await;
    };
    tokio::select! {
        result = server => result,
        () = stopping => Ok(()),
    }
}

fn routes(app: &mut web::ServiceConfig) {
    app.service(web::resource("/").route(get().to(home)))
        .service(web::resource("/login").route(get().to(login_page)).post(login))
        .service(web::resource("/choose.js").route(get().to(choose)))
        .service(web::resource("/metrics").route(get().to(node_metrics)))
        .service(web::resource("/impersonate").post(impersonate))
        .service(web::resource("/login/elsewhere").route(get().to(login_elsewhere)))
        .service(web::resource("/provider").route(get().to(provider)))
        .service(web::resource("/callback").route(get().to(callback)).post(posted_callback))
        .service(web::resource("/token").post(token))
        .service(web::resource("/logout").post(logout))
        .service(web::resource("/whoami").route(get().to(whoami)))
        .service(web::resource("/accounts").route(get().to(my_accounts)))
        .service(web::resource("/accounts/{id}").post(switch_account))
        .service(web::resource("/rotate").post(rotate))
        .service(web::resource("/reauthenticate").post(reauthenticate))
        .service(web::resource("/count").route(
            web::post().to(count).wrap(Require(RequireSession::signed_in().from_same_origin())),
        ))
        .service(web::resource("/vault").route(get().to(vault)).delete(clear).route(
            web::post().to(keep).wrap(Require(RequireSession::signed_in().from_same_origin())),
        ))
        .service(web::resource("/roles").route(get().to(roles_of)))
        .service(
            web::resource("/roles/{user:.+}")
                .put(set_roles)
                .wrap(Require(RequireSession::signed_in())),
        );
}

/// A route for GET and HEAD, which actix-web tells apart.
pub(crate) fn get() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

async fn home(demo: Data<Demo>, MaybeSession(session): MaybeSession) -> Html {
    Html::new(demo.home(session.as_ref()))
}

async fn login_page(demo: Data<Demo>, Ended(ended): Ended, query: Query<LoginQuery>) -> Html {
    Html::new(demo.sign_in_page(ended.as_deref(), query.next()).await)
}

async fn choose() -> impl Responder {
    CHOOSE.customize().insert_header((CONTENT_TYPE, "text/javascript; charset=utf-8"))
}

/// For Prometheus. An application serves it where only Prometheus can reach it.
async fn node_metrics() -> impl Responder {
    metrics::render().customize().insert_header((CONTENT_TYPE, metrics::TEXT))
}

async fn login(
    demo: Data<Demo>,
    auth: SessionAuth,
    request: HttpRequest,
    Form(login): Form<Login>,
) -> Result<impl Responder, Rejection> {
    let page = |page, status| Html::new(page).customize().with_status(status);
    let Some(user) = accounts::authenticate(&login.user, &login.password) else {
        let wrong = demo.wrong_password_page(login.next());
        return Ok(Either::Left(page(wrong, StatusCode::UNAUTHORIZED)));
    };
    match auth.sign_in(new_session(user, &login)?).await {
        Ok((_, cookie)) => Ok(Either::Right(cookie.on(see_other(after_login(&login))))),
        Err(rejection) => {
            let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
            match demo.refused_page(rejection.0.problem(), accept, login.next()) {
                Some(refused) => {
                    // It has a ticket.
                    let page = page(refused, rejection.status_code());
                    Ok(Either::Left(page.insert_header((CACHE_CONTROL, "no-store"))))
                }
                None => Err(rejection),
            }
        }
    }
}

/// The admin's browser goes on as the other user. Signing out ends that.
async fn impersonate(
    Fresh(session): Fresh<300>,
    _: SameOrigin,
    auth: SessionAuth,
    form: Form<ActAs>,
) -> Result<impl Responder, Rejection> {
    let (_, cookie) = auth.sign_in(form.check(&session)?).await?;
    Ok(cookie.on(see_other("/")))
}

/// An app's sign-in: the token is in the answer.
async fn token(auth: SessionAuth, form: Json<Credentials>) -> Result<impl Responder, Rejection> {
    let (signed_in, no_cookie) = auth.sign_in_app(form.check()?).await?;
    Ok(no_cookie.on(Json(NewToken::of(&signed_in))))
}

async fn login_elsewhere(
    auth: SessionAuth,
    query: Query<LoginQuery>,
) -> Result<impl Responder, Rejection> {
    let (flow, cookie) = auth.begin_flow(query.next().unwrap_or_default())?;
    Ok(cookie.on(see_other(&provider_path(&flow))))
}

async fn provider(demo: Data<Demo>, callback: Query<Callback>) -> Html {
    Html::new(demo.provider_page(&callback.state))
}

async fn callback(
    auth: SessionAuth,
    Query(callback): Query<Callback>,
) -> Result<impl Responder, Rejection> {
    let (flow, proof) = auth.finish_flow(&callback.state)?;
    let (_, cookie) = auth.sign_in_from_callback(proof, callback.check()?).await?;
    Ok(cookie.on(see_other(after_flow(&flow))))
}

async fn posted_callback(
    auth: SessionAuth,
    Form(form): Form<Callback>,
) -> Result<impl Responder, Rejection> {
    callback(auth, Query(form)).await
}

fn see_other(path: &str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, path)).finish()
}

async fn logout(auth: SessionAuth) -> Result<impl Responder, Rejection> {
    Ok(auth.sign_out().await?.on(see_other("/login")))
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
    id: Path<SessionId>,
) -> Result<impl Responder, Rejection> {
    Ok(auth.switch_account(*id).await?.on(see_other("/")))
}

async fn rotate(session: CurrentSession, auth: SessionAuth) -> Result<impl Responder, Rejection> {
    Ok(auth.rotate(RotateReason::Renewal).await?.on(whoami(session).await))
}

async fn reauthenticate(
    session: CurrentSession,
    auth: SessionAuth,
    form: Form<Password>,
) -> Result<impl Responder, Rejection> {
    let reason = confirm(&session, &form.password)?;
    Ok(auth.rotate(reason).await?.on(whoami(session).await))
}

async fn count(
    demo: Data<Demo>,
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
    demo: Data<Demo>,
    session: CurrentSession,
    user: Path<String>,
    Json(roles): Json<NewRoles>,
) -> Result<Json<accounts::Claims>, Rejection> {
    require_root(&session)?;
    Ok(Json(demo.set_roles(&user, roles.into()).await?))
}

/// A form that can be read but does not fit is 422, as for the demo on other frameworks.
fn bad_form(error: UrlencodedError, _request: &HttpRequest) -> Error {
    match error {
        UrlencodedError::Parse(error) => error::ErrorUnprocessableEntity(error),
        error => error.into(),
    }
}

/// The same for JSON.
fn bad_json(error: JsonPayloadError, _request: &HttpRequest) -> Error {
    match error {
        JsonPayloadError::ContentType => error::ErrorUnsupportedMediaType(error),
        JsonPayloadError::Deserialize(error) if error.is_data() => {
            error::ErrorUnprocessableEntity(error)
        }
        error => error.into(),
    }
}

/// What the other frameworks take by default.
const MAX_FORM_BYTES: usize = 2 * 1024 * 1024;
