//! Announcements of shards that change: see [`active`](crate::active).

use std::time::Duration;

use redis::{Cmd, FromRedisValue, cmd};
use session_core::StoreError;

use crate::active::{ANNOUNCED, Moment};
use crate::link::Wait;
use crate::log::mark;
use crate::placement::Shard;
use crate::scripts::ANNOUNCE;
use crate::store::RedisStore;

struct Announcement {
    shards: Vec<usize>,
    command: Cmd,
    at: Moment,
    /// How often announcements had been lost before it.
    lost: u64,
}

impl RedisStore {
    /// Announces these shards, so that every reader reads them. Called before a change in them is
    /// acknowledged.
    pub(crate) async fn announce(
        &self,
        shards: impl IntoIterator<Item = Shard>,
    ) -> Result<(), StoreError> {
        self.announce_older_than(ANNOUNCED / 2, shards).await
    }

    /// As [`announce`](Self::announce), in one round trip with a read of the first shard.
    pub(crate) async fn announcing<T: FromRedisValue>(
        &self,
        shards: impl IntoIterator<Item = Shard>,
        read: Cmd,
    ) -> Result<T, StoreError> {
        let Some(announcement) = self.announcement(ANNOUNCED / 2, shards)? else {
            return self.link.query(&read).await;
        };
        let mut commands = redis::pipe();
        commands.add_command(read).add_command(announcement.command);
        let wait = Wait::on(&self.placement, Shard::FIRST);
        let (answer, _): (T, i64) = self.link.confirmed(commands, &wait).await?;
        self.active.announced(&announcement.shards, announcement.at, announcement.lost);
        Ok(answer)
    }

    /// Announces the shards again if the change took longer than an announcement lasts.
    pub(crate) async fn still_announced(
        &self,
        shards: impl IntoIterator<Item = Shard>,
    ) -> Result<(), StoreError> {
        self.announce_older_than(ANNOUNCED, shards).await
    }

    async fn announce_older_than(
        &self,
        age: Duration,
        shards: impl IntoIterator<Item = Shard>,
    ) -> Result<(), StoreError> {
        let Some(announcement) = self.announcement(age, shards)? else { return Ok(()) };
        let mut commands = redis::pipe();
        commands.add_command(announcement.command);
        let wait = Wait::on(&self.placement, Shard::FIRST);
        let (_,): (i64,) = self.link.confirmed(commands, &wait).await?;
        self.active.announced(&announcement.shards, announcement.at, announcement.lost);
        Ok(())
    }

    /// The announcement of those of the shards whose last one is older than this; none if all are
    /// younger.
    fn announcement(
        &self,
        age: Duration,
        shards: impl IntoIterator<Item = Shard>,
    ) -> Result<Option<Announcement>, StoreError> {
        let (at, lost) = (Moment::now(), self.active.lost());
        let shards = shards.into_iter().map(|shard| shard.0);
        let shards = self.active.unannounced(shards, age, &at);
        if shards.is_empty() {
            return Ok(None);
        }
        // Neither of the two marks that mean something else.
        let mark = mark()? | 1;
        let mut command = cmd("EVAL");
        command.arg(ANNOUNCE).arg(1).arg(self.placement.active());
        shards.iter().for_each(|shard| {
            command.arg(*shard).arg(mark);
        });
        Ok(Some(Announcement { shards, command, at, lost }))
    }
}
