//! Every example over HTTP does the same: it is started and talked to from outside.

use std::time::Duration;

use session_test_support::{Client, Program, example};

#[test]
fn actix() {
    works("actix");
}

#[test]
fn axum() {
    works("axum");
}

#[test]
fn hyper() {
    works("hyper");
}

#[test]
fn poem() {
    works("poem");
}

fn works(name: &str) {
    let mut program = Program::start(example(name));
    let mut alice = program.client();
    assert_eq!(alice.get("/").status, 401);
    assert_eq!(alice.get_page("/").header("location"), Some("/login?next=/"));
    let forms = ["user=alice&password=battery+staple", "user=&password=", "user=eve&password=x"];
    for form in forms {
        assert_eq!(alice.post("/login", form).status, 401, "{form}");
        assert!(!alice.has_cookie());
    }
    let ways = [
        ("/role%3Fday%3D1%26all", "/role?day=1&all"),
        ("//evil.example/", "/"),
        ("/%5Cevil.example/", "/"),
        ("https://evil.example/", "/"),
    ];
    for (next, path) in ways {
        let form = "user=alice&password=correct+horse";
        let answer = program.client().post(&format!("/login?next={next}"), form);
        assert_eq!((answer.status, answer.header("location")), (303, Some(path)), "{next}");
    }
    sign_in(&mut alice, "user=alice&password=correct+horse");
    assert!(alice.get("/").body.contains("hello alice"));
    assert_eq!(alice.get_page("/sessions/").status, 200);

    let mut root = program.client();
    sign_in(&mut root, "user=root&password=battery+staple");
    // A page of ours sends to sign in even a client that does not ask for HTML.
    for (path, refused) in [("/audit", 401), ("/sessions/admin", 303)] {
        assert_eq!(program.client().get(path).status, refused, "{path}");
        assert_eq!(alice.get(path).status, 403, "{path}");
        assert_eq!(root.get(path).status, 200, "{path}");
    }

    let first = alice.stream("/sessions/me/events");
    sign_in(&mut program.client(), "user=alice&password=correct+horse");
    first.ends_within(Duration::from_secs(5));
    assert_eq!(alice.get("/").status, 401, "the policy allows one session");

    let open = root.stream("/sessions/me/events");
    program.leaves_when_interrupted();
    drop(open);
}

fn sign_in(client: &mut Client, form: &str) {
    let answer = client.post("/login", form);
    assert_eq!((answer.status, answer.header("location")), (303, Some("/")), "{answer:?}");
    assert!(client.has_cookie());
}
