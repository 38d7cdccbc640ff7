//! Hostile input is boring (G14).

use http::{HeaderValue, Uri};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::app::{App, Ground, user_of};
use crate::client::Client;

const REQUESTS: usize = 300;
const METHODS: [&str; 6] = ["GET", "PUT", "POST", "DELETE", "HEAD", "PATCH"];

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
    let prefix = prop_oneof![4 => Just("/sessions/"), 1 => Just("/"), 1 => Just("/roles/")];
    (prefix, vec(segment, 0..5), query)
        .prop_map(|(prefix, segments, query)| format!("{prefix}{}{query}", segments.join("/")))
}

pub(crate) async fn nothing_makes_the_server_fail(on: Ground) {
    let app = App::start(on).await;
    let root = app.browser("root").await;
    let mut runner = TestRunner::default();
    let strategy = (
        path(),
        0..METHODS.len(),
        header(),
        header(),
        header(),
        vec(any::<u8>(), 0..300),
        any::<bool>(),
    );
    for _ in 0..REQUESTS {
        let request = strategy.new_tree(&mut runner).unwrap().current();
        let (path, method, cookie, agent, forwarded, body, signed_in) = request.clone();
        if path.parse::<Uri>().is_err() {
            continue;
        }
        let client = Client { cookie: None, ..root.clone() };
        let cookie = if signed_in {
            root.cookie.clone().unwrap().into_bytes()
        } else {
            cookie.as_bytes().to_vec()
        };
        let ask = client
            .ask(METHODS[method], &path)
            .header("cookie", cookie)
            .header("user-agent", agent)
            .header("x-forwarded-for", forwarded)
            .header("content-type", "application/json")
            .body(body);
        let answer = ask.send().await;
        assert!(answer.status.as_u16() < 500, "{request:?}: {}", answer.status);
        assert_eq!(answer.cookie(), None, "{request:?}");
    }
    assert_eq!(user_of(&app.browser("alice").await).await, "alice");
}

/// A client that holds no valid token cannot tell a session that exists from one that does not.
pub(crate) async fn no_answer_reveals_whether_a_session_exists(on: Ground) {
    let app = App::start(on).await;
    let alice = app.browser("alice").await;
    let id = alice.session_id().await.replace('-', "");
    let real = format!("__Host-session={id}{}", "0".repeat(72));
    let unreal = format!("__Host-session={}{}", "1".repeat(32), "0".repeat(72));
    let mut answers = Vec::new();
    for cookie in [real, unreal, "__Host-session=".to_owned()] {
        let guess = Client { cookie: Some(cookie), ..app.stranger() };
        let mut answer = guess.get("/sessions/me").await;
        answer.problem(401);
        answer.headers.remove("date");
        answers.push((answer.headers, answer.body));
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    assert_eq!(user_of(&alice).await, "alice");
}
