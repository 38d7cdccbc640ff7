//! What a plan draws one by one: settings, clients, acts, faults.

use std::time::Duration;

use fastrand::Rng;
use session_core::cleanup::Cleanup;
use session_core::policy::{Limit, OnExceed, Policy, PreventConcurrentLogin, Scope};
use session_core::usage::{Timeouts, WriteBack};
use session_core::{ClientId, DeviceKind, TenantId, UserId, UserKey};
use session_engine::{History, Options, WhenStale};

use super::{Act, Chosen, Client, Fault, IN_PLAYS, Manner, Place, Way, Weather};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn options(rng: &mut Rng) -> Options {
    let idle = (rng.u32(..4) > 0).then(|| secs(rng.u64(16..90)));
    let absolute = (rng.u32(..3) == 0).then(|| secs(rng.u64(40..150)));
    let max_staleness = secs(rng.u64(3..15));
    let when_stale = match rng.u32(..4) {
        0 => WhenStale::ServeStale(max_staleness + secs(rng.u64(1..20))),
        _ => WhenStale::FailClosed,
    };
    let propagation_bound = Duration::from_millis([500, 1_000, 1_000, 2_000][rng.usize(..4)]);
    let cleanup = Cleanup::default()
        .with_enabled(rng.u32(..8) > 0)
        .with_period(secs(rng.u64(8..40)))
        .with_inactive_for(secs(rng.u64(40..120)))
        .with_batch(rng.u32(1..6))
        .with_log_retention(max_staleness + secs(rng.u64(1..40)));
    let write_back =
        WriteBack::default().with_every_hits(rng.u32(2..12)).with_max_delay(secs(rng.u64(2..20)));
    let keep = if rng.u32(..6) == 0 { Duration::ZERO } else { secs(rng.u64(30..400)) };
    Options::default()
        .with_timeouts(Timeouts::none().with_idle(idle).with_absolute(absolute))
        .with_write_back(write_back)
        .with_cleanup(cleanup)
        .with_history(History::default().with_keep(keep))
        .with_claim_within(secs(rng.u64(4..40)))
        .with_rotation_grace(secs(rng.u64(2..10)))
        .with_max_staleness(max_staleness)
        .with_when_stale(when_stale)
        .with_propagation_bound(propagation_bound)
        .with_store_timeout(secs(rng.u64(1..4)))
        .with_renew_after((rng.u32(..2) == 0).then(|| secs(rng.u64(4..20))))
        .with_push(rng.u32(..4) > 0)
        .with_cache_capacity(if rng.bool() { rng.usize(2..6) } else { 1_000 })
        .with_unknown_for(secs(rng.u64(0..6)))
        .with_max_sessions_per_user((rng.u32(..8) == 0).then(|| rng.u32(2..6)))
        .with_default_policy(policy(rng))
}

fn policy(rng: &mut Rng) -> Policy {
    let limit = |rng: &mut Rng| {
        let scope = [Scope::User, Scope::DeviceKind, Scope::Client][rng.usize(..3)];
        let on_exceed = [OnExceed::EvictOldest, OnExceed::EvictLeastRecentlyUsed, OnExceed::Reject];
        Limit { max: rng.u32(1..4), scope, on_exceed: on_exceed[rng.usize(..3)] }
    };
    match rng.u32(..8) {
        0 => PreventConcurrentLogin::LogoutFromAllDevices.into(),
        1 => PreventConcurrentLogin::LogoutFromSameTypeDevices.into(),
        2..=5 => Policy::limit(limit(rng)),
        6 => Policy { limits: vec![limit(rng), limit(rng)], ..Policy::default() },
        _ => Policy::default(),
    }
}

pub(super) fn clients(rng: &mut Rng) -> Vec<Client> {
    // The same name in two tenants, and outside of both, is three users.
    let users =
        [("alice", Some("north")), ("alice", Some("south")), ("alice", None), ("bob", None)];
    let users: Vec<_> = users
        .iter()
        .filter_map(|(user, tenant)| {
            let user = UserId::new(user).ok()?;
            let tenant = tenant.and_then(|tenant| TenantId::new(tenant).ok());
            Some(UserKey { tenant, user })
        })
        .collect();
    let count = rng.usize(4..10);
    let kinds = [DeviceKind::Web, DeviceKind::Web, DeviceKind::Mobile, DeviceKind::Desktop];
    let client = |rng: &mut Rng| Client {
        // Two users have most of the devices.
        user: users[if rng.bool() { rng.usize(..2) } else { rng.usize(..users.len()) }].clone(),
        kind: kinds[rng.usize(..kinds.len())].clone(),
        bearer: rng.u32(..3) == 0,
        app: [None, None, Some("shop"), Some("forum")][rng.usize(..4)]
            .and_then(|app| ClientId::new(app).ok()),
    };
    let mut clients: Vec<_> = (0..count).map(|_| client(rng)).collect();
    for _ in 0..IN_PLAYS {
        let user = UserId::new("carol").expect("a name");
        clients.push(Client { user: UserKey { tenant: None, user }, ..client(rng) });
    }
    clients
}

