//! The lists: order, pages, filters, live updates, and how they fit on a screen.

use serde_json::json;

use crate::driver::{Demo, Driver};
use crate::{ADMIN, DEVICES, ENTER};

/// However many sign-ins are newer, this device stands first; each list says how much of it is
/// shown, and can be read to its end.
#[tokio::test(flavor = "multi_thread")]
async fn this_device_stands_first_and_all_can_be_reached() {
    let (demo, driver) = (Demo::start().await, Driver::start().await);
    let user = driver.browser(&demo, "light").await;
    user.sign_in("alice").await;
    for number in 0..60 {
        demo.session(None, "alice", &format!("Lynx {number}")).await;
    }
    user.open(DEVICES).await;
    user.see("#devices li:first-child.current").await;
    assert_eq!(user.text("#count").await, "50 of 61 sessions");
    assert_eq!(user.count("#devices li").await, 50);
    user.click("#more").await;
    user.see("#devices li:nth-child(61)").await;
    assert_eq!(user.text("#count").await, "61 sessions");
    assert_eq!((user.count("#devices li").await, user.count(".current").await), (61, 1));
    assert!(!user.shows("#more").await);
    user.see_focus("Sign out Lynx 10 (Console)").await;

    let admin = driver.browser(&demo, "light").await;
    admin.sign_in("root").await;
    admin.open(ADMIN).await;
    admin.see_text("#count", "The newest 50 sessions; there are more").await;
    admin.click("#more").await;
    admin.see_text("#count", "62 sessions").await;
    assert_eq!(admin.count("#rows tr").await, 62);
    assert!(!admin.shows("#more").await);
    driver.stop(vec![user, admin]).await;
}

/// What is longer than a line wraps, at any width, and what an admin clicks stays in view.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_wider_than_the_window() {
    let (demo, driver) = (Demo::start().await, Driver::start().await);
    let (name, agent) = ("x".repeat(128), "Mozilla/5.0".repeat(23));
    demo.session(Some(&name), &name, &agent).await;
    demo.session(None, "alice", &agent).await;
    demo.session(None, "\u{5d0}\u{5dc}\u{5d9}\u{5e1}", "\u{5dc}\u{5d9}\u{5e0}\u{5e7}\u{5e1}").await;
    for (width, height) in [(1100, 1800), (320, 3000)] {
        let browser = driver.browser_of(&demo, "light", Some((width, height))).await;
        for (user, path) in [("alice", DEVICES), ("root", ADMIN)] {
            browser.sign_in(user).await;
            browser.open(path).await;
            browser.see("li:nth-child(2) button, tr:nth-child(3) .actions button").await;
            if path == ADMIN {
                browser.click("#limit-add").await;
                browser.see("#limits li select").await;
            }
            browser.screenshot(&format!("{user}-{width}")).await;
            assert_eq!(browser.number("return innerWidth").await, i64::from(width));
            let overflow = "return document.documentElement.scrollWidth - innerWidth";
            assert!(browser.number(overflow).await <= 0, "{path} at {width}");
            let outside = "return [...document.querySelectorAll('button, input, select')]
                .filter((made) => made.checkVisibility())
                .filter((made) => made.getBoundingClientRect().right > innerWidth).length";
            assert_eq!(browser.number(outside).await, 0, "{path} at {width}");
        }
        let isolated = "return [...document.querySelectorAll('bdi')]
            .filter((made) => /\\p{Script=Hebrew}/u.test(made.textContent)).length";
        assert_eq!(browser.number(isolated).await, 2, "a name and a device, without its kind");
        let kind = "return [...document.querySelectorAll('bdi')]
            .filter((made) => made.textContent === 'Console').length";
        assert_eq!(browser.number(kind).await, 3);
        browser.click("#rows .actions button").await;
        browser.see("#details[open]").await;
        let inside = "return document.querySelector('#details').getBoundingClientRect().right
            <= innerWidth";
        assert_eq!(browser.js(inside).await, json!(true));
        browser.screenshot(&format!("details-{width}")).await;
        driver.close(browser).await;
    }
}

