//! Policies and blocks, by their places.
//!
//! They are one hash in the first shard, which a sign-in reads with one command. Commits are in
//! other shards and cannot see it, so each shard has a copy of the blocks that concern its users, for
//! its commits alone. A change of a block is made in the first shard, which numbers it, and is then
//! written to the copies; a copy takes no change that is older than its own. A copy that was not
//! reached, because the node died half-way, is put right by the first commit that it refuses.

use std::collections::HashMap;

use futures_util::future::try_join_all;
use redis::cmd;
use session_core::block::Block;
use session_core::policy::{Policy, PolicyLayers, PolicyScope};
use session_core::store::{BlockChange, PolicyChange};
use session_core::{Event, InvalidField, StoreError, Timestamp, UserKey};

use crate::entry;
use crate::link::Call;
use crate::placement::Shard;
use crate::record::pair;
use crate::store::RedisStore;

/// What is set at the places that concern one user.
pub(crate) struct Scopes {
    pub(crate) policies: PolicyLayers,
    pub(crate) blocks: Vec<(PolicyScope, Block)>,
}

impl RedisStore {
    pub(crate) async fn read_scopes(&self, owner: &UserKey) -> Result<Scopes, StoreError> {
        let scopes = PolicyScope::of(owner);
        let mut read = cmd("HMGET");
        read.arg(self.placement.scopes());
        scopes.iter().for_each(|scope| {
            read.arg(policy_field(scope)).arg(block_field(scope));
        });
        // What changes the sessions next finds their shard announced.
        let shard = self.placement.shard(self.placement.tag(owner));
        let found: Vec<Option<Vec<u8>>> = self.announcing([shard], read).await?;
        let (mut policies, mut blocks) = (PolicyLayers::default(), Vec::new());
        for (scope, found) in scopes.into_iter().zip(found.chunks(2)) {
            policies.set(&scope, found[0].as_deref().map(parse_policy).transpose()?);
            if let Some(block) = found.get(1).and_then(Option::as_deref) {
                blocks.push((scope, parse_block(block)?));
            }
        }
        Ok(Scopes { policies, blocks })
    }

    pub(crate) async fn read_policy(
        &self,
        scope: &PolicyScope,
    ) -> Result<Option<Policy>, StoreError> {
        let text = self.read_scope(policy_field(scope)).await?;
        text.as_deref().map(parse_policy).transpose()
    }

    pub(crate) async fn read_block(
        &self,
        scope: &PolicyScope,
    ) -> Result<Option<Block>, StoreError> {
        let text = self.read_scope(block_field(scope)).await?;
        text.as_deref().map(parse_block).transpose()
    }

    async fn read_scope(&self, field: Vec<u8>) -> Result<Option<Vec<u8>>, StoreError> {
        let mut read = cmd("HGET");
        read.arg(self.placement.scopes()).arg(field);
        self.link.query(&read).await
    }

    pub(crate) async fn write_policy(&self, change: &PolicyChange) -> Result<(), StoreError> {
        let policy = change.policy.as_ref().map(Policy::to_stored);
        self.set(policy_field(&change.scope), policy, &change.event()).await?;
        Ok(())
    }

    pub(crate) async fn write_block(&self, change: &BlockChange) -> Result<(), StoreError> {
        let BlockChange { scope, block, .. } = change;
        let stored = block.as_ref().map(Block::to_stored);
        let number = self.set(block_field(scope), stored, &change.event()).await?;
        let copies = self.shards_within(scope).into_iter().map(|shard| async move {
            self.write_copy(shard, number, [(scope, block.as_ref())]).await
        });
        try_join_all(copies).await?;
        Ok(())
    }

    /// Answers the number of the change.
    async fn set(
        &self,
        field: Vec<u8>,
        value: Option<String>,
        event: &Event,
    ) -> Result<i64, StoreError> {
        let mut call = Call::new(&self.scripts.set, &self.placement, Shard::FIRST);
        call.key(self.placement.scopes()).key(self.placement.log(Shard::FIRST));
        call.arg(field).arg(value.unwrap_or_default());
        self.logging(&mut call)?;
        entry::parts(event).into_iter().for_each(|part| {
            call.arg(part);
        });
        self.link.change(&call).await
    }

