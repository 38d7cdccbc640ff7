//! A client over HTTP/1.1.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A client that may hold a cookie.
#[derive(Clone, Debug)]
pub struct Client {
    addr: SocketAddr,
    cookie: Option<String>,
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
        Self { addr, cookie: None }
    }

    /// Whether it holds a cookie.
    pub const fn has_cookie(&self) -> bool {
        self.cookie.is_some()
    }

    /// Gets a path.
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "", "")
    }

    /// Gets a path as a browser gets a page.
    pub fn get_page(&self, path: &str) -> Answer {
        self.send("GET", path, "Accept: text/html\r\n", "")
    }

    /// Posts a form and keeps the cookie of the response.
    pub fn post(&mut self, path: &str, form: &str) -> Answer {
        let answer =
            self.send("POST", path, "Content-Type: application/x-www-form-urlencoded\r\n", form);
        if let Some(cookie) = answer.header("set-cookie") {
            self.cookie = cookie.split(';').next().map(str::to_owned);
        }
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

    fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let mut connection = self.connect(method, path, headers, body);
        let mut bytes = Vec::new();
        connection.read_to_end(&mut bytes).unwrap();
        Answer::of(&String::from_utf8_lossy(&bytes))
    }

    fn connect(&self, method: &str, path: &str, headers: &str, body: &str) -> TcpStream {
        let cookie = self.cookie.as_ref().map(|cookie| format!("Cookie: {cookie}\r\n"));
        let mut connection = TcpStream::connect(self.addr).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(
            connection,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}{}\
             Content-Length: {}\r\n\r\n{body}",
            self.addr,
            cookie.unwrap_or_default(),
            body.len(),
        )
        .unwrap();
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
        self.head.lines().find_map(|line| {
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
