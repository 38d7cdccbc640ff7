//! Policies and blocks, by their places.
//!
//! They are one hash in the first shard, which a sign-in reads with one command. Commits in other
//! shards cannot read it, so each shard has a copy of the blocks that concern its users. A change
//! of a block is made in the first shard, which numbers it, and is then copied; a copy takes no
//! change that is older than its own. Where the node dies before it has copied the change, the
//! first commit that an outdated copy refuses renews that copy.

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

/// The blocks at some places, as of one change.
struct Blocks {
    number: i64,
    in_force: Vec<Option<Block>>,
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
        self.set(policy_field(&change.scope), policy, "", &change.event()).await
    }

    pub(crate) async fn write_block(&self, change: &BlockChange) -> Result<(), StoreError> {
        let block = change.block.as_ref().map(Block::to_stored);
        self.set(block_field(&change.scope), block, NUMBER, &change.event()).await?;
        let scopes = std::slice::from_ref(&change.scope);
        self.copy_blocks(scopes, &self.shards_within(&change.scope)).await
    }

    async fn set(
        &self,
        field: Vec<u8>,
        value: Option<String>,
        number: &str,
        event: &Event,
    ) -> Result<(), StoreError> {
        let mut call = Call::new(&self.scripts.set, &self.placement, Shard::FIRST);
        call.key(self.placement.scopes()).key(self.placement.log(Shard::FIRST));
        call.arg(field).arg(value.unwrap_or_default()).arg(number);
        self.logging(&mut call, event.kind.invalidates())?;
        entry::parts(event).into_iter().for_each(|part| {
            call.arg(part);
        });
        self.link.change::<i64>(&call).await?;
        Ok(())
    }

    /// The shards that have sessions of this place.
    fn shards_within(&self, scope: &PolicyScope) -> Vec<Shard> {
        match scope {
            PolicyScope::User(owner) => vec![self.placement.shard(self.placement.tag(owner))],
            PolicyScope::Tenant(_) | PolicyScope::Deployment => self.placement.shards().collect(),
        }
    }

    /// Called where a commit was refused by the copy in its shard.
    pub(crate) async fn renew_copy(&self, owner: &UserKey) -> Result<(), StoreError> {
        let shard = self.placement.shard(self.placement.tag(owner));
        self.copy_blocks(&PolicyScope::of(owner), &[shard]).await
    }

    /// Copies the blocks of some places into some shards. A copy may arrive after a later one, so
    /// this goes on until nothing has changed while it copied.
    async fn copy_blocks(&self, scopes: &[PolicyScope], to: &[Shard]) -> Result<(), StoreError> {
        let mut blocks = self.read_blocks(scopes).await?;
        loop {
            let copies = to.iter().map(|shard| self.write_copy(*shard, scopes, &blocks));
            try_join_all(copies).await?;
            let now = self.read_blocks(scopes).await?;
            if now.number == blocks.number {
                return Ok(());
            }
            blocks = now;
        }
    }

    async fn read_blocks(&self, scopes: &[PolicyScope]) -> Result<Blocks, StoreError> {
        let mut read = cmd("HMGET");
        read.arg(self.placement.scopes()).arg(NUMBER);
        scopes.iter().for_each(|scope| {
            read.arg(block_field(scope));
        });
        let found: Vec<Option<Vec<u8>>> = self.link.query(&read).await?;
        let (number, found) = found.split_first().ok_or_else(|| malformed("blocks"))?;
        let blocks = found.iter().map(|text| text.as_deref().map(parse_block).transpose());
        Ok(Blocks {
            number: number.as_deref().map_or(Ok(0), parse_number)?,
            in_force: blocks.collect::<Result<_, _>>()?,
        })
    }

    async fn write_copy(
        &self,
        shard: Shard,
        scopes: &[PolicyScope],
        blocks: &Blocks,
    ) -> Result<(), StoreError> {
        let mut call = Call::new(&self.scripts.block, &self.placement, shard);
        call.key(self.placement.blocked(shard)).number(blocks.number);
        for (scope, block) in scopes.iter().zip(&blocks.in_force) {
            let until = block.as_ref().and_then(|block| block.until);
            call.arg(pair(scope.key())).number(u8::from(block.is_some()));
            call.arg(until.map(|until| until.as_micros().to_string()).unwrap_or_default());
        }
        self.link.change::<i64>(&call).await?;
        Ok(())
    }

    /// What the first shard says of blocks, by the fields of the copies: for those that hold until
    /// a time, this.
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
