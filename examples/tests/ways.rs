//! The ways in besides a form: an identity provider, a command line, signed tokens, WebSockets.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use session_test_support::{Client, Program, example};

#[test]
fn oidc_callback() {
    let mut program = Program::start(example("oidc-callback"));
    let mut alice = program.client();
    assert_eq!(alice.get_page("/").header("location"), Some("/login?next=/"));
    let back = to_the_provider(&mut alice, "/login?next=/sessions/");
    // Another browser cannot use what this one has begun, and this one can use it once.
    assert_eq!(program.client().get(&back).status, 403);
    let answer = alice.visit(&back);
    assert_eq!((answer.status, answer.header("location")), (303, Some("/sessions/")));
    assert_eq!(alice.get("/").body, "hello alice");
    assert_eq!(alice.get(&back).status, 403);
    // What comes back to another flow than the one it belongs to.
    let mut eve = program.client();
    let theirs = to_the_provider(&mut eve, "/login");
    let code = theirs.split("code=").nth(1).unwrap();
    let mut bob = program.client();
    let own = to_the_provider(&mut bob, "/login");
    let state = own.split(['=', '&']).nth(1).unwrap();
    assert_eq!(bob.get(&format!("/callback?state={state}&code={code}")).status, 403);
    let open = alice.stream("/sessions/me/events");
    program.leaves_when_interrupted();
    drop(open);
}

/// To the provider, and to the page that it leads back to.
fn to_the_provider(browser: &mut Client, login: &str) -> String {
    let answer = browser.visit(login);
    let provider = answer.header("location").unwrap().to_owned();
    assert!(browser.get(&provider).body.contains("alice"));
    let allow = provider.replace("/authorize?", "/allow?user=alice&");
    browser.get(&allow).header("location").unwrap().to_owned()
}

#[test]
fn bearer_cli() {
    let mut program = Program::start(example("bearer-cli"));
    let folder = tempfile::tempdir().unwrap();
    let run = |words: &[&str], input: &str| -> Output {
        let mut command = Command::new(example("bearer-cli"));
        command.args(words).current_dir(folder.path());
        command.env("SERVICE", program.addr().to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let said = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let whoami = || run(&["whoami"], "");
    assert!(!whoami().status.success());
    assert!(!run(&["login", "alice"], "guess").status.success());
    let login = run(&["login", "alice"], "alice\n");
    assert!(login.status.success(), "{login:?}");
    assert_eq!(said(&whoami()), "alice on Console\n");
    let file = folder.path().join("bearer-cli.token");
    let old = std::fs::read_to_string(&file).unwrap();
    assert!(run(&["renew"], "").status.success());
    let new = std::fs::read_to_string(&file).unwrap();
    assert_ne!(old, new);
    assert_eq!(said(&whoami()), "alice on Console\n");
    assert!(run(&["logout"], "").status.success());
    assert!(!file.exists());
    assert_eq!(program.client().bearing(&new).get("/whoami").status, 401);
    for (origin, status) in [
        ("capacitor://localhost", 200),
        ("https://shop.example.com", 200),
        ("https://evil.example", 403),
    ] {
        let mut page = program.client().on_a_page_of(origin);
        assert_eq!(page.post("/logout", "").status, status, "{origin}");
    }
    program.leaves_when_interrupted();
}

#[test]
fn jwt_service() {
    let mut program = Program::start(example("jwt-service"));
    let (mut alice, mut bob) = (program.client(), program.client());
    for (client, user) in [(&mut alice, "alice"), (&mut bob, "bob")] {
        let form = format!("user={user}&password={user}");
        assert_eq!(client.post("/login", &form).status, 200);
    }
    let token = |client: &Client| client.get("/token").body;
    let (of_alice, of_bob) = (token(&alice), token(&bob));
    let by = |token: &str| program.client().bearing(token);
    assert_eq!(by(&of_alice).get("/orders").body, "the orders of alice");
    assert_eq!(by(&of_alice).post("/orders/buy", "").status, 200);
    assert_eq!(by(&of_bob).post("/orders/buy", "").status, 403, "the claims do not suffice");
    assert_eq!(by(&of_alice[..of_alice.len() - 4]).get("/orders").status, 401);
    for client in [&program.client(), &alice] {
        assert_eq!(client.get("/orders").status, 401, "no cookie of the login's counts");
    }
    // The end reaches the orders service's own node.
    let open = by(&of_alice).stream("/orders/sessions/me/events");
    assert_eq!(alice.post("/logout", "").status, 200);
    open.ends_within(Duration::from_secs(5));
    assert_eq!(by(&of_alice).get("/orders").status, 401, "a token does not outlive its session");
    assert_eq!(by(&of_bob).get("/orders").status, 200);
    program.leaves_when_interrupted();
}

#[test]
fn live() {
    let mut program = Program::start(example("live"));
    let (mut alice, mut bob) = (program.client(), program.client());
    assert_eq!(alice.socket("/chat").unwrap_err(), 401);
    for (client, user) in [(&mut alice, "alice"), (&mut bob, "bob")] {
        let form = format!("user={user}&password={user}");
        assert_eq!(client.post("/login", &form).status, 303);
    }
    assert_eq!(alice.on_a_page_of("https://evil.example").socket("/chat").unwrap_err(), 403);
    let (mut of_alice, mut of_bob) = (alice.socket("/chat").unwrap(), bob.socket("/chat").unwrap());
    let mut events = alice.stream("/listen");
    // A message of one's own comes back once one listens.
    of_bob.say("hello");
    assert_eq!(of_bob.hear(), "bob: hello");
    of_alice.say("hi");
    while of_alice.hear() != "alice: hi" {}
    assert_eq!(of_bob.hear(), "alice: hi");
    events.read_until("data: alice: hi\n");
    assert_eq!(alice.post("/logout", "").status, 200);
    assert_eq!(of_alice.closed(), (4001, "signed_out".to_owned()));
    events.read_until("event: ended\ndata: signed_out\n");
    events.ends_within(Duration::from_secs(5));
    assert_eq!(alice.socket("/chat").unwrap_err(), 401);
    program.interrupt();
    assert_eq!(of_bob.closed(), (1001, "going away".to_owned()));
    program.leaves_when_interrupted();
}
