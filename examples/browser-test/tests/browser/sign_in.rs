//! The page to sign in, and what it says of sessions that have ended.

use serde_json::json;
use session_kit::core::policy::{Policy, PreventConcurrentLogin};
use session_kit::http::Config;

use crate::driver::{Demo, Driver};
use crate::{ADMIN, DEVICES};

fn one_session(config: &mut Config) {
    let limit = json!({ "max": 1, "scope": "user", "on_exceed": "reject" });
    let policy = serde_json::from_value(json!({ "limits": [limit] }));
    config.engine.default_policy = policy.unwrap();
}

/// A limit refuses the second sign-in. The user ends the first session, and is signed in.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_user_chooses_a_session_to_end() {
    let (demo, driver) = (Demo::with(one_session).await, Driver::start().await);
    let first = driver.browser(&demo, "light").await;
    first.sign_in("alice").await;
    first.open(DEVICES).await;
    first.see("li.current").await;
    let second = driver.browser(&demo, "light").await;
    second.open("/login?next=/sessions/").await;
    second.fill_sign_in("alice").await;
    second.see_text("#choice", "Last used just now").await;
    second.screenshot("choice").await;
    second.click("#choice input[name='end']").await;
    second.click("#choice button").await;
    first.see("body[data-ended='revoked']").await;
    second.see("li.current").await;
    assert_eq!(second.address().await, DEVICES, "where the user wanted to go");
    assert_eq!(second.count("#devices li").await, 1);
    driver.stop(vec![first, second]).await;
}

/// A choice that comes too late is refused in words.
#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_works_once() {
    let (demo, driver) = (Demo::with(one_session).await, Driver::start().await);
    let first = driver.browser(&demo, "light").await;
    first.sign_in("bob").await;
    let second = driver.browser(&demo, "light").await;
    second.try_sign_in("bob").await;
    second.click("#choice input[name='end']").await;
    let ticket = "document.getElementById('choice').dataset.ticket = 'used'";
    second.js(ticket).await;
    second.click("#choice button").await;
    second.see_text("#notice", "the ticket is not valid: sign in again").await;
    assert!(!second.shows("#choice").await);
    driver.stop(vec![first, second]).await;
}

/// The browser that was signed out is told why, and its devices page has a list.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_told_why() {
    let all = Policy::from(PreventConcurrentLogin::LogoutFromAllDevices);
    let demo = Demo::with(|config| config.engine.default_policy = all).await;
    let driver = Driver::start().await;
    let first = driver.browser(&demo, "light").await;
    first.sign_in("alice").await;
    let second = driver.browser(&demo, "light").await;
    second.sign_in("alice").await;
    first.open("/login").await;
    first.see_text(".notice", "You signed in on another device, just now").await;
    first.screenshot("why").await;
    second.open(DEVICES).await;
    second.click("#ended summary").await;
    second.see_text("#history li", "Made room for another sign-in").await;
    second.screenshot("recently-signed-out").await;
    driver.stop(vec![first, second]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_names_a_device() {
    let (demo, driver) = (Demo::start().await, Driver::start().await);
    let browser = driver.browser(&demo, "light").await;
    browser.sign_in("alice").await;
    browser.open(DEVICES).await;
    browser.click("li.current button").await;
    browser.see("#rename[open]").await;
    browser.type_into("#rename-name", "Kitchen").await;
    browser.click("#rename .primary").await;
    browser.see_text("li.current strong", "Kitchen").await;
    browser.see_text("#notice", "The device has a new name.").await;
    browser.open(DEVICES).await;
    browser.see_text("li.current strong", "Kitchen").await;
    driver.stop(vec![browser]).await;
}

/// An admin blocks a user, whose next sign-in says why, and sees how the session ended.
#[tokio::test(flavor = "multi_thread")]
async fn an_admin_blocks_a_user() {
    let (demo, driver) = (Demo::start().await, Driver::start().await);
    let (admin, user) =
        (driver.browser(&demo, "light").await, driver.browser(&demo, "light").await);
    admin.sign_in("root").await;
    user.sign_in("alice").await;
    user.open(DEVICES).await;
    user.see("li.current").await;
    admin.open(ADMIN).await;
    admin.see("tr[data-user='alice']").await;
    admin.type_into("#block input[name='user']", "alice").await;
    admin.click("#block-show").await;
    admin.see_text("#block-of", "Block of user alice").await;
    admin.see_text("#block-state", "Not blocked").await;
    admin.type_into("#block input[name='reason']", "fraud").await;
    // What is typed above changes nothing until it is shown.
    admin.type_into("#block input[name='user']", "x").await;
    admin.click("#block-set").await;
    admin.see("#confirm[open]").await;
    admin.see_text("#confirm-facts", "Tenant\nnone\nUser\nalice").await;
    admin.click("#confirm-yes").await;
    admin.see_text("#block-state", "Blocked, set by user:root").await;
    user.see("body[data-ended='blocked']").await;
    user.try_sign_in("alice").await;
    user.see_text(".notice", "Sign-in is blocked: fraud.").await;
    admin.type_into("#history-search input[name='user']", "alice").await;
    admin.click("#history-search button").await;
    admin.see("#history li[data-cause='blocked']").await;
    admin.screenshot("block").await;
    admin.see_text("#block-lift", "Lift the block of user alice").await;
    admin.click("#block-lift").await;
    admin.see("#confirm[open]").await;
    admin.see_text("#confirm-facts", "Tenant\nnone\nUser\nalice").await;
    admin.click("#confirm-yes").await;
    admin.see_text("#block-state", "Not blocked").await;
    user.sign_in("alice").await;
    driver.stop(vec![admin, user]).await;
}
