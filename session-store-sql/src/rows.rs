//! Rows as records of the core.

use std::borrow::Cow;

#[cfg(any(feature = "mysql", feature = "sqlite"))]
use session_core::admission::Standing;
use session_core::store::record::{self, Fields};
use session_core::store::{Ended, EndedSession};
use session_core::{Event, Session, StoreError, TenantId};

use crate::columns::Columns;

/// The columns of a session.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) const SESSION: &str = "id, tenant, user_id, device_kind, client_id, ip_addresses, \
    signed_in, last_accessed, deadline, claimed, details";
/// The columns of an ended session: those of the session, and how it ended.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) const ENDED_SESSION: &str = "id, tenant, user_id, device_kind, client_id, ip_addresses, \
    signed_in, last_accessed, deadline, claimed, details, ended, cause, actor, ended_from";

/// A tenant as its columns have it: empty for none.
pub(crate) fn tenant_text(tenant: Option<&TenantId>) -> &str {
    tenant.map_or("", TenantId::as_str)
}

pub(crate) fn session(row: &impl Columns) -> Result<Session, StoreError> {
    record::read_session(&Record(row))
}

#[cfg(any(feature = "mysql", feature = "sqlite"))]
pub(crate) fn standing(row: &impl Columns) -> Result<Standing, StoreError> {
    record::read_standing(&Record(row))
}

pub(crate) fn ended(row: &impl Columns) -> Result<Ended, StoreError> {
    record::read_ended(&Record(row))
}

pub(crate) fn ended_session(row: &impl Columns) -> Result<EndedSession, StoreError> {
    record::read_ended_session(&Record(row))
}

pub(crate) fn event(row: &impl Columns) -> Result<Event, StoreError> {
    record::read_event(&Record(row))
}

struct Record<'r, R>(&'r R);

impl<R: Columns> Fields for Record<'_, R> {
    fn integer(&self, name: &'static str) -> Result<Option<i64>, StoreError> {
        self.0.optional_integer(name)
    }

    fn text(&self, name: &'static str) -> Result<Option<Cow<'_, str>>, StoreError> {
        Ok(self.0.optional_text(name)?.map(Cow::Borrowed))
    }

    fn bytes(&self, name: &'static str) -> Result<Option<Cow<'_, [u8]>>, StoreError> {
        Ok(self.0.optional_bytes(name)?.map(Cow::Borrowed))
    }
}
