//! A whole program on tonic: the token travels as the metadata `cookie`, a stream ends with its
//! session. Written without a `.proto` file, so that nothing has to be installed; with generated
//! code, what stands in `call` goes into an interceptor or into the methods.
//!
//! `cargo run --example tonic`; `examples/tests/tonic.rs` is a client.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash};
use session_kit::core::Session;
use session_kit::engine::{ActiveSession, SessionManager, WaitEnd};
use session_kit::http::{AdminAccess, Caller, Head, Peer, Rejection, RequireSession};
use session_kit::tower::{RequestSession, SessionLayer};
use session_kit::{Config, Hooks, HttpSessions, PreventConcurrentLogin, sql::SqliteStore};
use tokio::sync::Semaphore;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::server::{Server, TcpConnectInfo};
use tonic::{Code, Response, Status, body::Body, server::NamedService};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

/// `message SignIn { string user = 1; string password = 2; }`
#[derive(Clone, PartialEq, prost::Message)]
struct SignIn {
    #[prost(string, tag = "1")]
    user: String,
    #[prost(string, tag = "2")]
    password: String,
}

/// `message Empty {}` and `message Text { string text = 1; }`
#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}
#[derive(Clone, PartialEq, prost::Message)]
struct Text {
    #[prost(string, tag = "1")]
    text: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    LazyLock::force(&USERS);
    let config = Config::default().with_policy(PreventConcurrentLogin::LogoutFromAllDevices);
    let hooks = Hooks::default()
        .with_guard(|caller: Caller<'_>| match caller.session {
            Some(session) if session.user().as_str() == "root" => AdminAccess::Deployment,
            _ => AdminAccess::Denied,
        })
        .with_claims(|session: Session| async move {
            let auditor = session.owner.user.as_str() == "root";
            Ok::<_, Infallible>(serde_json::json!({ "auditor": auditor }))
        });
    let store = Arc::new(SqliteStore::connect("example.db").await?);
    let sessions = HttpSessions::start_with(store, config, hooks).await?;

    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = TcpListenerStream::new(tokio::net::TcpListener::bind(addr).await?);
    let layer = SessionLayer::new(sessions.clone())
        .with_peer(|extensions| extensions.get::<TcpConnectInfo>()?.remote_addr().map(Peer::from));
    let server = Server::builder().layer(layer).add_service(Governed);
    let stop = sessions.graceful(tokio::signal::ctrl_c());
    server.serve_with_incoming_shutdown(listener, stop).await?;
    sessions.shutdown().await;
    Ok(())
}

/// `service Governed { rpc SignIn(SignIn) returns (Empty); rpc Hello(Empty) returns (Text);
/// rpc Audit(Empty) returns (Text); rpc Watch(Empty) returns (stream Text); }`
#[derive(Clone)]
struct Governed;

impl NamedService for Governed {
    const NAME: &'static str = "demo.Governed";
}

impl Service<http::Request<Body>> for Governed {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move { Ok(route(request).await.unwrap_or_else(Status::into_http)) })
    }
}

async fn route(request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
    let session = RequestSession::of(request.extensions()).map_err(status)?.clone();
    let head = Head::new(request.method(), request.uri(), request.headers());
    match request.uri().path() {
        "/demo.Governed/SignIn" => {
            let auth = session.auth(head);
            let sign_in = service_fn(|form: tonic::Request<SignIn>| async {
                let SignIn { user, password } = form.into_inner();
                if !password_is_right(user.clone(), password).await {
                    return Err(Status::unauthenticated("wrong user or password"));
                }
                let (_, cookie) = auth.sign_in(&user).await.map_err(status)?;
                let mut response = Response::new(Empty {});
                cookie.apply(response.metadata_mut().as_mut());
                Ok(response)
            });
            Ok(grpc().unary(sign_in, request).await)
        }
        "/demo.Governed/Hello" => {
            let text = format!("hello {}", session.session(head).map_err(status)?.user());
            Ok(say(text, request).await)
        }
        "/demo.Governed/Audit" => {
            let auditors = RequireSession::signed_in().fresh_within(Duration::from_secs(300));
            let auditors = auditors.claims(|claims| claims["auditor"] == true);
            session.require(head, &auditors).map_err(status)?;
            Ok(say("who did what".to_owned(), request).await)
        }
        "/demo.Governed/Watch" => {
            let current = session.session(head).map_err(status)?;
            let manager = session.http().manager().clone();
            let watch = service_fn(|_: tonic::Request<Empty>| async {
                Ok::<_, Status>(Response::new(ticks(manager.clone(), current.clone())))
            });
            Ok(grpc().server_streaming(watch, request).await)
        }
        _ => Err(Status::unimplemented("no such method")),
    }
}

fn grpc<T, U>() -> tonic::server::Grpc<ProstCodec<T, U>>
where
    T: prost::Message + Send + 'static,
    U: prost::Message + Default + Send + 'static,
{
    tonic::server::Grpc::new(ProstCodec::default())
}

async fn say(text: String, request: http::Request<Body>) -> http::Response<Body> {
    let say = service_fn(|_: tonic::Request<Empty>| async {
        Ok::<_, Status>(Response::new(Text { text: text.clone() }))
    });
    grpc().unary(say, request).await
}

/// One message a second, for as long as there are the client and its session.
fn ticks(manager: SessionManager, session: ActiveSession) -> ReceiverStream<Result<Text, Status>> {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        let mut ended = std::pin::pin!(manager.session_ended(session.id()));
        loop {
            let message = tokio::select! {
                end = &mut ended => {
                    let status = match end {
                        WaitEnd::Ended(_) | WaitEnd::Gone => {
                            Status::unauthenticated("the session has ended")
                        }
                        _ => Status::unavailable("the server cannot tell or stops"),
                    };
                    let _ = sender.send(Err(status)).await;
                    return;
                }
                _ = tick.tick() => Ok(Text { text: format!("{} is here", session.user()) }),
            };
            if sender.send(message).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(receiver)
}

/// A refusal in gRPC's words.
#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn status(rejection: Rejection) -> Status {
    let problem = rejection.problem();
    let code = match problem.status().as_u16() {
        400 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        409 => Code::ResourceExhausted, // a policy refuses one more session
        503 => Code::Unavailable,
        _ => Code::Internal,
    };
    Status::new(code, problem.to_string())
}

/// The users and the hashes of their passwords; yours are in a database.
static USERS: LazyLock<HashMap<&str, String>> = LazyLock::new(|| {
    let users = [("alice", "correct horse"), ("root", "battery staple"), (NOBODY, "")];
    let hash = |password: &str| Argon2::default().hash_password(password.as_bytes()).unwrap();
    users.into_iter().map(|(user, password)| (user, hash(password).to_string())).collect()
});

/// Its hash is verified for unknown names, so that the time taken does not tell which names exist.
const NOBODY: &str = "";

/// A verification takes 19 MiB and some 20 ms of a core: at most four run at once.
static VERIFICATIONS: Semaphore = Semaphore::const_new(4);

async fn password_is_right(user: String, password: String) -> bool {
    let Ok(_permit) = VERIFICATIONS.acquire().await else { return false };
    let verify = move || {
        let known = USERS.get(user.as_str()).filter(|_| user != NOBODY);
        let hash = PasswordHash::new(known.unwrap_or(&USERS[NOBODY])).unwrap();
        let right = Argon2::default().verify_password(password.as_bytes(), &hash).is_ok();
        right && known.is_some()
    };
    tokio::task::spawn_blocking(verify).await.unwrap_or(false)
}
