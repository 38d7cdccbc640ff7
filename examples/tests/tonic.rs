//! A client of the tonic example.

use std::time::Duration;

use session_test_support::{Program, example};
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

#[derive(Clone, PartialEq, prost::Message)]
struct SignIn {
    #[prost(string, tag = "1")]
    user: String,
    #[prost(string, tag = "2")]
    password: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

#[derive(Clone, PartialEq, prost::Message)]
struct Text {
    #[prost(string, tag = "1")]
    text: String,
}

struct Client {
    grpc: Grpc<Channel>,
    cookie: Option<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_needs_the_cookie_and_a_stream_ends_with_its_session() {
    let mut program = Program::start(example("tonic"));
    let mut alice = Client::new(&program).await;
    assert_eq!(code(alice.hello().await), Some(Code::Unauthenticated));
    assert_eq!(code(alice.watch().await), Some(Code::Unauthenticated));
    for (user, password) in [("alice", "battery staple"), ("", ""), ("eve", "x")] {
        assert_eq!(code(alice.sign_in(user, password).await), Some(Code::Unauthenticated));
    }
    alice.sign_in("alice", "correct horse").await.unwrap();
    assert_eq!(alice.hello().await.unwrap().into_inner().text, "hello alice");

    let mut root = Client::new(&program).await;
    root.sign_in("root", "battery staple").await.unwrap();
    assert_eq!(code(alice.audit().await), Some(Code::PermissionDenied));
    assert_eq!(root.audit().await.unwrap().into_inner().text, "who did what");

    let mut stream = alice.watch().await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().text, "alice is here");
    // The policy allows one session: this one ends the first.
    Client::new(&program).await.sign_in("alice", "correct horse").await.unwrap();
    let status = tokio::time::timeout(Duration::from_secs(5), end(&mut stream)).await.unwrap();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(code(alice.hello().await), Some(Code::Unauthenticated));

    let mut open = root.watch().await.unwrap().into_inner();
    assert_eq!(open.message().await.unwrap().unwrap().text, "root is here");
    tokio::task::block_in_place(|| program.leaves_when_interrupted());
}

impl Client {
    async fn new(program: &Program) -> Self {
        let url = format!("http://{}", program.addr());
        let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
        Self { grpc: Grpc::new(channel), cookie: None }
    }

    async fn sign_in(&mut self, user: &str, password: &str) -> Result<(), Status> {
        let form = SignIn { user: user.to_owned(), password: password.to_owned() };
        let response: Response<Empty> = self.unary("SignIn", form).await?;
        let cookie = response.metadata().get("set-cookie").unwrap().to_str().unwrap();
        self.cookie = cookie.split(';').next().map(str::to_owned);
        Ok(())
    }

    async fn hello(&mut self) -> Result<Response<Text>, Status> {
        self.unary("Hello", Empty {}).await
    }

    async fn audit(&mut self) -> Result<Response<Text>, Status> {
        self.unary("Audit", Empty {}).await
    }

    async fn watch(&mut self) -> Result<Response<Streaming<Text>>, Status> {
        self.grpc.ready().await.unwrap();
        let (request, path) = (self.request(Empty {}), path("Watch"));
        self.grpc.server_streaming(request, path, ProstCodec::default()).await
    }

    async fn unary<T, U>(&mut self, method: &str, message: T) -> Result<Response<U>, Status>
    where
        T: prost::Message + Send + Sync + 'static,
        U: prost::Message + Default + Send + Sync + 'static,
    {
        self.grpc.ready().await.unwrap();
        let request = self.request(message);
        self.grpc.unary(request, path(method), ProstCodec::default()).await
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(cookie) = &self.cookie {
            request.metadata_mut().insert("cookie", cookie.parse().unwrap());
        }
        request
    }
}

fn path(method: &str) -> http::uri::PathAndQuery {
    format!("/demo.Governed/{method}").parse().unwrap()
}

fn code<T>(result: Result<T, Status>) -> Option<Code> {
    result.err().map(|status| status.code())
}

async fn end(stream: &mut Streaming<Text>) -> Status {
    loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => return Status::ok(""),
            Err(status) => return status,
        }
    }
}
