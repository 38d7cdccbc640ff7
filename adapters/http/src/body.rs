//! Bodies of requests and responses.

use std::fmt;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http_body::{Frame, SizeHint};
use sync_wrapper::SyncStream;

use crate::head::Head;
use crate::problem::Problem;

/// The longest body of a request that the API takes.
pub const MAX_BODY_BYTES: usize = 16 * 1024;

/// The body of a response: bytes, or a stream of events.
pub struct Body(Content);

/// What a [`Body`] is made of, for frameworks with a body type of their own.
pub enum Content {
    /// All of it.
    Bytes(Bytes),
    /// A stream that may stay open for long. It yields no error today.
    Stream(BodyStream),
}

/// The chunks of a streaming body.
pub type BodyStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send + Sync>>;

impl Body {
    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        Self(Content::Bytes(bytes.into()))
    }

    /// No body.
    pub const fn empty() -> Self {
        Self(Content::Bytes(Bytes::new()))
    }

    pub(crate) fn stream(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        Self(Content::Stream(Box::pin(SyncStream::new(stream))))
    }

    /// Its bytes or its stream.
    pub fn into_content(self) -> Content {
        self.0
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self::full(text)
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::full(text)
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::full(bytes)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let next = match &mut self.0 {
            Content::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Bytes(bytes) => Poll::Ready(Some(Ok(std::mem::take(bytes)))),
            Content::Stream(stream) => stream.as_mut().poll_next(context),
        };
        next.map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.0, Content::Bytes(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Stream(_) => SizeHint::default(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Content::Bytes(bytes) => write!(f, "Body({} bytes)", bytes.len()),
            Content::Stream(_) => f.write_str("Body(stream)"),
        }
    }
}

/// Reads a request's body, up to [`MAX_BODY_BYTES`] and a time limit.
pub(crate) async fn read<E>(
    head: Head<'_>,
    body: impl Stream<Item = Result<Bytes, E>>,
    time_limit: Duration,
) -> Result<Bytes, Problem> {
    let announced = head.headers.get(http::header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > MAX_BODY_BYTES as u64) {
        return Err(Problem::too_large());
    }
    match tokio::time::timeout(time_limit, read_all(body)).await {
        Ok(read) => read,
        Err(_) => Err(Problem::too_slow(time_limit)),
    }
}

async fn read_all<E>(body: impl Stream<Item = Result<Bytes, E>>) -> Result<Bytes, Problem> {
    let mut body = pin!(body);
    let mut read = BytesMut::new();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|_| Problem::malformed("the body could not be read"))?;
        if read.len() + chunk.len() > MAX_BODY_BYTES {
            return Err(Problem::too_large());
        }
        read.extend_from_slice(&chunk);
    }
    Ok(read.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http::{HeaderMap, Method, Uri};

    async fn status<S>(body: S) -> Result<usize, u16>
    where
        S: Stream<Item = Result<Bytes, ()>>,
    {
        let (uri, headers) = (Uri::default(), HeaderMap::new());
        let head = Head::new(&Method::PUT, &uri, &headers);
        let read = read(head, body, Duration::from_secs(10)).await;
        read.map(|bytes| bytes.len()).map_err(|problem| problem.status().as_u16())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_has_a_size_and_a_time() {
        let chunk = |length| Ok(Bytes::from(vec![b'x'; length]));
        assert_eq!(status(stream::iter([chunk(9), chunk(9)])).await, Ok(18));
        assert_eq!(status(stream::iter([chunk(MAX_BODY_BYTES)])).await, Ok(MAX_BODY_BYTES));
        assert_eq!(status(stream::iter([chunk(MAX_BODY_BYTES), chunk(1)])).await, Err(413));
        assert_eq!(status(stream::iter([chunk(9), Err(())])).await, Err(400));
        assert_eq!(status(stream::iter([chunk(9)]).chain(stream::pending())).await, Err(408));
    }

    #[test]
    fn a_body_may_be_shared_between_threads() {
        fn is<T: Send + Sync>() {}
        is::<Body>();
    }
}
