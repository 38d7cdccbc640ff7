//! Which sessions a call reaches.

use crate::field::{ClientId, DeviceKind, InvalidField, SessionId, TenantId, UserId};
use crate::planted::{self, Defect};
use crate::session::{Session, UserKey};
use crate::time::Timestamp;

/// Which sessions to end: all that match every given part.
///
/// The fields are exhaustive on purpose. A store takes the selection apart with a pattern that
/// names them all, so that it does not compile until it knows a new one: a filter that a store
/// overlooks would end more than was asked.
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
        let same = |wanted: &Option<_>, has| wanted.as_ref().is_none_or(|wanted| wanted == has);
        let any_tenant = planted::is(Defect::TenantIgnored) && self.user.is_some();
        (any_tenant || self.tenant.covers(session.owner.tenant.as_ref()))
            && self.user.as_ref().is_none_or(|user| *user == session.owner.user)
            && same(&self.device_kind, &session.device_kind)
            && self.client_id.as_ref().is_none_or(|id| Some(id) == session.client_id.as_ref())
            && self.ids.as_ref().is_none_or(|ids| ids.contains(&session.id))
            && self.signed_in_before.is_none_or(|before| session.signed_in < before)
            && self.last_accessed_before.is_none_or(|before| session.last_accessed < before)
            && self.except != Some(session.id)
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
