//! The committed description is the one that the code gives.

#[test]
fn the_committed_description_is_current() {
    let current = session_http::api::openapi("/sessions").to_pretty_json().unwrap();
    let committed = include_str!("../openapi.json");
    assert_eq!(current.trim(), committed.trim(), "run `cargo xtask openapi`");
    for path in [
        "/me",
        "/me/{id}",
        "/me/revoke-others",
        "/me/sign-out",
        "/me/events",
        "/me/history",
        "/ticket",
        "/admin/sessions",
        "/admin/sessions/{id}",
        "/admin/policy",
        "/admin/block",
        "/admin/history",
        "/admin/users/export",
        "/admin/users/data",
        "/admin/users/{user}/export",
        "/admin/users/{user}/data",
        "/admin/events",
        "/health",
    ] {
        assert!(committed.contains(&format!("\"{path}\"")), "{path}");
    }
}
