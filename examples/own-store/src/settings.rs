//! Policies, blocks, leases, the fleet's key, and what an operator sees.

use std::time::{Duration, SystemTime};

use redb::{ReadableTable, ReadableTableMetadata};
use session_core::block::Block;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::StoreReport;
use session_core::{Event, FleetKey, Timestamp, UserKey};

use crate::file::{
    BLOCKS, ENDINGS, LEASES, LOG, Names, POLICIES, Read, Result, SECRET, SESSIONS, Settings, Text,
    Write, get,
};
use crate::log::{append, begins_at};

type Blocks = Vec<(PolicyScope, Block)>;

pub(crate) fn policy(file: &Read, scope: &PolicyScope) -> Result<Option<Policy>> {
    get(&file.open_table(POLICIES)?, scope.key(), Policy::from_stored)
}

pub(crate) fn block(file: &Read, scope: &PolicyScope) -> Result<Option<Block>> {
    get(&file.open_table(BLOCKS)?, scope.key(), Block::from_stored)
}

/// Sets a policy or a block at its place, or none, and tells it.
pub(crate) fn set(
    file: &Write,
    table: Settings,
    (scope, value, event): &(PolicyScope, Option<String>, Event),
) -> Result<Option<()>> {
    let mut settings = file.open_table(table)?;
    match value {
        Some(value) => settings.insert(scope.key(), &**value)?,
        None => settings.remove(scope.key())?,
    };
    append(file, event)?;
    Ok(Some(()))
}

/// The blocks that concern a user. A commit looks at them in its own transaction, so that no session
/// begins once a block is set.
pub(crate) fn blocks(table: &impl ReadableTable<Names, Text>, owner: &UserKey) -> Result<Blocks> {
    let mut blocks = Vec::new();
    for scope in PolicyScope::of(owner) {
        let block = get(table, scope.key(), Block::from_stored)?;
        blocks.extend(block.map(|block| (scope, block)));
    }
    Ok(blocks)
}

/// The first key that was proposed.
pub(crate) fn fleet_key(file: &Write, proposed: &FleetKey) -> Result<Option<FleetKey>> {
    let mut secret = file.open_table(SECRET)?;
    let known = secret.get(())?.map(|key| FleetKey::from_bytes(*key.value()));
    let key = known.unwrap_or_else(|| proposed.clone());
    secret.insert((), key.as_bytes())?;
    Ok(Some(key))
}

/// None where another holder has it. Of those that ran out, the first hundred leave.
pub(crate) fn lease(
    file: &Write,
    (name, holder, ttl): &(String, String, Duration),
) -> Result<Option<()>> {
    let (mut leases, mut endings) = (file.open_table(LEASES)?, file.open_table(ENDINGS)?);
    let (now, until) = (clock().as_micros(), clock().plus(*ttl).as_micros());
    let known = leases.get(&**name)?.map(|lease| (lease.value().0 == holder, lease.value().1));
    if known.is_some_and(|(is_own, until)| !is_own && until > now) {
        return Ok(None);
    }
    endings.remove((known.map_or(until, |(_, until)| until), &**name))?;
    for over in endings.extract_from_if(..(now, ""), |_, ()| true)?.take(100) {
        leases.remove(over?.0.value().1)?;
    }
    leases.insert(&**name, (&**holder, until))?;
    endings.insert((until, &**name), ())?;
    Ok(Some(()))
}

/// The store's clock is that of its host, which all its nodes share.
pub(crate) fn clock() -> Timestamp {
    Timestamp::EPOCH.plus(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default())
}

/// What `doctor` shows. redb counts the rows of a table as they come and go, so this walks none.
pub(crate) fn report(file: &Read) -> Result<StoreReport> {
    let sessions = file.open_table(SESSIONS)?.len()?;
    Ok(StoreReport {
        server: "redb 4".to_owned(),
        clock: clock(),
        log_from: begins_at(&file.open_table(LOG)?)?.map(|(_, at)| at),
        details: vec![("sessions".to_owned(), sessions.to_string())],
        ..StoreReport::default()
    })
}
