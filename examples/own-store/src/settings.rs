//! Policies, blocks, the fleet's key and leases, and what an operator sees.

use std::time::{Duration, SystemTime};

use redb::{Error, ReadTransaction, ReadableTable, ReadableTableMetadata, WriteTransaction};
use session_core::block::Block;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{BlockChange, PolicyChange, StoreReport};
use session_core::{FleetKey, Timestamp, UserKey};

use crate::file::{BLOCKS, FLEET_KEY, LEASES, LOG, POLICIES, SESSIONS, core_error};
use crate::log::{append, begins_at};

pub(crate) fn policy(file: &ReadTransaction, scope: &PolicyScope) -> Result<Option<Policy>, Error> {
    let policies = file.open_table(POLICIES)?;
    let Some(text) = policies.get(scope.key())? else { return Ok(None) };
    Policy::from_stored(text.value()).map(Some).map_err(core_error)
}

pub(crate) fn set_policy(file: &WriteTransaction, change: &PolicyChange) -> Result<(), Error> {
    let mut policies = file.open_table(POLICIES)?;
    match &change.policy {
        Some(policy) => policies.insert(change.scope.key(), &*policy.to_stored())?,
        None => policies.remove(change.scope.key())?,
    };
    append(file, &change.event())?;
    Ok(())
}

pub(crate) fn block(file: &ReadTransaction, scope: &PolicyScope) -> Result<Option<Block>, Error> {
    block_in(&file.open_table(BLOCKS)?, scope)
}

/// The blocks that concern a user, in a transaction of either kind.
pub(crate) fn blocks(
    table: &impl ReadableTable<(&'static str, &'static str), &'static str>,
    owner: &UserKey,
) -> Result<Vec<(PolicyScope, Block)>, Error> {
    let mut blocks = Vec::new();
    for scope in PolicyScope::of(owner) {
        blocks.extend(block_in(table, &scope)?.map(|block| (scope, block)));
    }
    Ok(blocks)
}

fn block_in(
    table: &impl ReadableTable<(&'static str, &'static str), &'static str>,
    scope: &PolicyScope,
) -> Result<Option<Block>, Error> {
    let Some(text) = table.get(scope.key())? else { return Ok(None) };
    Block::from_stored(text.value()).map(Some).map_err(core_error)
}

pub(crate) fn set_block(file: &WriteTransaction, change: &BlockChange) -> Result<(), Error> {
    let mut blocks = file.open_table(BLOCKS)?;
    match &change.block {
        Some(block) => blocks.insert(change.scope.key(), &*block.to_stored())?,
        None => blocks.remove(change.scope.key())?,
    };
    append(file, &change.event())?;
    Ok(())
}

/// The secret of the fleet: the first that was proposed.
pub(crate) fn fleet_key(file: &WriteTransaction, proposed: &FleetKey) -> Result<FleetKey, Error> {
    let mut keys = file.open_table(FLEET_KEY)?;
    if let Some(key) = keys.get(())? {
        return Ok(FleetKey::from_bytes(*key.value()));
    }
    keys.insert((), proposed.as_bytes())?;
    Ok(proposed.clone())
}

/// None where another holder has it.
pub(crate) fn lease(
    file: &WriteTransaction,
    name: &str,
    holder: &str,
    ttl: Duration,
) -> Result<Option<()>, Error> {
    let mut leases = file.open_table(LEASES)?;
    let taken = |(current, until): (&str, i64)| current != holder && until > clock().as_micros();
    if leases.get(name)?.is_some_and(|lease| taken(lease.value())) {
        return Ok(None);
    }
    leases.insert(name, (holder, clock().plus(ttl).as_micros()))?;
    Ok(Some(()))
}

/// The store's clock is that of its host, which all its nodes share.
pub(crate) fn clock() -> Timestamp {
    Timestamp::EPOCH.plus(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default())
}

/// What `doctor` shows. redb counts the rows of a table as they come and go, so this walks none.
pub(crate) fn report(file: &ReadTransaction) -> Result<StoreReport, Error> {
    let sessions = file.open_table(SESSIONS)?.len()?;
    Ok(StoreReport {
        server: "redb 4".to_owned(),
        clock: clock(),
        log_from: begins_at(&file.open_table(LOG)?)?.map(|(_, at)| at),
        details: vec![("sessions".to_owned(), sessions.to_string())],
        ..StoreReport::default()
    })
}
