//! Claims that stay fresh.

use serde_json::json;

use crate::app::{App, Ground, eventually};

pub(crate) async fn roles_change_within_the_bound(on: Ground) {
    let app = App::start(on).await;
    let (root, alice) = (app.browser("root").await, app.browser("alice").await);
    let namesake = app.browser("north/alice").await;
    assert_eq!(alice.get("/roles").await.json(), json!({ "roles": [] }));
    let answer = root.send("PUT", "/roles/alice", r#"{"roles":["auditor"]}"#).await;
    assert_eq!(answer.json(), json!({ "roles": ["auditor"] }));
    let expected = json!({ "roles": ["auditor"] });
    eventually("the new roles", async || alice.get("/roles").await.json() == expected).await;
    assert_eq!(namesake.get("/roles").await.json(), json!({ "roles": [] }));
    for path in ["/roles/north/alice", "/roles/north%2Falice"] {
        let roles = json!([path]);
        assert_eq!(root.send("PUT", path, &roles.to_string()).await.status, 200, "{path}");
        let expected = json!({ "roles": roles });
        eventually("the new roles", async || namesake.get("/roles").await.json() == expected).await;
    }
    assert_eq!(alice.get("/roles").await.json(), expected, "another's are untouched");
}

pub(crate) async fn only_root_gives_roles(on: Ground) {
    let app = App::start(on).await;
    let (alice, boss) = (app.browser("alice").await, app.browser("north/boss").await);
    for browser in [&alice, &boss] {
        let answer = browser.send("PUT", "/roles/alice", r#"["admin"]"#).await;
        assert_eq!(answer.problem(403)["type"], "urn:session-kit:forbidden");
    }
    app.stranger().send("PUT", "/roles/alice", r#"["admin"]"#).await.problem(401);
    assert_eq!(alice.get("/roles").await.json(), json!({ "roles": [] }));
}
