//! Which sessions a call reaches.

use crate::field::{ClientId, DeviceKind, InvalidField, SessionId, TenantId, UserId};
use crate::planted::{self, Defect};
use crate::session::{Session, UserKey};
use crate::store::StoreError;
use crate::store::record::{Fields, read_owner};
use crate::time::Timestamp;

/// Which sessions to end: all that match every given part.
///
/// The fields are exhaustive on purpose. A store asks [`Selection::selects`], or takes the selection
/// apart with a pattern that names them all, so that it does not compile until it knows a new one: a
/// filter that a store overlooks would end more than was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Of these tenants.
    pub tenant: TenantFilter,
    /// Of this user.
    pub user: Option<UserId>,
    /// On this kind of device.
    pub device_kind: Option<DeviceKind>,
    /// Of this client.
    pub client_id: Option<ClientId>,
    /// Of these ids, at most [`Selection::MAX_IDS`]; an id that stands twice counts once.
    pub ids: Option<Vec<SessionId>>,
    /// Only those that signed in before this.
    pub signed_in_before: Option<Timestamp>,
    /// Only those last accessed before this, as the store knows at the moment they are deleted: a
    /// session that was used since it was chosen is spared.
    pub last_accessed_before: Option<Timestamp>,
    /// But not this one.
    pub except: Option<SessionId>,
}

impl Selection {
    /// The most ids in one selection.
    pub const MAX_IDS: usize = 500;

    /// One session, if it is of these tenants.
    pub fn session(id: SessionId, tenant: TenantFilter) -> Self {
        Self { ids: Some(vec![id]), ..Self::within(tenant) }
    }

    /// All sessions of a user.
    pub fn user(owner: UserKey) -> Self {
        Self { user: Some(owner.user), ..Self::within(TenantFilter::Is(owner.tenant)) }
    }

    /// All sessions of these tenants.
    pub const fn within(tenant: TenantFilter) -> Self {
        Self {
            tenant,
            user: None,
            device_kind: None,
            client_id: None,
            ids: None,
            signed_in_before: None,
            last_accessed_before: None,
            except: None,
        }
    }

    /// Only those on this kind of device.
    #[must_use]
    pub fn on(mut self, device_kind: DeviceKind) -> Self {
        self.device_kind = Some(device_kind);
        self
    }

    /// Only those of this client.
    #[must_use]
    pub fn of_client(mut self, client_id: ClientId) -> Self {
        self.client_id = Some(client_id);
        self
    }

    /// Only those of these ids.
    #[must_use]
    pub fn among(mut self, ids: impl Into<Vec<SessionId>>) -> Self {
        self.ids = Some(ids.into());
        self
    }

    /// Only those that signed in before this.
    #[must_use]
    pub const fn signed_in_before(mut self, before: Timestamp) -> Self {
        self.signed_in_before = Some(before);
        self
    }

    /// Only those last accessed before this.
    #[must_use]
    pub const fn last_accessed_before(mut self, before: Timestamp) -> Self {
        self.last_accessed_before = Some(before);
        self
    }

    /// All but this one.
    #[must_use]
    pub const fn except(mut self, id: SessionId) -> Self {
        self.except = Some(id);
        self
    }

    /// The user whose sessions it is about, where it is about one user's.
    pub fn owner(&self) -> Option<UserKey> {
        let TenantFilter::Is(tenant) = self.tenant.clone() else { return None };
        Some(UserKey { tenant, user: self.user.clone()? })
    }

    /// Checks the number of ids.
    ///
    /// # Errors
    /// [`InvalidField`] for more than [`Selection::MAX_IDS`].
    pub fn check(&self) -> Result<(), InvalidField> {
        let actual = self.ids.as_ref().map_or(0, Vec::len);
        InvalidField::check_count("ids", actual, Self::MAX_IDS)
    }

    /// Whether a session is selected.
    pub fn covers(&self, session: &Session) -> bool {
        // Named one by one, here and in the queries: a field that is added cannot be overlooked.
        let Self {
            tenant,
            user,
            device_kind,
            client_id,
            ids,
            signed_in_before,
            last_accessed_before,
            except,
        } = self;
        let any_tenant = planted::is(Defect::TenantIgnored) && user.is_some();
        (any_tenant || tenant.covers(session.owner.tenant.as_ref()))
            && user.as_ref().is_none_or(|user| *user == session.owner.user)
            && device_kind.as_ref().is_none_or(|kind| *kind == session.device_kind)
            && (client_id.as_ref().is_none_or(|id| Some(id) == session.client_id.as_ref())
                || planted::is(Defect::ClientIgnored))
            && ids.as_ref().is_none_or(|ids| ids.contains(&session.id))
            && signed_in_before.is_none_or(|before| session.signed_in < before)
            && last_accessed_before.is_none_or(|before| session.last_accessed < before)
            && *except != Some(session.id)
    }

