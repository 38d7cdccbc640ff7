//! Random inputs shared by the properties.

use proptest::collection::vec;
use proptest::prelude::*;
use session_core::admission::Standing;
use session_core::policy::{Limit, OnExceed, Policy, PreventConcurrentLogin, Scope};
use session_core::{ClientId, DeviceKind, SessionId, Timestamp};

pub(crate) fn id(n: u64) -> SessionId {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&n.to_be_bytes());
    SessionId::from_bytes(bytes)
}

pub(crate) fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(i64::try_from(seconds * 1_000_000).unwrap())
}

pub(crate) fn device() -> impl Strategy<Value = DeviceKind> {
    prop::sample::select(vec![
        DeviceKind::Web,
        DeviceKind::Mobile,
        DeviceKind::new("Kiosk").unwrap(),
    ])
}

pub(crate) fn client() -> impl Strategy<Value = Option<ClientId>> {
    prop::sample::select(vec![
        None,
        Some(ClientId::new("shop").unwrap()),
        Some(ClientId::new("mail").unwrap()),
    ])
}

pub(crate) fn standing() -> impl Strategy<Value = Standing> {
    // Few distinct times, so that ties are common.
    (device(), client(), 0..20_u64, 0..20_u64).prop_map(|(device_kind, client_id, begun, used)| {
        Standing {
            id: id(0),
            device_kind,
            client_id,
            signed_in: at(begun),
            last_accessed: at(begun + used),
            deadline: Timestamp::MAX,
            claimed: true,
        }
    })
}

pub(crate) fn standings() -> impl Strategy<Value = Vec<Standing>> {
    vec(standing(), 0..24).prop_map(|mut sessions| {
        (1..).zip(&mut sessions).for_each(|(n, session)| session.id = id(n));
        sessions
    })
}

pub(crate) fn limit(rules: Vec<OnExceed>) -> impl Strategy<Value = Limit> {
    let scopes = vec![Scope::Client, Scope::DeviceKind, Scope::User];
    (1..5_u32, prop::sample::select(scopes), prop::sample::select(rules))
        .prop_map(|(max, scope, on_exceed)| Limit { max, scope, on_exceed })
}

pub(crate) fn evicting_policy() -> impl Strategy<Value = Policy> {
    policy_of(vec![OnExceed::EvictOldest, OnExceed::EvictLeastRecentlyUsed])
}

pub(crate) fn policy() -> impl Strategy<Value = Policy> {
    policy_of(vec![OnExceed::EvictOldest, OnExceed::EvictLeastRecentlyUsed, OnExceed::Reject])
}

fn policy_of(rules: Vec<OnExceed>) -> impl Strategy<Value = Policy> {
    let named = prop::sample::select(vec![
        PreventConcurrentLogin::Disabled,
        PreventConcurrentLogin::LogoutFromSameTypeDevices,
        PreventConcurrentLogin::LogoutFromAllDevices,
    ]);
    (named, vec(limit(rules), 0..4)).prop_map(|(prevent_concurrent_login, limits)| Policy {
        prevent_concurrent_login,
        limits,
        newer: false,
    })
}
