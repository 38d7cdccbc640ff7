//! What an operator wants to know.

use std::collections::HashMap;

use futures_util::future::try_join_all;
use redis::cmd;
use session_core::store::StoreReport;
use session_core::{InvalidField, StoreError, Timestamp};

use crate::entry::{BEGINNING, Entry};
use crate::log::Told;
use crate::placement::Shard;
use crate::store::{RedisStore, VERSION};

/// The log of one shard.
struct LogState {
    length: u64,
    from: Option<Timestamp>,
    /// Whether its first entries have left.
    is_cut: bool,
}

impl RedisStore {
    pub(crate) async fn describe_all(&self) -> Result<StoreReport, StoreError> {
        let first = self.placement.slot(Shard::FIRST);
        let info = self.link.query_at::<String>(first, cmd("INFO"));
        let time = self.link.query_at::<(i64, i64)>(first, cmd("TIME"));
        let logs = try_join_all(self.placement.shards().map(|shard| self.log_state(shard)));
        let (info, (seconds, micros), logs) = tokio::try_join!(info, time, logs)?;
        let info = lines_of(&info);
        let mut report = StoreReport {
            server: product(&info),
            schema: Some(VERSION),
            clock: Timestamp::from_micros(seconds.saturating_mul(1_000_000).saturating_add(micros)),
            log_from: log_from(&logs),
            ..StoreReport::default()
        };
        self.add_details(&mut report, &info, &logs);
        self.add_problems(&mut report, &info, &logs);
        Ok(report)
    }

    async fn log_state(&self, shard: Shard) -> Result<LogState, StoreError> {
        let log = self.placement.log(shard);
        let mut read = redis::pipe();
        read.cmd("XLEN").arg(&log);
        read.cmd("XRANGE").arg(&log).arg("-").arg("+").arg("COUNT").arg(2);
        let (length, oldest): (u64, Vec<Told>) = self.link.pipe(&read).await?;
        let entries: Vec<_> = oldest.iter().map(|(_, fields)| Entry(fields)).collect();
        let begins = entries.first().is_some_and(|entry| entry.kind() == Some(BEGINNING));
        let first = entries.get(usize::from(begins));
        let from = first.map(|entry| entry.at().ok_or(InvalidField::malformed("at", "a time")));
        Ok(LogState { length, from: from.transpose()?, is_cut: !begins })
    }

    fn add_details(&self, report: &mut StoreReport, info: &HashMap<&str, &str>, logs: &[LogState]) {
        let mut add = |name: &str, value: String| report.details.push((name.to_owned(), value));
        add("shards", logs.len().to_string());
        add("log entries", logs.iter().map(|log| log.length).sum::<u64>().to_string());
        add("sequencer", "none: a shard's server numbers its entries".to_owned());
        add("log cap of a shard", self.options.log_cap.to_string());
        let waited_for = self.options.replicas.map_or(0, |replicas| replicas.count);
        add("replicas waited for", waited_for.to_string());
        let known = [
            ("connected replicas", "connected_slaves"),
            ("memory", "used_memory_human"),
            ("memory policy", "maxmemory_policy"),
            ("append-only file", "aof_enabled"),
        ];
        for (name, field) in known {
            if let Some(value) = info.get(field) {
                add(name, (*value).to_owned());
            }
        }
    }

    fn add_problems(
        &self,
        report: &mut StoreReport,
        info: &HashMap<&str, &str>,
        logs: &[LogState],
    ) {
        if let Some(policy) = info.get("maxmemory_policy").filter(|policy| **policy != "noeviction")
        {
            report.problems.push(format!(
                "the memory policy is {policy}: a full server evicts keys and signs users out; set \
                 maxmemory-policy noeviction"
            ));
        }
        let staleness = self.needs().max_staleness;
        let needed = report.clock.minus(staleness);
        // A shorter one was trimmed by age alone.
        let is_full = |log: &LogState| log.is_cut && log.length >= self.options.log_cap.into();
        let short = |log: &&LogState| is_full(log) && log.from.is_some_and(|from| from > needed);
        let short = logs.iter().filter(short).count();
        if short > 0 {
            report.problems.push(format!(
                "the log of {short} of {} shards reaches back less than max_staleness ({} s): a node \
                 that cannot read it for as long drops its cache; raise log_cap",
                logs.len(),
                staleness.as_secs()
            ));
        }
        let replicas = info.get("connected_slaves").and_then(|count| count.parse::<u32>().ok());
        if let (Some(wanted), Some(connected)) = (self.options.replicas, replicas)
            && connected < wanted.count
        {
            report.problems.push(format!(
                "{connected} replicas are connected, and changes wait for {}: none is acknowledged",
                wanted.count
            ));
        }
    }
}

/// From when on the whole log is there: where entries have left, since the last of them did.
fn log_from(logs: &[LogState]) -> Option<Timestamp> {
    let cut = logs.iter().filter(|log| log.is_cut).filter_map(|log| log.from).max();
    cut.or_else(|| logs.iter().filter_map(|log| log.from).min())
}

fn lines_of(info: &str) -> HashMap<&str, &str> {
    info.lines().filter_map(|line| line.trim_end().split_once(':')).collect()
}

/// Valkey says that it is Redis 7.2, for the sake of old clients, and its own version beside it.
fn product(info: &HashMap<&str, &str>) -> String {
    match (info.get("valkey_version"), info.get("redis_version")) {
        (Some(version), _) => format!("Valkey {version}"),
        (None, Some(version)) => format!("Redis {version}"),
        (None, None) => "a server that does not tell its version".to_owned(),
    }
}
