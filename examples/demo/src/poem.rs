//! The demo on poem.

use std::net::TcpListener;

use crate::Demo;

pub(crate) async fn serve(
    _demo: Demo,
    _listener: TcpListener,
    _stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    Err(std::io::Error::other("not yet"))
}