    /// The shards that have sessions of this place.
    fn shards_within(&self, scope: &PolicyScope) -> Vec<Shard> {
        match scope {
            PolicyScope::User(owner) => vec![self.placement.shard(self.placement.tag(owner))],
            PolicyScope::Tenant(_) | PolicyScope::Deployment => self.placement.shards().collect(),
        }
    }

    async fn write_copy<'b>(
        &self,
        shard: Shard,
        number: i64,
        blocks: impl IntoIterator<Item = (&'b PolicyScope, Option<&'b Block>)>,
    ) -> Result<(), StoreError> {
        let mut call = Call::new(&self.scripts.block, &self.placement, shard);
        call.key(self.placement.blocked(shard)).number(number);
        for (scope, block) in blocks {
            let ends = block.and_then(|block| block.until).map(Timestamp::as_micros);
            call.arg(pair(scope.key())).number(u8::from(block.is_some()));
            call.arg(ends.map(|ends| ends.to_string()).unwrap_or_default());
        }
        self.link.change::<i64>(&call).await?;
        Ok(())
    }

    /// Called where a commit was refused by its shard's copy: writes to it what is in force.
    pub(crate) async fn renew_copy(&self, owner: &UserKey) -> Result<(), StoreError> {
        let scopes = PolicyScope::of(owner);
        let mut read = cmd("HMGET");
        read.arg(self.placement.scopes()).arg(NUMBER);
        scopes.iter().for_each(|scope| {
            read.arg(block_field(scope));
        });
        let found: Vec<Option<Vec<u8>>> = self.link.query(&read).await?;
        let (number, found) = found.split_first().ok_or_else(|| malformed("blocks"))?;
        let number = number.as_deref().map_or(Ok(0), parse_number)?;
        let blocks = found.iter().map(|text| text.as_deref().map(parse_block).transpose());
        let blocks = blocks.collect::<Result<Vec<_>, _>>()?;
        let shard = self.placement.shard(self.placement.tag(owner));
        let blocks = scopes.iter().zip(blocks.iter().map(Option::as_ref));
        self.write_copy(shard, number, blocks).await
    }

    /// What the first shard says of blocks, by the fields of the copies: for those that hold until a
    /// time, this.
    pub(crate) async fn blocks(&self) -> Result<HashMap<Vec<u8>, Option<Timestamp>>, StoreError> {
        let found: HashMap<Vec<u8>, Vec<u8>> =
            self.link.query(cmd("HGETALL").arg(self.placement.scopes())).await?;
        let blocks = found.into_iter().filter_map(|(field, text)| {
            let field = field.strip_prefix(b"b")?.to_vec();
            Some(parse_block(&text).map(|block| (field, block.until)))
        });
        blocks.collect()
    }
}

/// The field of the number of the last change.
const NUMBER: &str = "n";

fn policy_field(scope: &PolicyScope) -> Vec<u8> {
    [b"p", &pair(scope.key())[..]].concat()
}

fn block_field(scope: &PolicyScope) -> Vec<u8> {
    [b"b", &pair(scope.key())[..]].concat()
}

fn parse_policy(text: &[u8]) -> Result<Policy, StoreError> {
    Policy::from_stored(std::str::from_utf8(text).map_err(|_| malformed("policy"))?)
}

fn parse_block(text: &[u8]) -> Result<Block, StoreError> {
    Block::from_stored(std::str::from_utf8(text).map_err(|_| malformed("block"))?)
}

fn parse_number(text: &[u8]) -> Result<i64, StoreError> {
    let text = std::str::from_utf8(text).ok();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| malformed("blocks"))
}

fn malformed(field: &'static str) -> StoreError {
    InvalidField::malformed(field, "as it was written").into()
}
