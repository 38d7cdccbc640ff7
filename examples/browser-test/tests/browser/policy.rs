//! The policy's form.

use session_kit::core::policy::{Policy, PolicyScope, PreventConcurrentLogin};
use session_kit::core::{Actor, UserKey};

use crate::ADMIN;
use crate::ENTER;
use crate::driver::{Demo, Driver};

fn user(name: &str) -> PolicyScope {
    PolicyScope::User(UserKey::new(name.parse().unwrap()))
}

/// Limits are added, saved, shown again and inherited.
#[tokio::test(flavor = "multi_thread")]
async fn an_admin_sets_limits() {
    let (demo, driver) = (Demo::start().await, Driver::start().await);
    let user = driver.browser(&demo, "light").await;
    user.sign_in("alice").await;
    let admin = driver.browser(&demo, "light").await;
    admin.sign_in("root").await;
    admin.open(ADMIN).await;
    admin.see_text("#policy-of", "Policy of the deployment").await;
    admin.type_into("#policy input[name='user']", "alice").await;
    admin.click("#policy-load").await;
    admin.see_text("#policy-of", "Policy of user alice").await;
    admin.see_text("#policy-state", "Inherited from the application's default").await;
    admin.click("#limit-add").await;
    admin.choose("#limits select[name='on_exceed']", "reject").await;
    admin.type_into("#limits input[name='max']", "1").await;
    admin.click("#policy-save").await;
    admin.see_text("#notice", "Saved: the policy of user alice.").await;
    assert_eq!(admin.text("#policy-doubt").await, "", "there is such a user");
    admin.screenshot("limits").await;
    let refused = driver.browser(&demo, "light").await;
    refused.try_sign_in("alice").await;
    refused.see_text("[role='alert']", "as many devices as you may").await;
    admin.open(ADMIN).await;
    admin.see_text("#policy-of", "Policy of the deployment").await;
    admin.type_into("#policy input[name='user']", "alice").await;
    admin.click("#policy-load").await;
    admin.see_text("#policy-state", "Set here").await;
    assert_eq!(admin.count("#limits li").await, 1);
    admin.click("#policy-inherit").await;
    admin.see_text("#policy-state", "Inherited").await;
    assert_eq!(admin.count("#limits li").await, 0);
    driver.stop(vec![user, admin, refused]).await;
}

/// Enter shows and never saves; what is saved is that of whom the form names; a typo is told.
#[tokio::test(flavor = "multi_thread")]
async fn enter_shows_a_policy_and_saves_none() {
    let (demo, driver) = (Demo::start().await, Driver::start().await);
    let all = PreventConcurrentLogin::LogoutFromAllDevices;
    let manager = demo.manager();
    manager.set_policy(PolicyScope::Deployment, Some(all.into()), Actor::System).await.unwrap();
    demo.session(None, "alice", "Lynx").await;
    let admin = driver.browser(&demo, "light").await;
    admin.sign_in("root").await;
    admin.open(ADMIN).await;
    admin.see_text("#policy-of", "Policy of the deployment").await;
    admin.type_into("#policy input[name='user']", "alicf").await;
    admin.press("#policy input[name='user']", ENTER).await;
    admin.see_text("#policy-of", "Policy of user alicf").await;
    admin.see_text("#policy-state", "Inherited from the deployment").await;
    admin.see_text("#policy-doubt", "This user has no sessions. Check the name.").await;
    let count_saves = "const { fetch } = window;
        window.saves = 0;
        window.fetch = (path, options) => {
            if (options?.method === 'PUT') window.saves += 1;
            return fetch(path, options);
        };";
    admin.js(count_saves).await;
    admin.click("#limit-add").await;
    admin.press("#limits input[name='max']", ENTER).await;
    admin.click("input[value='Disabled']").await;
    admin.press("input[value='Disabled']", ENTER).await;
    // A name that is not shown yet changes nothing about whose policy is saved.
    admin.type_into("#policy input[name='user']", "alice").await;
    assert_eq!(manager.policy(&user("alicf")).await.unwrap(), None);
    assert_eq!(admin.text("#policy-save").await, "Save for user alicf");
    admin.click("#policy-save").await;
    let told = "Saved: the policy of user alicf. This user has no sessions. Check the name.";
    admin.see_text("#notice", told).await;
    assert_eq!(admin.number("return saves").await, 1, "by the button alone");
    let saved = manager.policy(&user("alicf")).await.unwrap().unwrap();
    assert_eq!(saved.prevent_concurrent_login, PreventConcurrentLogin::Disabled);
    assert_eq!(manager.policy(&user("alice")).await.unwrap(), None);
    let deployment = manager.policy(&PolicyScope::Deployment).await.unwrap();
    assert_eq!(deployment, Some(Policy::from(all)));
    driver.stop(vec![admin]).await;
}

/// A policy that another admin has changed in between is not overwritten.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_another_has_changed_stays() {
    let (demo, driver) = (Demo::start().await, Driver::start().await);
    let admin = driver.browser(&demo, "light").await;
    admin.sign_in("root").await;
    admin.open(ADMIN).await;
    admin.see_text("#policy-of", "Policy of the deployment").await;
    let all = Policy::from(PreventConcurrentLogin::LogoutFromAllDevices);
    let manager = demo.manager();
    let set = manager.set_policy(PolicyScope::Deployment, Some(all.clone()), Actor::System);
    set.await.unwrap();
    admin.click("input[value='LogoutFromSameTypeDevices']").await;
    admin.click("#policy-save").await;
    admin.see_text("#notice", "This policy was changed elsewhere").await;
    assert_eq!(manager.policy(&PolicyScope::Deployment).await.unwrap(), Some(all));
    assert!(admin.is_there("input[value='LogoutFromSameTypeDevices']:checked").await);
    admin.click("#policy-load").await;
    admin.see("input[value='LogoutFromAllDevices']:checked").await;
    admin.click("input[value='LogoutFromSameTypeDevices']").await;
    admin.click("#policy-save").await;
    admin.see_text("#notice", "Saved").await;
    driver.stop(vec![admin]).await;
}

/// The admin of a tenant sets that tenant's policy, and is asked for no other.
#[tokio::test(flavor = "multi_thread")]
async fn an_admin_of_a_tenant_sees_their_own_only() {
    let (demo, driver) = (Demo::start().await, Driver::start().await);
    let boss = driver.browser(&demo, "light").await;
    boss.sign_in_as("north/boss", "boss").await;
    boss.open(ADMIN).await;
    boss.see_text("#policy-of", "Policy of tenant north").await;
    assert!(!boss.shows("#policy input[name='tenant']").await);
    assert!(!boss.shows("#search input[name='tenant']").await);
    boss.click("input[value='LogoutFromAllDevices']").await;
    boss.click("#policy-save").await;
    boss.see_text("#notice", "Saved: the policy of tenant north.").await;
    let north = PolicyScope::Tenant("north".parse().unwrap());
    assert!(demo.manager().policy(&north).await.unwrap().is_some());
    driver.stop(vec![boss]).await;
}
