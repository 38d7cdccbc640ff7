//! What the log says, once per process, of addresses that cannot be known. A process of its own.

mod log;

use http::{HeaderMap, HeaderValue};
use session_http::{ClientIpOptions, Config, HttpSessions, Peer};
use session_store_memory::MemoryStore;

use crate::log::Log;

#[tokio::test]
async fn a_log_says_once_what_is_missing() {
    let (log, _listening) = Log::begin();
    let mut said = String::new();
    let mut lines_with = |text: &str| {
        said += &log.take();
        said.lines().filter(|line| line.contains(text)).count()
    };
    let client_ip = ClientIpOptions::default().with_trusted_proxies(["10.0.0.1".parse().unwrap()]);
    let mut config = Config::default();
    config.http = config.http.with_client_ip(client_ip);
    let http = HttpSessions::start(MemoryStore::new(), config).await.unwrap();
    let stranger = Some(Peer::Ip([192, 0, 2, 7].into()));
    let proxy = Some(Peer::Ip([10, 0, 0, 1].into()));
    let (none, mut headers) = (HeaderMap::new(), HeaderMap::new());
    headers.insert("x-forwarded-for", HeaderValue::from_static("203.0.113.9"));
    let address = |n: [u8; 4]| Some(n.into());

    for _ in 0..3 {
        assert_eq!(http.client_ip(&none, stranger), address([192, 0, 2, 7]));
        assert_eq!(http.client_ip(&headers, proxy), address([203, 0, 113, 9]));
    }
    assert_eq!(lines_with("WARN"), 0, "nothing is missing");
    for _ in 0..3 {
        assert_eq!(http.client_ip(&headers, stranger), address([192, 0, 2, 7]));
        assert_eq!(http.client_ip(&headers, Some(Peer::Unix)), None);
    }
    assert_eq!(lines_with("x-forwarded-for is ignored"), 1);
    assert_eq!(lines_with("client_ip.trusted_proxies"), 1);
    assert_eq!(lines_with("192.0.2.7"), 1, "it names the peer");
    for _ in 0..3 {
        assert_eq!(http.client_ip(&headers, None), None);
    }
    assert_eq!(lines_with("into_make_service_with_connect_info"), 1);
    assert_eq!(lines_with("WARN"), 2);
}
