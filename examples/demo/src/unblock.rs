//! Lifts a block where no administrator can sign in to do it.

use session_kit::core::block::Block;
use session_kit::core::policy::PolicyScope;
use session_kit::core::store::BlockChange;
use session_kit::core::{Actor, Store, StoreError, TenantId, UserId, UserKey};

/// The place of a block: the deployment where neither is named.
pub fn place_of(tenant: Option<TenantId>, user: Option<UserId>) -> PolicyScope {
    match (tenant, user) {
        (tenant, Some(user)) => PolicyScope::User(UserKey { tenant, user }),
        (Some(tenant), None) => PolicyScope::Tenant(tenant),
        (None, None) => PolicyScope::Deployment,
    }
}

/// Lifts the block at a place in the store itself, without a node: sign-ins read it there, on every node.
/// Returns the block that was set.
///
/// # Errors
/// When the store is away.
pub async fn lift_block(
    store: &dyn Store,
    scope: PolicyScope,
) -> Result<Option<Block>, StoreError> {
    let block = store.block(&scope).await?;
    if block.is_some() {
        let at = store.report().await?.clock;
        store.set_block(&BlockChange { scope, block: None, at, by: Actor::Application }).await?;
    }
    Ok(block)
}

/// What was lifted, in words.
pub fn lifted_in_words(block: Option<&Block>) -> String {
    let Some(Block { reason, until, since, by }) = block else {
        return "No block was set there.".to_owned();
    };
    let until = until.map(|until| format!(" until {until}")).unwrap_or_default();
    let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("Lifted the block{until} that {by} set at {since}{reason}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use session_kit::engine::{Engine, Error, NewBlock, Options, SignIn};
    use session_kit::memory::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn a_block_is_lifted_without_anybody_signed_in() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let node = Engine::start_with(Arc::clone(&store), Options::default(), Default::default());
        let node = node.await.unwrap();
        let north = Some("north".parse::<TenantId>().unwrap());
        let alice = UserKey { tenant: north.clone(), user: "alice".parse().unwrap() };
        let user = Some(alice.user.clone());
        for scope in [place_of(None, None), place_of(north.clone(), None), place_of(north, user)] {
            let by = Actor::User(UserKey::new("root".parse().unwrap()));
            let block = NewBlock::default().with_reason(Some("fraud".parse().unwrap()));
            node.sessions().block(scope.clone(), block, by).await.unwrap();
            let refused = node.sessions().sign_in(SignIn::new(alice.clone())).await.unwrap_err();
            assert!(matches!(refused, Error::Blocked(_)), "{refused}");
            let lifted = lift_block(&*store, scope.clone()).await.unwrap();
            let words = lifted_in_words(lifted.as_ref());
            assert!(words.contains("user:root") && words.contains("fraud"), "{words}");
            node.sessions().sign_in(SignIn::new(alice.clone())).await.unwrap();
            let again = lift_block(&*store, scope).await.unwrap();
            assert_eq!(lifted_in_words(again.as_ref()), "No block was set there.");
        }
        node.shutdown().await;
    }
}
