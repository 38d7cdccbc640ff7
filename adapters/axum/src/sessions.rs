//! A node as axum sees it.

use axum::Router;
use axum::body::Body;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use axum::routing::any;
use axum::serve::IncomingStream;
use http::Extensions;
use session_http::{Peer, RequestSession};
use session_tower::{SessionLayer, find_peer};
use tokio::net::TcpListener;

use crate::extract::{Rejection, Sessions, head};

impl Sessions {
    /// The layer that finds out whose request it is.
    ///
    /// The client's address comes from [`ConnectInfo`] of a [`SocketAddr`](std::net::SocketAddr) or of
    /// a [`ClientPeer`].
    pub fn layer(&self) -> SessionLayer {
        SessionLayer::new(self.0.clone()).with_peer(peer)
    }

    /// The JSON API and the pages, below the prefix of the options. They may be nested; the layer has
    /// to be around them.
    pub fn routes<S>(&self) -> Router<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        let prefix = &self.options().prefix;
        Router::new()
            .route(prefix, any(serve))
            .route(&format!("{prefix}/"), any(serve))
            .route(&format!("{prefix}/{{*rest}}"), any(serve))
    }
}

async fn serve(request: Request) -> Result<Response, Rejection> {
    let (parts, body) = request.into_parts();
    let session = RequestSession::of(&parts.extensions)?;
    let path = session.http().below_prefix(parts.uri.path()).unwrap_or_default();
    let response = session.serve(head(&parts), path, body.into_data_stream()).await;
    Ok(response.map(Body::new))
}

/// The other end of a connection over TCP or over a Unix socket, for
/// `into_make_service_with_connect_info::<ClientPeer>()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientPeer(pub Peer);

impl Connected<IncomingStream<'_, TcpListener>> for ClientPeer {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self((*stream.remote_addr()).into())
    }
}

#[cfg(unix)]
impl Connected<IncomingStream<'_, tokio::net::UnixListener>> for ClientPeer {
    fn connect_info(_stream: IncomingStream<'_, tokio::net::UnixListener>) -> Self {
        Self(Peer::Unix)
    }
}

fn peer(extensions: &Extensions) -> Option<Peer> {
    let address = extensions.get::<ConnectInfo<std::net::SocketAddr>>();
    let address = address.map(|ConnectInfo(address)| (*address).into());
    let peer = || extensions.get::<ConnectInfo<ClientPeer>>().map(|ConnectInfo(peer)| peer.0);
    address.or_else(peer).or_else(|| find_peer(extensions))
}
