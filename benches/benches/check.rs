//! The path that every request takes: from a cookie header to a verdict, all sessions cached.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue, Method, Uri};
use session_core::{UserId, UserKey};
use session_engine::SignIn;
use session_http::{Config, Head, HttpSessions, Identified, Identity};
use session_store_memory::MemoryStore;

fn check(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for count in [1_000_usize, 100_000] {
        let http =
            runtime.block_on(HttpSessions::start(MemoryStore::new(), Config::default())).unwrap();
        let mut cookies: Vec<_> = (0..count).map(|n| runtime.block_on(cookie(&http, n))).collect();
        // Memory order and visiting order must not agree.
        cookies.sort_by_key(|headers| headers[COOKIE].as_bytes().to_vec());
        let uri = Uri::from_static("/");
        let mut visits = cookies.iter().cycle();
        let mut group = criterion.benchmark_group("check");
        group.bench_function(BenchmarkId::new("cookie header to verdict", count), |bencher| {
            bencher.iter(|| {
                let headers = visits.next().expect("the cookies go round");
                let identified =
                    http.identify(Head::new(&Method::GET, &uri, black_box(headers)), None);
                assert!(matches!(identified, Identified::Now(Identity::Session(..))));
            });
        });
        group.finish();
        runtime.block_on(http.shutdown());
    }
}

async fn cookie(http: &HttpSessions, n: usize) -> HeaderMap {
    let user = UserKey::new(UserId::new(&format!("user {n}")).expect("a short name"));
    let signed_in = http.manager().sign_in(SignIn::new(user)).await.expect("a memory store");
    let cookie = format!("theme=dark; __Host-session={}; lang=en", signed_in.token.expose());
    let mut headers = HeaderMap::new();
    headers.insert(COOKIE, HeaderValue::from_str(&cookie).expect("plain text"));
    headers
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).without_plots();
    targets = check
}
criterion_main!(benches);