fn manner(rng: &mut Rng) -> Manner {
    let leaves = (rng.u32(..8) == 0).then(|| rng.u64(0..40));
    let works = if rng.u32(..8) == 0 { rng.u64(500..15_000) } else { 0 };
    Manner { lost: rng.u32(..6) == 0, leaves, works }
}

fn place(rng: &mut Rng) -> Place {
    [Place::Deployment, Place::Tenant, Place::User, Place::User][rng.usize(..4)]
}

pub(super) fn act(rng: &mut Rng, way: Way) -> Act {
    match rng.u32(..103) {
        0..=15 => Act::SignIn(way, manner(rng)),
        16..=21 => Act::Ticket(way, manner(rng)),
        22..=49 => Act::Check(way, if rng.u32(..4) == 0 { rng.u32(2..14) } else { 1 }),
        50..=55 => Act::Navigate(way, manner(rng)),
        56..=57 => Act::Passive(way),
        58..=65 => Act::Rotate(way, manner(rng)),
        66..=69 => Act::StepUp(way, manner(rng)),
        70..=71 => Act::SignOut(way),
        72..=75 => Act::Data(way),
        76..=77 => Act::Watch(way),
        78..=79 => Act::Steal(way.client),
        80..=83 => Act::Thief(way),
        84..=86 => Act::Revoke(way),
        87 => Act::RevokeOthers(way),
        88..=89 => Act::RevokeChosen(way, chosen(rng)),
        90..=92 => Act::Claims(way),
        93 => Act::Block(way, place(rng), (rng.u32(..6) > 0).then(|| rng.u64(2_000..15_000))),
        94..=95 => Act::Unblock(way, place(rng)),
        96..=97 => {
            let policy = (rng.u32(..3) > 0).then(|| policy(rng));
            Act::SetPolicy(way, place(rng), policy)
        }
        98..=99 => Act::List(way),
        100..=101 => Act::History(way),
        _ => Act::Erase(way),
    }
}

fn chosen(rng: &mut Rng) -> Chosen {
    match rng.u32(..18) {
        0..=3 => Chosen::User,
        4..=6 => Chosen::Kind,
        7..=8 => Chosen::App,
        9 => Chosen::Tenant,
        10 => Chosen::Deployment,
        11..=13 => Chosen::Ids,
        14..=15 => Chosen::Older(rng.u64(1_000..40_000)),
        _ => Chosen::Unused(rng.u64(1_000..20_000)),
    }
}

pub(super) fn fault(rng: &mut Rng, nodes: usize) -> Fault {
    let node = rng.usize(..nodes);
    match rng.u32(..24) {
        0..=2 => Fault::Weather(node, Weather::Slow, rng.u64(2_000..20_000)),
        3..=7 => Fault::Weather(node, Weather::Stormy, rng.u64(2_000..25_000)),
        8..=9 => Fault::Weather(node, Weather::Silent, rng.u64(500..25_000)),
        10 => Fault::StoreAway(rng.u64(500..20_000)),
        11 => Fault::PushesLost(node, rng.u64(5_000..60_000)),
        12 => Fault::PushesLate(node, rng.u64(5_000..60_000)),
        13 => Fault::Crash(node, rng.u64(10..8_000)),
        14 => Fault::Restart(node, rng.u64(10..4_000)),
        15..=16 => Fault::Stopped(node, rng.u64(500..30_000)),
        17 => Fault::Asleep(node, rng.u64(500..40_000)),
        18..=19 => {
            let far = [-400 * 86_400, -3_600, -7, 7, 1_000, 31 * 86_400];
            Fault::Skew(node, far[rng.usize(..far.len())])
        }
        20 => Fault::Still(node),
        21 => Fault::Older(node),
        _ => Fault::Newer(node),
    }
}
