//! A client over HTTP/1.1.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A client that may hold cookies, and a bearer token.
#[derive(Clone, Debug)]
pub struct Client {
    addr: SocketAddr,
    cookies: BTreeMap<String, String>,
    bearer: Option<String>,
    origin: Option<String>,
}

/// A response as text.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The status line and the headers.
    pub head: String,
    /// The body, with its chunks' lengths if it has any.
    pub body: String,
}

/// A response that goes on.
#[derive(Debug)]
pub struct Stream {
    connection: TcpStream,
    text: String,
}

impl Client {
    pub(crate) const fn new(addr: SocketAddr) -> Self {
        Self { addr, cookies: BTreeMap::new(), bearer: None, origin: None }
    }

    /// The same, with a bearer token and without cookies.
    #[must_use]
    pub fn bearing(&self, token: &str) -> Self {
        Self { bearer: Some(token.to_owned()), ..Self::new(self.addr) }
    }

    /// The same, as a page of this origin on another site.
    #[must_use]
    pub fn on_a_page_of(&self, origin: &str) -> Self {
        Self { origin: Some(origin.to_owned()), ..self.clone() }
    }

    /// Whether it holds a cookie.
    pub fn has_cookie(&self) -> bool {
        !self.cookies.is_empty()
    }

    /// Gets a path and keeps the cookies of the response.
    pub fn visit(&mut self, path: &str) -> Answer {
        let answer = self.get(path);
        self.keep(&answer);
        answer
    }

    fn keep(&mut self, answer: &Answer) {
        for cookie in answer.headers("set-cookie") {
            let Some((name, value)) = cookie.split(';').next().unwrap_or(cookie).split_once('=')
            else {
                continue;
            };
            if cookie.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    /// Gets a path.
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "", "")
    }

    /// Gets a path as a browser gets a page.
    pub fn get_page(&self, path: &str) -> Answer {
        self.send("GET", path, "Accept: text/html\r\n", "")
    }

    /// Posts a form and keeps the cookies of the response.
    pub fn post(&mut self, path: &str, form: &str) -> Answer {
        let answer =
            self.send("POST", path, "Content-Type: application/x-www-form-urlencoded\r\n", form);
        self.keep(&answer);
        answer
    }

    /// Opens an event stream and reads its head.
    ///
    /// # Panics
    /// When the answer is not 200.
    pub fn stream(&self, path: &str) -> Stream {
        let connection = self.connect("GET", path, "Accept: text/event-stream\r\n", "");
        let mut stream = Stream { connection, text: String::new() };
        stream.read_until("\r\n\r\n");
        assert_eq!(Answer::of(&stream.text).status, 200, "{}", stream.text);
        stream
    }

    pub(crate) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    pub(crate) fn cookie_header(&self) -> String {
        let pairs = self.cookies.iter().map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join("; ")
    }

    pub(crate) fn tcp(&self) -> TcpStream {
        let connection = TcpStream::connect(self.addr).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        connection
    }

    fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let mut connection = self.connect(method, path, headers, body);
        let (mut bytes, begun) = (Vec::new(), Instant::now());
        if let Err(error) = connection.read_to_end(&mut bytes) {
            let (waited, read) = (begun.elapsed(), String::from_utf8_lossy(&bytes));
            panic!(
                "{method} {path}, {connection:?}: {error} after {waited:?}, read so far: {read:?}"
            );
        }
        Answer::of(&String::from_utf8_lossy(&bytes))
    }

    fn connect(&self, method: &str, path: &str, headers: &str, body: &str) -> TcpStream {
        let cookies = self.cookie_header();
        let cookies = (!cookies.is_empty()).then(|| format!("Cookie: {cookies}\r\n"));
        let bearer = self.bearer.as_ref().map(|token| format!("Authorization: Bearer {token}\r\n"));
        let mut connection = self.tcp();
        let origin = self
            .origin
            .as_ref()
            .map(|origin| format!("Sec-Fetch-Site: cross-site\r\nOrigin: {origin}\r\n"));
        // In one piece: a server that answers before it has read a body resets a connection on which more comes.
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}{}{}{}\
             Content-Length: {}\r\n\r\n{body}",
            self.addr,
            cookies.unwrap_or_default(),
            bearer.unwrap_or_default(),
            origin.unwrap_or_default(),
            body.len(),
        );
        connection.write_all(request.as_bytes()).unwrap();
        connection
    }
}

impl Answer {
    fn of(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no response: {text:?}"));
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).next()
    }

    /// The values of a header.
    pub fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.head.lines().filter_map(move |line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

impl Stream {
    /// Reads until this text has come.
    ///
    /// # Panics
    /// When the stream ends before, or sends nothing for ten seconds.
    pub fn read_until(&mut self, text: &str) {
        let mut buffer = [0; 1024];
        while !self.text.contains(text) {
            let count = self.connection.read(&mut buffer).unwrap();
            assert_ne!(count, 0, "the stream ended: {}", self.text);
            self.text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    }

    /// Reads to the end.
    ///
    /// # Panics
    /// When it takes longer than this.
    pub fn ends_within(mut self, limit: Duration) {
        let start = Instant::now();
        let mut buffer = [0; 1024];
        while self.connection.read(&mut buffer).unwrap() > 0 {
            assert!(start.elapsed() < limit, "the stream goes on");
        }
        assert!(start.elapsed() < limit, "the stream went on for {:?}", start.elapsed());
    }
}