    /// Whether a stored record is selected. Reads only the fields that the selection goes by, so that
    /// a record that is damaged elsewhere can be ended.
    ///
    /// # Errors
    /// [`Corrupt`](crate::StoreErrorKind::Corrupt) where one of those fields cannot be read.
    pub fn selects(&self, id: SessionId, record: &impl Fields) -> Result<bool, StoreError> {
        let Self {
            tenant,
            user,
            device_kind,
            client_id,
            ids,
            signed_in_before,
            last_accessed_before,
            except,
        } = self;
        let has = |name, wanted: Option<&str>| match wanted {
            Some(_) => Ok::<_, StoreError>(record.text(name)?.as_deref() == wanted),
            None => Ok(true),
        };
        let is_before = |name, line: &Option<Timestamp>| match line {
            Some(line) => Ok(record.integer(name)?.is_some_and(|at| at < line.as_micros())),
            None => Ok::<_, StoreError>(true),
        };
        let owner = read_owner(record)?;
        Ok(tenant.covers(owner.tenant.as_ref())
            && user.as_ref().is_none_or(|user| *user == owner.user)
            && ids.as_ref().is_none_or(|ids| ids.contains(&id))
            && *except != Some(id)
            && has("device_kind", device_kind.as_ref().map(DeviceKind::as_str))?
            && has("client_id", client_id.as_ref().map(|client| client.as_str()))?
            && is_before("signed_in", signed_in_before)?
            && is_before("last_accessed", last_accessed_before)?)
    }
}

/// Which tenants a query or a change may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TenantFilter {
    /// Every tenant; for operators of the whole deployment only.
    Any,
    /// One tenant, or with `None` the users outside all tenants.
    Is(Option<TenantId>),
}

impl TenantFilter {
    /// Whether a tenant is within reach.
    pub fn covers(&self, tenant: Option<&TenantId>) -> bool {
        match self {
            Self::Any => true,
            Self::Is(wanted) => wanted.as_ref() == tenant,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value};

    use super::*;
    use crate::store::record::{json_object, session_fields};
    use crate::token::{FleetKey, Token};

    fn session() -> Session {
        let key = FleetKey::from_bytes([7; 32]);
        let token = Token::new(&key, SessionId::from_random([1; 16]), [2; 12], [3; 16]);
        let owner = UserKey::in_tenant("north".parse().unwrap(), "alice".parse().unwrap());
        Session {
            device_kind: DeviceKind::Mobile,
            client_id: Some("shop".parse().unwrap()),
            last_accessed: Timestamp::from_micros(20),
            ..Session::new(owner, &token, Timestamp::from_micros(10))
        }
    }

    /// Of each filter one that selects the session, and one that does not.
    fn filters() -> Vec<(Selection, bool)> {
        let any = || Selection::within(TenantFilter::Any);
        let within = |tenant: &str| Selection::within(TenantFilter::Is(tenant.parse().ok()));
        let of = |user: &str| Selection { user: Some(user.parse().unwrap()), ..any() };
        let (id, other) = (session().id, SessionId::from_bytes([9; 16]));
        let at = Timestamp::from_micros;
        vec![
            (any(), true),
            (within("north"), true),
            (within("south"), false),
            (within(""), false),
            (of("alice"), true),
            (of("Alice"), false),
            (any().on(DeviceKind::Mobile), true),
            (any().on(DeviceKind::Web), false),
            (any().of_client("shop".parse().unwrap()), true),
            (any().of_client("till".parse().unwrap()), false),
            (any().among([other, id]), true),
            (any().among([other]), false),
            (any().signed_in_before(at(11)), true),
            (any().signed_in_before(at(10)), false),
            (any().last_accessed_before(at(21)), true),
            (any().last_accessed_before(at(20)), false),
            (any().except(other), true),
            (any().except(id), false),
        ]
    }

    #[test]
    fn a_session_and_its_record_are_judged_alike() {
        let session = session();
        let record = json_object(session_fields(&session));
        for (selection, expected) in filters() {
            assert_eq!(selection.covers(&session), expected, "{selection:?}");
            let selected = selection.selects(session.id, &record).unwrap();
            assert_eq!(selected, expected, "{selection:?}");
        }
    }

    #[test]
    fn what_a_selection_does_not_go_by_may_be_damaged() {
        let session = session();
        let mut record = json_object(session_fields(&session));
        for field in ["device_kind", "client_id", "signed_in", "last_accessed", "details"] {
            record.insert(field.to_owned(), Value::Bool(true));
        }
        let selects = |selection: &Selection, record: &Map<_, _>| {
            selection.selects(session.id, record).map_err(|error| error.kind())
        };
        let all = Selection::user(session.owner.clone()).among([session.id]);
        assert_eq!(selects(&all, &record), Ok(true));
        let corrupt = Err(crate::StoreErrorKind::Corrupt);
        assert_eq!(selects(&all.clone().on(DeviceKind::Mobile), &record), corrupt);
        assert_eq!(selects(&all.clone().last_accessed_before(Timestamp::EPOCH), &record), corrupt);
        record.remove("user_id");
        assert_eq!(selects(&all, &record), corrupt);
    }
}
