//! Policies, blocks, leases, the fleet's key, and what an operator sees.

use std::time::{Duration, SystemTime};

use redb::{Error, ReadTransaction, ReadableTable, ReadableTableMetadata, WriteTransaction};
use session_core::block::Block;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{BlockChange, PolicyChange, StoreReport};
use session_core::{FleetKey, Timestamp, UserKey};

use crate::file::{BLOCKS, LEASES, LOG, POLICIES, SECRET, SESSIONS, Text, core_error};
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

pub(crate) fn block(
    blocks: &impl ReadableTable<(Text, Text), Text>,
    scope: &PolicyScope,
) -> Result<Option<Block>, Error> {
    let Some(text) = blocks.get(scope.key())? else { return Ok(None) };
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

/// Whether the user may not sign in. In the transaction that would begin the session, so that none
/// begins once a block is set.
pub(crate) fn is_blocked(file: &WriteTransaction, owner: &UserKey) -> Result<bool, Error> {
    let blocks = file.open_table(BLOCKS)?;
    for scope in PolicyScope::of(owner) {
        if block(&blocks, &scope)?.is_some_and(|block| block.holds(clock())) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The first key that was proposed.
pub(crate) fn fleet_key(
    file: &WriteTransaction,
    proposed: &FleetKey,
) -> Result<Option<FleetKey>, Error> {
    let mut secret = file.open_table(SECRET)?;
    let known = secret.get(())?.map(|key| FleetKey::from_bytes(*key.value()));
    if known.is_none() {
        secret.insert((), proposed.as_bytes())?;
    }
    Ok(known.or_else(|| Some(proposed.clone())))
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
