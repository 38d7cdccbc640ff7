//! What the API shows and takes.

use std::net::IpAddr;

use serde::Serialize;
use session_core::policy::{Limit, OnExceed, Policy, PolicyScope, PreventConcurrentLogin, Scope};
use session_core::store::Page;
use session_core::{AssuranceLevel, Authentication, Session, SessionId, UserKey};
use session_engine::EffectivePolicy;
use utoipa::ToSchema;

use super::fields::Fields;
use super::query::field;
use crate::problem::Problem;

/// A session. Nothing of its token is ever shown.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionView {
    /// Public id.
    #[schema(value_type = String, format = "uuid")]
    id: SessionId,
    /// Tenant of the user, if there are tenants.
    tenant: Option<String>,
    /// Whose session it is.
    user: String,
    /// What a policy counts as "same type": `Web`, `Mobile`, `Desktop`, `Tv`, `Console` or a custom word.
    device_kind: String,
    /// Readable text about the device.
    device_info: Option<String>,
    /// The name that its user gave the device.
    device_name: Option<String>,
    /// The application that signed the user in.
    client_id: Option<String>,
    /// Addresses it was used from, newest last.
    #[schema(value_type = Vec<String>)]
    ip_addresses: Vec<IpAddr>,
    /// When it began.
    #[schema(format = "date-time")]
    signed_in: String,
    /// When a request last used it.
    #[schema(format = "date-time")]
    last_accessed: String,
    /// When the user last proved who they are.
    #[schema(format = "date-time")]
    authenticated_at: String,
    /// How sure that proof was, where the application says so: `aal1`, `aal2` or `aal3`.
    #[schema(value_type = Option<String>)]
    level: Option<AssuranceLevel>,
    /// By which means, as words of RFC 8176.
    methods: Vec<String>,
    /// Who acts as the user with this session, where it is not the user.
    impersonator: Option<String>,
    /// Their tenant; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    impersonator_tenant: Option<String>,
    /// Whether its token has been used: until then it is not known that anybody holds it.
    claimed: bool,
    /// From when on it is refused whatever its use.
    #[schema(format = "date-time")]
    absolute_expiry: Option<String>,
    /// The application's own data; shown to the session's user and to admins.
    #[schema(value_type = Option<Object>)]
    data: Option<serde_json::Value>,
    /// Whether it is the session of this very request.
    current: bool,
}

impl SessionView {
    pub(super) fn of(session: Session, current: Option<SessionId>) -> Self {
        let current = current == Some(session.id);
        Self { current, ..Self::listed(session) }
    }

    /// A view for a client without a session.
    pub(crate) fn listed(session: Session) -> Self {
        let Authentication { at, level, methods, unknown: _ } = session.authentication;
        let (impersonator, impersonator_tenant) = impersonator(session.impersonator.as_ref());
        Self {
            id: session.id,
            tenant: session.owner.tenant.map(|tenant| tenant.to_string()),
            user: session.owner.user.to_string(),
            device_kind: session.device_kind.to_string(),
            device_info: session.device_info.map(|info| info.to_string()),
            device_name: session.device_name.map(|name| name.to_string()),
            client_id: session.client_id.map(|client| client.to_string()),
            ip_addresses: session.ip_addresses,
            signed_in: session.signed_in.to_string(),
            last_accessed: session.last_accessed.to_string(),
            authenticated_at: at.to_string(),
            level,
            methods: methods.iter().map(ToString::to_string).collect(),
            impersonator,
            impersonator_tenant,
            claimed: session.claimed,
            absolute_expiry: session.absolute_expiry.map(|expiry| expiry.to_string()),
            data: session.data.map(|data| data.to_value()),
            current: false,
        }
    }
}

/// Who acts as the user, and in which tenant.
pub(super) fn impersonator(key: Option<&UserKey>) -> (Option<String>, Option<String>) {
    let tenant = key.and_then(|key| key.tenant.as_ref());
    (key.map(|key| key.user.to_string()), tenant.map(ToString::to_string))
}

/// A page of sessions, newest sign-in first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PageView {
    /// The sessions. A page may hold fewer than asked for, also where it is not the last.
    sessions: Vec<SessionView>,
    /// Hand it back as `cursor` for the next page; null on the last one.
    next_cursor: Option<String>,
}

impl PageView {
    pub(super) fn of(page: Page, current: Option<SessionId>) -> Self {
        let view = |session| SessionView::of(session, current);
        Self {
            sessions: page.sessions.into_iter().map(view).collect(),
            next_cursor: page.next.map(|cursor| cursor.to_string()),
        }
    }
}

