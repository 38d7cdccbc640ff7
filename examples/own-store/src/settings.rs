//! Policies, blocks, leases, the fleet's key, and what an operator sees.

use std::time::{Duration, SystemTime};

use redb::{Error, ReadTransaction, ReadableTable, ReadableTableMetadata, WriteTransaction};
use session_core::block::Block;
use session_core::policy::PolicyScope;
use session_core::store::StoreReport;
use session_core::{Event, FleetKey, StoreError, Timestamp, UserKey};

use crate::file::{BLOCKS, LEASES, LOG, SECRET, SESSIONS, Settings, Text, core_error};
use crate::log::{append, begins_at};

/// The policy or the block that is set at a place.
pub(crate) fn setting<T>(
    settings: &impl ReadableTable<(Text, Text), Text>,
    scope: &PolicyScope,
    read: impl Fn(&str) -> Result<T, StoreError>,
) -> Result<Option<T>, Error> {
    let Some(text) = settings.get(scope.key())? else { return Ok(None) };
    read(text.value()).map(Some).map_err(core_error)
}

/// Sets a policy or a block at its place, or none, and tells it.
pub(crate) fn set(
    file: &WriteTransaction,
    table: Settings,
    scope: &PolicyScope,
    value: Option<String>,
    event: &Event,
) -> Result<Option<()>, Error> {
    let mut settings = file.open_table(table)?;
    match value {
        Some(value) => settings.insert(scope.key(), &*value)?,
        None => settings.remove(scope.key())?,
    };
    append(file, event)?;
    Ok(Some(()))
}

/// Whether the user may not sign in. In the transaction that would begin the session, so that none
/// begins once a block is set.
pub(crate) fn is_blocked(file: &WriteTransaction, owner: &UserKey) -> Result<bool, Error> {
    let blocks = file.open_table(BLOCKS)?;
    for scope in PolicyScope::of(owner) {
        let block = setting(&blocks, &scope, Block::from_stored)?;
        if block.is_some_and(|block| block.holds(clock())) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The first key that was proposed.
pub(crate) fn fleet_key(file: &WriteTransaction, proposed: &FleetKey) -> Result<FleetKey, Error> {
    let mut secret = file.open_table(SECRET)?;
    let known = secret.get(())?.map(|key| FleetKey::from_bytes(*key.value()));
    let key = known.unwrap_or_else(|| proposed.clone());
    secret.insert((), key.as_bytes())?;
    Ok(key)
}

/// None where another holder has it.
pub(crate) fn lease(
    file: &WriteTransaction,
    name: &str,
    holder: &str,
    ttl: Duration,
) -> Result<Option<()>, Error> {
    let mut leases = file.open_table(LEASES)?;
    leases.retain(|_, (_, until)| until > clock().as_micros())?;
    if leases.get(name)?.is_some_and(|lease| lease.value().0 != holder) {
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
