//! Several tabs of one browser.

use crate::ADMIN;
use crate::driver::{Demo, Driver};

/// However many tabs are open, the browser has one stream for all of them, and another tab goes on
/// when the one that had it is closed.
#[tokio::test(flavor = "multi_thread")]
async fn tabs_share_one_stream() {
    let demo = Demo::with(|config| config.http.max_streams_per_session = 1).await;
    let driver = Driver::start().await;
    let browser = driver.browser(&demo, "light").await;
    browser.sign_in("root").await;
    let mut tabs = vec![browser.tab().await];
    for _ in 1..4 {
        tabs.push(browser.new_tab().await);
    }
    for tab in &tabs {
        browser.switch(tab).await;
        browser.open(ADMIN).await;
        browser.see_text("#live", "Live").await;
        browser.see("tr[data-user='root']").await;
    }
    demo.session(None, "alice", "Lynx").await;
    for tab in &tabs {
        browser.switch(tab).await;
        browser.see_text("#news", "1 new").await;
    }
    browser.switch(&tabs[0]).await;
    browser.close_tab().await;
    browser.switch(&tabs[1]).await;
    // It cannot know what happened in between.
    browser.see_text("#news", "1 new or more").await;
    browser.see_text("#live", "Live").await;
    demo.session(None, "bob", "Lynx").await;
    for tab in &tabs[1..] {
        browser.switch(tab).await;
        browser.see_text("#news", "2 new").await;
    }
    // The end of the session is told to all as well.
    demo.end("root").await;
    for tab in &tabs[1..] {
        browser.switch(tab).await;
        browser.see("body[data-ended='revoked']").await;
    }
    driver.stop(vec![browser]).await;
}

/// A browser that lends no locks has a stream for each tab.
#[tokio::test(flavor = "multi_thread")]
async fn without_locks_each_tab_has_a_stream() {
    let (demo, driver) = (Demo::start().await, Driver::start().await);
    let browser = driver.browser(&demo, "light").await.at_a_name();
    browser.sign_in("root").await;
    let tabs = [browser.tab().await, browser.new_tab().await];
    for tab in &tabs {
        browser.switch(tab).await;
        browser.open(ADMIN).await;
        assert!(browser.js("return navigator.locks === undefined").await.as_bool().unwrap());
        browser.see_text("#live", "Live").await;
    }
    demo.session(None, "alice", "Lynx").await;
    for tab in &tabs {
        browser.switch(tab).await;
        browser.see_text("#news", "1 new").await;
    }
    browser.click("#refresh").await;
    browser.see_text("#count", "2 sessions").await;
    browser.click("tr[data-user='alice'] .danger").await;
    browser.click("#confirm-yes").await;
    browser.see_text("#notice", "1 session of alice ended.").await;
    driver.stop(vec![browser]).await;
}