/// The caller and a page of the caller's sessions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MeView {
    /// Who is signed in.
    pub(super) user: String,
    /// In which tenant.
    pub(super) tenant: Option<String>,
    /// The session of this request.
    #[schema(value_type = String, format = "uuid")]
    pub(super) session_id: SessionId,
    /// Who acts as this user; null where the user does.
    pub(super) impersonator: Option<String>,
    /// Their tenant; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) impersonator_tenant: Option<String>,
    /// How many live sessions the caller has.
    pub(super) total: u64,
    /// The sessions: on the first page that of this request, then the others, newest sign-in first.
    #[serde(flatten)]
    pub(super) page: PageView,
}

/// The name of a device.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the API's description")]
pub(super) struct RenamedView {
    /// The name, or null for none. At most 128 bytes.
    #[schema(required = true)]
    device_name: Option<String>,
}

/// How many sessions a call ended.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Revoked {
    /// Their number.
    pub(super) revoked: u64,
}

/// A policy, as it is set or as it holds.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyView {
    /// `Disabled`, `LogoutFromSameTypeDevices` or `LogoutFromAllDevices`.
    #[schema(value_type = PreventConcurrentLoginView)]
    prevent_concurrent_login: PreventConcurrentLogin,
    /// Further limits, at most 16.
    #[serde(default)]
    #[schema(value_type = Vec<LimitView>)]
    limits: Vec<Limit>,
    /// Whether nothing is set here and the wider policy holds. Ignored in a request.
    #[serde(default)]
    inherited: bool,
    /// Where an inherited policy is set; absent where it is set here. Ignored in a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inherited_from: Option<InheritedFrom>,
    /// True where a newer version set it, and this is the strictest reading of what it means; absent
    /// otherwise. Ignored in a request.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    newer: bool,
}

impl PolicyView {
    /// The policy that holds at a place.
    pub(super) fn of(effective: EffectivePolicy, at: &PolicyScope) -> Self {
        let EffectivePolicy {
            policy: Policy { prevent_concurrent_login, limits, newer },
            set_at,
            ..
        } = effective;
        let inherited_from = match set_at {
            Some(scope) if scope == *at => None,
            Some(PolicyScope::Tenant(_)) => Some(InheritedFrom::Tenant),
            Some(PolicyScope::Deployment) => Some(InheritedFrom::Deployment),
            // A user's own is inherited by nobody.
            Some(PolicyScope::User(_)) => None,
            None => Some(InheritedFrom::Default),
        };
        let inherited = inherited_from.is_some();
        Self { prevent_concurrent_login, limits, inherited, inherited_from, newer }
    }

    /// A policy that is set at the place in question.
    pub(super) fn set(policy: Policy) -> Self {
        let Policy { prevent_concurrent_login, limits, newer } = policy;
        Self { prevent_concurrent_login, limits, inherited: false, inherited_from: None, newer }
    }

    /// The policy that a body asks for.
    pub(super) fn read(body: &[u8]) -> Result<Policy, Problem> {
        let known = ["prevent_concurrent_login", "limits", "inherited", "inherited_from", "newer"];
        let fields = Fields::parse(body, &known)?;
        let named = fields.value("prevent_concurrent_login")?;
        let prevent_concurrent_login =
            named.ok_or_else(|| field("prevent_concurrent_login", "has to be given"))?;
        let limits = fields.objects("limits")?;
        Ok(Policy { prevent_concurrent_login, limits, newer: false })
    }
}

/// Where an inherited policy is set.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum InheritedFrom {
    /// For the user's tenant.
    Tenant,
    /// For everybody.
    Deployment,
    /// Nowhere: the default of the application's options holds.
    Default,
}

/// The three named options.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the core's type in the API's description")]
pub(super) enum PreventConcurrentLoginView {
    Disabled,
    LogoutFromSameTypeDevices,
    LogoutFromAllDevices,
}

/// At most `max` live sessions in a scope.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the core's type in the API's description")]
pub(super) struct LimitView {
    /// The most live sessions.
    #[schema(minimum = 1, maximum = 1000000)]
    max: u32,
    /// Which of the user's sessions are counted together.
    #[schema(value_type = ScopeView)]
    scope: Scope,
    /// What a sign-in beyond `max` does.
    #[schema(value_type = OnExceedView)]
    on_exceed: OnExceed,
}

/// Which of the user's sessions are counted together.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes the core's type in the API's description")]
pub(super) enum ScopeView {
    User,
    DeviceKind,
    Client,
}

/// What a sign-in beyond a limit does.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes the core's type in the API's description")]
pub(super) enum OnExceedView {
    EvictOldest,
    EvictLeastRecentlyUsed,
    Reject,
}
