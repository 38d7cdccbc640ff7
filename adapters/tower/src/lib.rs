//! session-kit for [tower](https://docs.rs/tower): a layer that finds out whose request it is, for
//! hyper, tonic, warp, salvo and other servers that run tower services.
//!
//! The layer leaves a [`RequestSession`] in the request's extensions. It says whether there is a
//! session, a fresh one or one with certain claims, signs in and out, and answers the API and the pages
//! through [`serve`]:
//!
//! ```
//! use http::{Request, Response};
//! use session_http::{Body, Head, HttpSessions, Rejection, RequestSession};
//! use session_tower::serve;
//!
//! async fn answer<B>(http: HttpSessions, request: Request<B>) -> Response<Body>
//! where
//!     B: http_body::Body<Data = bytes::Bytes>,
//! {
//!     if http.below_prefix(request.uri().path()).is_some() {
//!         return serve(request).await;
//!     }
//!     hello(&request).unwrap_or_else(Rejection::into_response)
//! }
//!
//! fn hello<B>(request: &Request<B>) -> Result<Response<Body>, Rejection> {
//!     let head = Head::new(request.method(), request.uri(), request.headers());
//!     let session = RequestSession::of(request.extensions())?.session(head)?;
//!     Ok(Response::new(Body::from(format!("hello {}", session.user()))))
//! }
//! ```

mod layer;
mod serve;

pub use layer::{FindPeer, ResponseFuture, SessionLayer, SessionService, find_peer};
pub use serve::serve;
pub use session_http::RequestSession;
