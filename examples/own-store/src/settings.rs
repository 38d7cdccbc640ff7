//! Policies and leases, and what an operator sees.

use std::time::{Duration, SystemTime};

use redb::{Error, ReadTransaction, ReadableTable, ReadableTableMetadata};
use session_core::policy::{Policy, PolicyLayers, PolicyScope};
use session_core::store::{PolicyChange, StoreReport};
use session_core::{Timestamp, UserKey};

use crate::file::{LOG, POLICIES, SESSIONS, Tables, unreadable};
use crate::log::begins_at;

pub(crate) fn policy(file: &ReadTransaction, scope: &PolicyScope) -> Result<Option<Policy>, Error> {
    let policies = file.open_table(POLICIES)?;
    let Some(text) = policies.get(scope.key())? else { return Ok(None) };
    Policy::from_stored(text.value()).map(Some).map_err(unreadable)
}

pub(crate) fn policy_layers(
    file: &ReadTransaction,
    owner: &UserKey,
) -> Result<PolicyLayers, Error> {
    let mut layers = PolicyLayers::default();
    for scope in PolicyScope::of(owner) {
        layers.set(&scope, policy(file, &scope)?);
    }
    Ok(layers)
}

impl Tables<'_> {
    pub(crate) fn set_policy(&mut self, change: &PolicyChange) -> Result<(), Error> {
        let key = change.scope.key();
        match &change.policy {
            Some(policy) => self.policies.insert(key, policy.to_stored().as_str())?,
            None => self.policies.remove(key)?,
        };
        self.append(&change.event())?;
        Ok(())
    }

    /// None where another holder has it.
    pub(crate) fn lease(
        &mut self,
        name: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<Option<()>, Error> {
        let now = clock();
        let held = self.leases.get(name)?.is_some_and(|lease| {
            let (current, until) = lease.value();
            current != holder && Timestamp::from_micros(until) > now
        });
        if held {
            return Ok(None);
        }
        self.leases.insert(name, (holder, now.plus(ttl).as_micros()))?;
        Ok(Some(()))
    }
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
        log_from: begins_at(&file.open_table(LOG)?)?,
        details: vec![("sessions".to_owned(), sessions.to_string())],
        ..StoreReport::default()
    })
}
