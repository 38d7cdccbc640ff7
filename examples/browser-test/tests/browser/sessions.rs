//! Sessions that end while a page shows them.

use crate::driver::{Demo, Driver};
use crate::{ADMIN, DEVICES, ENTER, ESCAPE};

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
    admin.see_text("#notice", "Saved: the policy of the deployment.").await;
    admin.see_text("#policy-state", "Set here").await;
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
    admin.see("tr[data-user='root']").await;
    let user = driver.browser(&demo, "light").await;
    user.sign_in("bob").await;
    user.open(DEVICES).await;
    user.see("li.current").await;

    // The event stream tells of it; the row comes when the admin asks for it.
    admin.see_text("#news", "1 new").await;
    assert!(!admin.is_there("tr[data-user='bob']").await);
    admin.press("#refresh", ENTER).await;
    admin.see("tr[data-user='bob']").await;
    admin.see_text("#news", "").await;
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
    admin.see_text("#notice", "1 session of bob ended.").await;
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
        browser.see("li.current").await;
        browsers.push(browser);
    }
    let [first, second, third] = &browsers[..] else { unreachable!() };
    first.see_text("#news", "2 new").await;
    first.click("#refresh").await;
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
    first.see_text("#notice", "1 device signed out.").await;
    first.click("#others").await;
    first.see("#confirm[open]").await;
    first.click("#confirm-yes").await;
    second.see("body[data-ended='revoked']").await;
    first.gone("#devices li:nth-child(2)").await;
    assert!(!first.is_there("body[data-ended]").await);
    driver.stop(browsers).await;
}

/// A user gives the device a name, takes it away again, and sees why another session has ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_names_a_device_and_sees_what_has_ended() {
    let (demo, driver) = (Demo::start().await, Driver::start().await);
    let browser = driver.browser(&demo, "light").await;
    browser.sign_in("alice").await;
    let other = demo.session(None, "alice", "Lynx").await;
    browser.open(DEVICES).await;
    browser.see("#devices li:nth-child(2)").await;
    browser.click("li.current button").await;
    browser.see("#rename[open]").await;
    browser.type_into("#rename-name", "<b>Kitchen</b>").await;
    browser.screenshot("rename").await;
    browser.click("#rename button[value='yes']").await;
    browser.see_text("li.current strong", "<b>Kitchen</b> (").await;
    browser.see_text("#notice", "The device has a new name.").await;
    browser.click("li.current button").await;
    browser.see("#rename[open]").await;
    assert_eq!(browser.value("#rename-name").await, "<b>Kitchen</b>");
    browser.js("document.getElementById('rename-name').value = ''").await;
    browser.click("#rename button[value='yes']").await;
    browser.see_text("#notice", "The device has no name any more.").await;
    assert!(!browser.text("li.current strong").await.contains("Kitchen"));

    demo.revoke(&other).await;
    browser.click("#ended summary").await;
    browser.see("#history li strong").await;
    browser.see_text("#history li", "Signed out by choice").await;
    assert_eq!(browser.count("#history li").await, 1);
    browser.screenshot("history").await;
    driver.stop(vec![browser]).await;
}

/// An impersonator is named wherever the session is shown: to the user, to admins, and to
/// themselves, also when it has ended.
#[tokio::test(flavor = "multi_thread")]
async fn an_impersonator_is_named_on_every_page() {
    let (demo, driver) = (Demo::start().await, Driver::start().await);
    let admin = driver.browser(&demo, "light").await;
    admin.sign_in("root").await;
    let acting = driver.browser(&demo, "light").await;
    acting.sign_in("root").await;
    acting.type_into("form[action='/impersonate'] input", "alice").await;
    acting.click("form[action='/impersonate'] button").await;
    acting.see_text(".notice", "acting as alice").await;
    acting.open(DEVICES).await;
    acting.see_text("#who .badge", "Used by root").await;

    let owner = driver.browser(&demo, "light").await;
    owner.sign_in("alice").await;
    owner.open(DEVICES).await;
    owner.see_text("#devices li:not(.current) .badge", "Used by root").await;
    assert_eq!(owner.text("li.current .badge").await, "This device");
    assert!(!owner.is_there("#who .badge").await);
    admin.open(&format!("{ADMIN}?user=alice")).await;
    admin.see_text("tr[data-user='alice'] .badge", "Used by root").await;
    assert_eq!(admin.count("tr[data-user='alice']").await, 2);
    assert_eq!(admin.count("tr[data-user='alice'] .badge").await, 1, "the other is alice's own");
    admin.screenshot("acting").await;

    acting.click("#sign-out").await;
    acting.see("input[name='password']").await;
    owner.click("#ended summary").await;
    owner.see_text("#history li .badge", "Used by root").await;
    admin.click("#history-search button").await;
    admin.see_text("#history li .badge", "Used by root").await;
    assert_eq!(admin.count("#history li .badge").await, 1);
    driver.stop(vec![admin, acting, owner]).await;
}

/// Names that mean something in a path are names like any other.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_any_name_is_revoked() {
    let (demo, driver) = (Demo::start().await, Driver::start().await);
    let admin = driver.browser(&demo, "light").await;
    admin.sign_in("root").await;
    for name in [".", ".."] {
        demo.session(None, name, "Lynx").await;
        let namesake = demo.session(Some("north"), name, "Lynx").await;
        admin.open(&format!("{ADMIN}?user={name}&tenant=")).await;
        admin.click("#rows .actions button").await;
        admin.click("#details-revoke-all").await;
        admin.see("#confirm[open]").await;
        assert!(admin.text("#confirm-facts").await.contains("none"), "the tenant is named");
        admin.click("#confirm-yes").await;
        admin.see_text("#notice", &format!("1 session of {name} ended.")).await;
        assert_eq!(demo.count(&namesake).await, 1, "{name} of another tenant");
    }
    driver.stop(vec![admin]).await;
}
