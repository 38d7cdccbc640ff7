//! The admin API without a guard of the application.

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Uri};
use session_http::testing::headers_of;
use session_http::{Config, Head, HttpSessions, RequestSession};

#[tokio::test]
async fn nobody_administers_by_default() {
    let store = session_store_memory::MemoryStore::new();
    let http = HttpSessions::start(store, Config::default()).await.unwrap();
    let signed_in = headers_of(&http, "root").await.unwrap().into_iter().collect();
    let stranger = http::HeaderMap::new();
    for (method, path) in [
        (Method::GET, "/admin/sessions"),
        (Method::GET, "/admin/events"),
        (Method::GET, "/admin/policy"),
        (Method::PUT, "/admin/policy"),
        (Method::DELETE, "/admin/policy"),
        (Method::DELETE, "/admin/sessions?user=root"),
        (Method::DELETE, "/admin/sessions?user=alice"),
        (Method::DELETE, "/admin/sessions?all=true"),
        (Method::GET, "/admin/history"),
        (Method::GET, "/admin/block"),
        (Method::PUT, "/admin/block"),
        (Method::DELETE, "/admin/block"),
        (Method::GET, "/admin/users/alice/export"),
        (Method::DELETE, "/admin/users/alice/data"),
    ] {
        for (headers, refused) in [(&signed_in, 403), (&stranger, 401)] {
            let mut headers: http::HeaderMap = headers.clone();
            headers.insert("sec-fetch-site", "same-origin".parse().unwrap());
            let uri: Uri = format!("/sessions{path}").parse().unwrap();
            let head = Head::new(&method, &uri, &headers);
            let identity = http.identify(head, None).resolve().await;
            let request = RequestSession::new(http.clone(), identity, None);
            let body = stream::empty::<Result<Bytes, std::io::Error>>();
            let path = path.split('?').next().unwrap();
            let path = path.split('?').next().unwrap();
            let answer = request.serve(head, path, body).await;
            assert_eq!(answer.status(), refused, "{method} {path}");
        }
    }
    http.shutdown().await;
}
