//! What the pages say, where, and where the focus is afterwards.

use std::time::Duration;

use serde_json::json;

use crate::driver::{Demo, Driver};
use crate::{ADMIN, DEVICES};

/// The next request that changes something gets this answer.
const ANSWER: &str = "const [status, body] = arguments;
    const { fetch } = window;
    window.fetch = (path, options) => {
        if (['GET', 'HEAD'].includes(options?.method ?? 'GET')) return fetch(path, options);
        window.fetch = fetch;
        if (status === 0) return Promise.reject(new TypeError('Failed to fetch'));
        return Promise.resolve(new Response(JSON.stringify(body), { status }));
    };";

/// A message is seen however far down the page is.
#[tokio::test(flavor = "multi_thread")]
async fn messages_are_in_view_and_in_words() {
    let (demo, driver) = (Demo::start().await, Driver::start().await);
    for number in 0..40 {
        demo.session(None, "bob", &format!("Lynx {number}")).await;
    }
    let admin = driver.browser(&demo, "light").await;
    admin.sign_in("root").await;
    admin.open(ADMIN).await;
    admin.see_text("#count", "41 sessions").await;
    let in_view = "const { top, bottom, height } =
        document.querySelector('#notice').getBoundingClientRect();
        return height > 0 && top >= 0 && bottom <= innerHeight && scrollY > 500";
    let revoke = async || {
        admin.click("#rows tr:last-child .danger").await;
        admin.see("#confirm[open]").await;
        admin.click("#confirm-yes").await;
    };
    revoke().await;
    admin.see_text("#notice", "1 session of bob ended.").await;
    assert_eq!(admin.js(in_view).await, json!(true));
    admin.screenshot("message").await;
    for (status, text) in [
        (0, "The server did not answer, so it is not known whether this was done."),
        (503, "The server has a fault, so it is not known whether this was done."),
        (404, "That session had already ended."),
        (403, "You may not do this."),
    ] {
        admin.js_with(ANSWER, vec![json!(status), json!({ "status": status })]).await;
        revoke().await;
        admin.see_text("#notice.bad", text).await;
        assert_eq!(admin.js(in_view).await, json!(true));
    }
    assert_eq!(admin.count("#rows tr").await, 40);
    driver.stop(vec![admin]).await;
}

/// While the page waits for an answer it says so and takes no second order.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_at_work_says_so() {
    let (demo, driver) = (Demo::start().await, Driver::start().await);
    demo.session(None, "alice", "Lynx").await;
    let user = driver.browser(&demo, "light").await;
    user.sign_in("alice").await;
    user.open(DEVICES).await;
    user.see("#content[aria-busy='false'] li:nth-child(2)").await;
    let hold = "const { fetch } = window;
        window.fetch = (...call) => new Promise((resolve) => {
            window.release = () => { window.fetch = fetch; resolve(fetch(...call)); };
        });";
    user.js(hold).await;
    user.click("#refresh").await;
    user.see("#content[aria-busy='true']").await;
    user.see_text("#notice", "Working").await;
    let free = "button:not(:disabled)";
    assert_eq!(user.count(&format!("main {free}")).await, 0);
    user.js("release()").await;
    user.see("#content[aria-busy='false']").await;
    user.see_text("#notice", "").await;
    assert!(user.count(&format!("#content {free}")).await > 0);
    assert_eq!(user.focused().await, "Refresh");
    driver.stop(vec![user]).await;
}

/// After each action the focus is where one goes on, never at the top of the page.
#[tokio::test(flavor = "multi_thread")]
async fn the_focus_is_kept() {
    let (demo, driver) = (Demo::start().await, Driver::start().await);
    for number in 0..3 {
        demo.session(None, "bob", &format!("Lynx {number}")).await;
    }
    let admin = driver.browser(&demo, "light").await;
    admin.sign_in("root").await;
    admin.open(&format!("{ADMIN}?user=bob")).await;
    admin.see_text("#count", "3 sessions").await;
    for (row, shown, next) in [
        (2, "2 sessions", "Revoke bob, Lynx 0 (Console)"),
        (2, "1 session", "Revoke bob, Lynx 2 (Console)"),
        (1, "0 sessions", "Refresh"),
    ] {
        admin.click(&format!("#rows tr:nth-child({row}) .danger")).await;
        admin.see("#confirm[open]").await;
        admin.click("#confirm-yes").await;
        admin.see_text("#count", shown).await;
        admin.see_focus(next).await;
    }
    admin.click("#search-clear").await;
    admin.see_text("#count", "1 session").await;
    admin.see_focus("Clear").await;
    admin.click("#policy-save").await;
    admin.see_text("#notice", "Saved").await;
    admin.see_focus("Save for the deployment").await;
    admin.click("#policy-inherit").await;
    admin.see_text("#notice", "Inherited again").await;
    admin.see_focus("Save for the deployment").await;
    driver.stop(vec![admin]).await;
}

/// What needs a recent proof of who the user is leads there and back.
#[tokio::test(flavor = "multi_thread")]
async fn a_recent_proof_is_asked_for() {
    let short = Duration::from_millis(1);
    let demo = Demo::with(|config| config.http.fresh_within = short).await;
    let driver = Driver::start().await;
    let other = demo.session(None, "alice", "Lynx").await;
    let user = driver.browser(&demo, "light").await;
    user.sign_in("alice").await;
    user.open(DEVICES).await;
    user.see("#devices li:nth-child(2)").await;
    user.click("#others").await;
    user.click("#confirm-yes").await;
    user.see_text("#notice", "this needs a recent proof of who you are").await;
    user.see("#notice a[href='/login?next=%2Fsessions%2F']").await;
    user.see_focus("Confirm who you are").await;
    assert!(!user.is_there("body[data-ended]").await, "nobody is signed out");
    assert_eq!(demo.count(&other).await, 2);
    user.screenshot("recent-proof").await;
    user.click("#notice a").await;
    user.fill_sign_in("alice").await;
    user.see("#devices li:nth-child(2)").await;
    driver.stop(vec![user]).await;
}
