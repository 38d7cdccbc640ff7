//! The demo's pages in headless Chromium, through WebDriver.

mod driver;

use std::time::Duration;

use driver::{Demo, Driver};

const DEVICES: &str = "/sessions/";
const ADMIN: &str = "/sessions/admin";

/// The admin switches the policy; the user's second sign-in throws the first browser out, whose
/// open page says so without a reload.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_sign_in_throws_the_first_out_before_its_eyes() {
    let (demo, driver) = (Demo::start().await, Driver::start().await);
    let first = driver.browser(&demo, "light").await;
    first.sign_in("alice").await;
    first.open(DEVICES).await;
    first.see("li.current .badge").await;
    assert_eq!(first.text("li.current .badge").await, "This device");
    first.screenshot("devices").await;

    let admin = driver.browser(&demo, "light").await;
    admin.sign_in("root").await;
    admin.open(ADMIN).await;
    admin.see("tr[data-user='alice']").await;
    admin.see_text("#live", "Live").await;
    admin.click("input[value='LogoutFromAllDevices']").await;
    admin.click("#policy-save").await;
    admin.see_text("#policy-state", "Saved").await;
    admin.screenshot("admin").await;
    assert!(!first.is_there("body[data-ended]").await, "a policy ends nothing by itself");

    let second = driver.browser(&demo, "dark").await;
    second.sign_in("alice").await;
    first.see("body[data-ended='evicted']").await;
    first.see_text("#notice", "You are signed out. You signed in on another device").await;
    assert!(!first.shows("#content").await, "what is no longer theirs to see is hidden");
    first.screenshot("thrown-out").await;

    second.open(DEVICES).await;
    second.see("li.current").await;
    assert_eq!(second.count("#devices li").await, 1);
    second.screenshot("devices-dark").await;
    driver.stop(vec![first, admin, second]).await;
}

/// The admin opens the details, by keyboard, and revokes; the user's page says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_revoked_from_its_details() {
    let (demo, driver) = (Demo::start().await, Driver::start().await);
    let admin = driver.browser(&demo, "dark").await;
    admin.sign_in("root").await;
    admin.open(ADMIN).await;
    admin.see_text("#live", "Live").await;
    let user = driver.browser(&demo, "light").await;
    user.sign_in("bob").await;
    user.open(DEVICES).await;
    user.see("li.current").await;

    // The row came in over the event stream, without a reload.
    admin.see("tr[data-user='bob']").await;
    admin.press("tr[data-user='bob'] .actions button", ENTER).await;
    admin.see("#details[open]").await;
    let fields = admin.text("#fields").await;
    for field in [
        "id",
        "tenant",
        "user",
        "device kind",
        "device info",
        "client id",
        "ip addresses",
        "signed in",
        "last accessed",
        "authenticated at",
        "absolute expiry",
        "data",
    ] {
        assert!(fields.contains(field), "{field} is missing in {fields}");
    }
    admin.screenshot("details-dark").await;
    admin.press("#details button", ESCAPE).await;
    admin.gone("#details[open]").await;
    admin.press("tr[data-user='bob'] .actions button", ENTER).await;
    admin.see("#details[open]").await;
    admin.click("#details-revoke").await;
    admin.see("#confirm[open]").await;
    admin.screenshot("confirm-dark").await;
    admin.click("#confirm-yes").await;
    user.see("body[data-ended='revoked']").await;
    admin.gone("tr[data-user='bob']").await;
    user.screenshot("revoked").await;
    driver.stop(vec![admin, user]).await;
}

/// A user signs out one other device, then all others; each of their pages says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_signs_out_other_devices() {
    let (demo, driver) = (Demo::start().await, Driver::start().await);
    let mut browsers = Vec::new();
    for _ in 0..3 {
        let browser = driver.browser(&demo, "light").await;
        browser.sign_in("alice").await;
        browser.open(DEVICES).await;
        browsers.push(browser);
    }
    let [first, second, third] = &browsers[..] else { unreachable!() };
    first.see("#devices li:nth-child(3)").await;
    first.click("#devices li:not(.current) button").await;
    first.see("#confirm[open]").await;
    first.click("#confirm button[value='']").await;
    first.gone("#confirm[open]").await;
    assert_eq!(first.count("#devices li").await, 3, "cancelled");
    first.click("#devices li:not(.current) button").await;
    first.see("#confirm[open]").await;
    first.click("#confirm-yes").await;
    // The newest of the others stands first.
    third.see("body[data-ended='revoked']").await;
    first.gone("#devices li:nth-child(3)").await;
    first.click("#others").await;
    first.see("#confirm[open]").await;
    first.click("#confirm-yes").await;
    second.see("body[data-ended='revoked']").await;
    first.gone("#devices li:nth-child(2)").await;
    assert!(!first.is_there("body[data-ended]").await);
    driver.stop(browsers).await;
}

/// Limits are added, saved, shown again and inherited; search narrows the list.
#[tokio::test(flavor = "multi_thread")]
async fn an_admin_sets_limits_and_searches() {
    let (demo, driver) = (Demo::start().await, Driver::start().await);
    let user = driver.browser(&demo, "light").await;
    user.sign_in("alice").await;
    let admin = driver.browser(&demo, "light").await;
    admin.sign_in("root").await;
    admin.open(ADMIN).await;
    admin.see("tr[data-user='alice']").await;
    admin.type_into("#policy input[name='user']", "alice").await;
    admin.click("#policy-load").await;
    admin.see_text("#policy-state", "Inherited").await;
    admin.click("#limit-add").await;
    admin.choose("#limits select[name='on_exceed']", "reject").await;
    admin.type_into("#limits input[name='max']", "1").await;
    admin.click("#policy-save").await;
    admin.see_text("#policy-state", "Saved").await;
    admin.screenshot("limits").await;
    let refused = driver.browser(&demo, "light").await;
    refused.try_sign_in("alice").await;
    refused.see_text("[role='alert']", "as many devices as you may").await;
    admin.open(ADMIN).await;
    admin.type_into("#policy input[name='user']", "alice").await;
    admin.click("#policy-load").await;
    admin.see_text("#policy-state", "Set here").await;
    assert_eq!(admin.count("#limits li").await, 1);
    admin.click("#policy-inherit").await;
    admin.see_text("#policy-state", "Inherited").await;
    assert_eq!(admin.count("#limits li").await, 0);

    admin.type_into("#search input[name='user']", "alice").await;
    admin.click("#search button").await;
    admin.gone("tr[data-user='root']").await;
    assert_eq!(admin.count("tr[data-user='alice']").await, 1);
    admin.type_into("#search input[name='user']", "nobody").await;
    admin.click("#search button").await;
    admin.see("#empty:not([hidden])").await;
    admin.type_into("#search input[name='user']", "").await;
    admin.click("#search button").await;
    admin.see("tr[data-user='root']").await;
    admin.click("tr[data-user='alice'] button.link").await;
    admin.gone("tr[data-user='root']").await;
    driver.stop(vec![user, admin, refused]).await;
}

const ENTER: char = '\u{e007}';
const ESCAPE: char = '\u{e00c}';
/// Long enough for a busy machine; what is waited for usually comes at once.
const PATIENCE: Duration = Duration::from_secs(20);
