//! What an application says of a sign-in.

use session_core::usage::Timeouts;
use session_core::{ClientId, DeviceInfo, DeviceKind, ExtraData, InvalidField, UserId, UserKey};
use session_engine::{Proof, SignIn};

/// What the application says of a sign-in; the rest is read off the request.
///
/// A user's name alone will do, wherever one is taken.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NewSession {
    /// Whose session it will be.
    pub owner: UserKey,
    /// The kind of device; by default what the headers say.
    pub device_kind: Option<DeviceKind>,
    /// Readable text about the device; by default what the headers say.
    pub device_info: Option<DeviceInfo>,
    /// The application that signs the user in.
    pub client_id: Option<ClientId>,
    /// The application's own data. The API shows it to the session's user, and to admins. None keeps the data
    /// of a session that goes on.
    pub data: Option<ExtraData>,
    /// Whether the browser keeps the cookie when it is closed; by default as the options say.
    pub remember: Option<bool>,
    /// How and when the user proved who they are; by default now, with nothing said of how.
    pub proof: Proof,
    /// Timeouts of this session's own; by default those of the options.
    pub timeouts: Option<Timeouts>,
    /// Who acts as the user with this session, where it is not the user. It is shown wherever the
    /// session is, and such a session may not administer.
    pub impersonator: Option<UserKey>,
}

impl NewSession {
    /// A session of this user on the device that the request comes from.
    pub fn of(owner: UserKey) -> Self {
        Self {
            owner,
            device_kind: None,
            device_info: None,
            client_id: None,
            data: None,
            remember: None,
            proof: Proof::default(),
            timeouts: None,
            impersonator: None,
        }
    }

    /// The kind of device.
    #[must_use]
    pub fn with_device_kind(mut self, kind: impl Into<Option<DeviceKind>>) -> Self {
        self.device_kind = kind.into();
        self
    }

    /// Readable text about the device.
    #[must_use]
    pub fn with_device_info(mut self, info: impl Into<Option<DeviceInfo>>) -> Self {
        self.device_info = info.into();
        self
    }

    /// The application that signs the user in.
    #[must_use]
    pub fn with_client_id(mut self, client: impl Into<Option<ClientId>>) -> Self {
        self.client_id = client.into();
        self
    }

    /// The application's own data. The API shows it to the session's user, and to admins. None keeps the data
    /// of a session that goes on.
    #[must_use]
    pub fn with_data(mut self, data: impl Into<Option<ExtraData>>) -> Self {
        self.data = data.into();
        self
    }

    /// Whether the browser keeps the cookie when it is closed, for as long as the options say.
    #[must_use]
    pub fn with_remember(mut self, remember: impl Into<Option<bool>>) -> Self {
        self.remember = remember.into();
        self
    }

    /// How and when the user proved who they are.
    #[must_use]
    pub fn with_proof(mut self, proof: Proof) -> Self {
        self.proof = proof;
        self
    }

    /// Timeouts of this session's own: for a remembered device, or for administrators.
    #[must_use]
    pub fn with_timeouts(mut self, timeouts: impl Into<Option<Timeouts>>) -> Self {
        self.timeouts = timeouts.into();
        self
    }

    /// Who acts as the user with this session, where it is not the user. It belongs to the user: what ends
    /// or blocks who acts leaves it, so give it timeouts of its own.
    #[must_use]
    pub fn with_impersonator(mut self, impersonator: impl Into<Option<UserKey>>) -> Self {
        self.impersonator = impersonator.into();
        self
    }

    /// The engine's request, on this device unless the application knows better.
    pub(crate) fn into_sign_in(self, kind: DeviceKind, info: Option<DeviceInfo>) -> SignIn {
        SignIn::new(self.owner)
            .with_device_kind(self.device_kind.unwrap_or(kind))
            .with_device_info(self.device_info.or(info))
            .with_client_id(self.client_id)
            .with_data(self.data)
            .with_proof(self.proof)
            .with_timeouts(self.timeouts)
            .with_impersonator(self.impersonator)
    }
}

impl From<UserKey> for NewSession {
    fn from(owner: UserKey) -> Self {
        Self::of(owner)
    }
}

impl From<UserId> for NewSession {
    fn from(user: UserId) -> Self {
        Self::of(UserKey::new(user))
    }
}

impl TryFrom<&str> for NewSession {
    type Error = InvalidField;

    /// A session of this user, outside all tenants.
    fn try_from(user: &str) -> Result<Self, InvalidField> {
        UserId::new(user).map(Self::from)
    }
}

impl TryFrom<String> for NewSession {
    type Error = InvalidField;

    fn try_from(user: String) -> Result<Self, InvalidField> {
        user.as_str().try_into()
    }
}

impl TryFrom<&String> for NewSession {
    type Error = InvalidField;

    fn try_from(user: &String) -> Result<Self, InvalidField> {
        user.as_str().try_into()
    }
}