/// A filter holds from when it is submitted; it is in the address, and Back leads to the one before.
#[tokio::test(flavor = "multi_thread")]
async fn filters_are_submitted_and_stand_in_the_address() {
    let (demo, driver) = (Demo::start().await, Driver::start().await);
    for (tenant, user) in [(None, "alice"), (Some("north"), "alice"), (Some("south"), "alice")] {
        demo.session(tenant, user, "Lynx").await;
    }
    let admin = driver.browser(&demo, "light").await;
    admin.sign_in("root").await;
    admin.open(ADMIN).await;
    admin.see_text("#count", "4 sessions").await;
    admin.type_into("#search input[name='user']", "bo").await;
    demo.session(None, "bob", "Lynx").await;
    admin.see_text("#news", "1 new").await;
    admin.click("#refresh").await;
    admin.see_text("#count", "5 sessions").await;
    assert_eq!(admin.address().await, ADMIN, "half a filter is none");
    admin.open(&format!("{ADMIN}?utm_source=mail&client=")).await;
    admin.see_text("#count", "5 sessions").await;
    admin.open(ADMIN).await;

    admin.type_into("#search input[name='user']", "bob").await;
    admin.press("#search input[name='user']", ENTER).await;
    admin.see_text("#count", "1 session").await;
    assert_eq!(admin.address().await, format!("{ADMIN}?user=bob"));
    demo.session(None, "alice", "Lynx").await;
    demo.session(None, "bob", "Lynx").await;
    admin.see_text("#news", "1 new").await;
    admin.back().await;
    admin.see_text("#count", "7 sessions").await;
    assert_eq!(admin.value("#search input[name='user']").await, "");

    // A user is one of a tenant.
    admin.click("tr[data-tenant='north'] button.link").await;
    admin.see_text("#count", "1 session").await;
    assert_eq!(admin.address().await, format!("{ADMIN}?user=alice&tenant=north"));
    assert_eq!(admin.count("tr[data-tenant='north']").await, 1);
    admin.click("#rows .danger").await;
    admin.see("#confirm[open]").await;
    assert!(admin.text("#confirm-facts").await.contains("north"), "the tenant is named");
    admin.click("#confirm-yes").await;
    admin.see_text("#notice", "1 session of alice (north) ended.").await;

    // The address alone leads to it, also to the users outside all tenants.
    admin.open(&format!("{ADMIN}?user=alice&tenant=")).await;
    admin.see_text("#count", "2 sessions").await;
    assert!(admin.is_there("#search input[name='outside']:checked").await);
    admin.click("#search-clear").await;
    admin.see_text("#count", "6 sessions").await;
    driver.stop(vec![admin]).await;
}

/// Live updates count what is new and mark what has ended, and no row moves under the pointer. The
/// question shows what tells the row from others.
#[tokio::test(flavor = "multi_thread")]
async fn live_updates_move_no_row() {
    let (demo, driver) = (Demo::start().await, Driver::start().await);
    let alike = [demo.session(None, "bob", "Lynx").await, demo.session(None, "bob", "Lynx").await];
    let admin = driver.browser(&demo, "light").await;
    admin.sign_in("root").await;
    admin.open(ADMIN).await;
    admin.see_text("#count", "3 sessions").await;
    let places = "return [...document.querySelectorAll('#rows tr')]
        .map((row) => [row.dataset.id, row.getBoundingClientRect().top])";
    let before = admin.js(places).await;
    for _ in 0..3 {
        demo.session(None, "alice", "Lynx").await;
    }
    admin.see_text("#news", "3 new").await;
    demo.revoke(&alike[0]).await;
    let first = format!("tr[data-id='{}']", alike[0].id());
    admin.see_text(&format!("{first}.ended"), "Ended").await;
    assert_eq!(admin.js(places).await, before);
    admin.click(&format!("{first} .danger")).await;
    assert!(!admin.is_there("#confirm[open]").await, "it has ended");

    let second = format!("tr[data-id='{}']", alike[1].id());
    let signed_in = admin.text(&format!("{second} [data-label='Signed in']")).await;
    admin.click(&format!("{second} .danger")).await;
    admin.see("#confirm[open]").await;
    let facts = admin.text("#confirm-facts").await;
    for fact in ["bob", "Lynx", "Address", "Signed in", "Last accessed"] {
        assert!(facts.contains(fact), "{fact} is missing in {facts}");
    }
    let signed_in = signed_in.trim_start_matches("Signed in: ");
    assert!(facts.contains(signed_in), "{signed_in} is missing in {facts}");
    admin.screenshot("question").await;
    admin.click("#confirm button[value='']").await;
    admin.click("#refresh").await;
    admin.see_text("#count", "5 sessions").await;
    driver.stop(vec![admin]).await;
}
