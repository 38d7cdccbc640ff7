//! How long sessions live: timeouts of their own, and a new beginning with a step-up.

use std::time::Duration;

use session_kit::core::usage::Timeouts;

use crate::app::{App, Ground, user_of};
use crate::client::login_form;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Both timeouts start again with a new proof of who the user is (NIST SP 800-63B-4, 5.2), and with nothing
/// else.
pub(crate) async fn a_step_up_restarts_both_timeouts(on: Ground) {
    let app = App::with(on, |config| {
        config.engine.timeouts = Timeouts::default().with_idle(HOUR).with_absolute(2 * HOUR);
    })
    .await;
    let (mut proven, mut renewed) = (app.browser("alice").await, app.browser("bob").await);
    for _ in 0..2 {
        app.advance(50 * HOUR / 60).await;
        assert_eq!(
            (user_of(&proven).await, user_of(&renewed).await),
            ("alice".into(), "bob".into())
        );
    }
    assert_eq!(proven.post("/reauthenticate", "password=alice").await.status, 200);
    assert_eq!(renewed.post("/rotate", "").await.status, 200);
    assert_eq!((user_of(&proven).await, user_of(&renewed).await), ("alice".into(), "bob".into()));
    app.advance(50 * HOUR / 60).await;
    // 150 minutes after the sign-in, 50 after the step-up.
    assert_eq!(
        (user_of(&proven).await, user_of(&renewed).await),
        ("alice".into(), "nobody".into())
    );
    let mine = proven.get("/sessions/me").await.json();
    let left = expiry(&mine).since(app.http.manager().now());
    assert!(left > 69 * HOUR / 60 && left < 71 * HOUR / 60, "{left:?}");
    app.advance(55 * HOUR / 60).await;
    assert_eq!(user_of(&proven).await, "alice");
    app.advance(16 * HOUR / 60).await;
    assert_eq!(user_of(&proven).await, "nobody", "121 minutes after the step-up");

    let mut idle = app.browser("alice").await;
    app.advance(59 * HOUR / 60).await;
    assert_eq!(idle.post("/reauthenticate", "password=alice").await.status, 200);
    assert_eq!(user_of(&idle).await, "alice");
    app.advance(61 * HOUR / 60).await;
    assert_eq!(user_of(&idle).await, "nobody", "the step-up does not lift the idle timeout");
}

fn expiry(mine: &serde_json::Value) -> session_kit::Timestamp {
    let expiry = mine["sessions"][0]["absolute_expiry"].as_str().unwrap();
    session_kit::Timestamp::parse_rfc3339(expiry).unwrap()
}

/// A remembered device outlives the timeouts of the options, and an administrator does not reach them.
pub(crate) async fn sessions_have_timeouts_of_their_own(on: Ground) {
    let app = App::start(on).await;
    let (plain, root) = (app.browser("alice").await, app.browser("root").await);
    let mut remembered = app.stranger();
    let answer = remembered.post("/login", &format!("{}&remember=on", login_form("alice"))).await;
    assert!(answer.cookie().unwrap().contains("; Max-Age=7776000"), "{:?}", answer.cookie());
    app.advance(9 * HOUR).await;
    let users = [user_of(&plain).await, user_of(&remembered).await, user_of(&root).await];
    assert_eq!(users, ["alice", "alice", "nobody"]);
    app.advance(15 * DAY).await;
    let users = [user_of(&plain).await, user_of(&remembered).await];
    assert_eq!(users, ["nobody", "alice"]);
    for days in [29, 29] {
        app.advance(days * DAY).await;
        assert_eq!(user_of(&remembered).await, "alice");
    }
    app.advance(17 * DAY).await;
    assert_eq!(user_of(&remembered).await, "nobody", "after 90 days in all");
    let root = app.browser("root").await;
    let ended = root.get("/sessions/admin/history?cause=expired&tenant=").await.json();
    assert_eq!(ended["sessions"].as_array().unwrap().len(), 3);
}
