//! The end of the session behind a page.

use crate::driver::{Demo, Driver};
use crate::{ADMIN, DEVICES};

/// How many requests the page has made, streams included.
const REQUESTS: &str = "return performance.getEntriesByType('resource').length";

/// A page whose session is no longer accepted says so, leads to sign in and back, and asks nothing
/// more.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_page_stops_and_leads_to_sign_in() {
    let (demo, driver) = (Demo::start().await, Driver::start().await);
    let browser = driver.browser(&demo, "light").await;
    browser.sign_in("root").await;
    let path = format!("{ADMIN}?user=bob");
    browser.open(&path).await;
    browser.see_text("#live", "Live").await;
    // Its stream breaks, and is refused when it is opened again.
    browser.delete_cookies().await;
    demo.manager().stop_streams();
    browser.see("body[data-ended]").await;
    browser.see_text("#notice", "You are signed out.").await;
    browser.see("#notice a[href='/login?next=%2Fsessions%2Fadmin%3Fuser%3Dbob']").await;
    browser.see_focus("Sign in").await;
    assert!(!browser.shows("#content").await && !browser.shows("#sign-out").await);
    let before = browser.number(REQUESTS).await;
    // Three times the pause after which a stream is opened again.
    browser.js_async("setTimeout(arguments[0], 3000)").await;
    assert_eq!(browser.number(REQUESTS).await, before, "the page has stopped");
    browser.screenshot("signed-out").await;
    browser.click("#notice a").await;
    browser.fill_sign_in("root").await;
    browser.see("#search").await;
    assert_eq!(browser.address().await, path);
    driver.stop(vec![browser]).await;
}

/// The same where an action is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_action_leads_to_sign_in() {
    let (demo, driver) = (Demo::start().await, Driver::start().await);
    let browser = driver.browser(&demo, "light").await;
    browser.sign_in("alice").await;
    browser.open(DEVICES).await;
    browser.see("li.current").await;
    browser.delete_cookies().await;
    browser.click("#refresh").await;
    browser.see("#notice a[href='/login?next=%2Fsessions%2F']").await;
    browser.see_focus("Sign in").await;
    driver.stop(vec![browser]).await;
}

/// Both pages sign out the session that they belong to, and no other.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_signs_out() {
    let (demo, driver) = (Demo::start().await, Driver::start().await);
    let browser = driver.browser(&demo, "light").await;
    let other = demo.session(None, "root", "Lynx").await;
    for path in [DEVICES, ADMIN] {
        browser.sign_in("root").await;
        browser.open(path).await;
        browser.see("#content[aria-busy='false']").await;
        assert_eq!(demo.count(&other).await, 2);
        browser.click("#sign-out").await;
        browser.see("input[name='password']").await;
        assert_eq!(browser.address().await, "/login");
        assert_eq!(demo.count(&other).await, 1);
        browser.open("/").await;
        assert!(!browser.is_there("#user").await);
    }
    driver.stop(vec![browser]).await;
}

/// A tab that only listens is led to sign in and back.
#[tokio::test(flavor = "multi_thread")]
async fn a_live_tab_is_thrown_out() {
    let (demo, driver) = (Demo::start().await, Driver::start().await);
    let browser = driver.browser(&demo, "light").await;
    browser.sign_in("alice").await;
    browser.open("/live").await;
    browser.see_text("#time", "Z").await;
    demo.end("alice").await;
    browser.see("input[name='password']").await;
    assert_eq!(browser.address().await, "/login?next=%2Flive");
    browser.fill_sign_in("alice").await;
    browser.see_text("#time", "Z").await;
    assert_eq!(browser.address().await, "/live");
    driver.stop(vec![browser]).await;
}
