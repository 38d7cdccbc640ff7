//! Hostile input is boring (G14).

use axum::body::Body;
use axum::http::{HeaderValue, Method, Request};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::app::App;

fn header() -> impl Strategy<Value = HeaderValue> {
    let bytes = vec(prop_oneof![32..=126_u8, 128..=255_u8, Just(b'\t')], 0..200);
    bytes.prop_map(|bytes| HeaderValue::from_bytes(&bytes).unwrap())
}

fn path() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        Just("me".to_owned()),
        Just("admin".to_owned()),
        Just("sessions".to_owned()),
        Just("users".to_owned()),
        Just("policy".to_owned()),
        Just("%ff%00".to_owned()),
        Just("..".to_owned()),
        "[a-zA-Z0-9%._~-]{0,12}".prop_map(|text| text.replace('%', "%25")),
    ];
    let query = prop_oneof![
        Just(String::new()),
        "(cursor|limit|user|tenant|active_since|device|except)=[a-z0-9%+:.-]{0,60}"
            .prop_map(|text| format!("?{text}")),
    ];
    (vec(segment, 0..5), query)
        .prop_map(|(segments, query)| format!("/sessions/{}{query}", segments.join("/")))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_makes_the_server_fail(
        requests in vec((path(), 0..5_usize, header(), header(), header(), vec(any::<u8>(), 0..300), any::<bool>()), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let app = App::start().await;
            let root = app.browser("root").await;
            let token = root.cookie.clone().unwrap();
            for (path, method, cookie, agent, forwarded, body, signed_in) in requests {
                if path.ends_with("/events") {
                    continue;
                }
                let methods = [Method::GET, Method::PUT, Method::POST, Method::DELETE, Method::HEAD];
                let Ok(request) = Request::builder().method(&methods[method]).uri(&path).body(Body::from(body)) else {
                    continue;
                };
                let mut request = request;
                let headers = request.headers_mut();
                headers.insert("cookie", if signed_in { token.parse().unwrap() } else { cookie });
                headers.insert("user-agent", agent);
                headers.insert("x-forwarded-for", forwarded);
                headers.insert("sec-fetch-site", HeaderValue::from_static("same-origin"));
                let answer = app.send(request).await;
                assert!(answer.status.as_u16() < 500, "{path}: {}", answer.status);
                assert!(!answer.headers.contains_key("set-cookie"));
            }
        });
    }
}

/// A client that holds no valid token cannot tell a session that exists from one that does not.
#[tokio::test]
async fn no_answer_reveals_whether_a_session_exists() {
    let app = App::start().await;
    let alice = app.browser("alice").await;
    let id = alice.id().await.replace('-', "");
    let real = format!("__Host-session={id}{}", "0".repeat(56));
    let unreal = format!("__Host-session={}{}", "1".repeat(32), "0".repeat(56));
    let mut answers = Vec::new();
    for cookie in [real, unreal, "__Host-session=".to_owned()] {
        let mut guess = app.stranger();
        guess.cookie = Some(cookie);
        let answer = guess.get("/sessions/me").await;
        answer.problem(401);
        answers.push((answer.headers, answer.body));
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(alice.get("/").await.text(), "alice");
}
