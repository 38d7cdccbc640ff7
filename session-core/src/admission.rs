//! What a sign-in does to the user's other sessions.

use std::time::Duration;

use crate::event::EndCause;
use crate::field::{ClientId, DeviceKind, SessionId};
use crate::planted::{self, Defect};
use crate::policy::{Limit, OnExceed, Policy, Scope};
use crate::session::Session;
use crate::time::Timestamp;

/// What a policy needs to know of a session that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its id.
    pub id: SessionId,
    /// Its kind of device.
    pub device_kind: DeviceKind,
    /// Its client.
    pub client_id: Option<ClientId>,
    /// When it began.
    pub signed_in: Timestamp,
    /// When it was last used, as far as the store knows.
    pub last_accessed: Timestamp,
    /// When it ends if it is not used again.
    pub deadline: Timestamp,
    /// Whether its token has been presented.
    pub claimed: bool,
}

impl From<&Session> for Standing {
    fn from(session: &Session) -> Self {
        Self {
            id: session.id,
            device_kind: session.device_kind.clone(),
            client_id: session.client_id.clone(),
            signed_in: session.signed_in,
            last_accessed: session.last_accessed,
            deadline: session.deadline,
            claimed: session.claimed,
        }
    }
}

/// What a policy needs to know of the session that is about to begin.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer<'a> {
    /// Its kind of device.
    pub device_kind: &'a DeviceKind,
    /// Its client.
    pub client_id: Option<&'a ClientId>,
    /// The session that the same browser held until now; it ends or goes on, and takes up no place.
    pub replaces: Option<SessionId>,
    /// The session that the user has chosen to end for this one; it takes up no place.
    pub ends: Option<SessionId>,
}

/// What holds under every policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// A session whose token was not presented within this time leaves first.
    pub claim_within: Duration,
    /// How long a use may be on its way to the store
    /// ([`WriteBack::max_lag`](crate::usage::WriteBack::max_lag)): a session ends as expired no
    /// earlier than this after its deadline.
    pub max_lag: Duration,
    /// The most sessions of one user; the least recently used leaves. None for any number.
    pub max_sessions: Option<u32>,
}

/// The answer to a sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The session may begin once these have ended, in the same atomic step.
    Admit {
        /// Who leaves and why, ordered by id.
        end: Vec<(SessionId, EndCause)>,
    },
    /// The sign-in is refused and nothing changes.
    Reject {
        /// The limit that is reached.
        limit: Limit,
        /// The sessions that it counts, the newest first, at most [`Admission::MAX_COUNTED`].
        by: Vec<SessionId>,
    },
}

impl Admission {
    /// The most sessions that a refusal names.
    pub const MAX_COUNTED: usize = 64;

    /// Ids of the sessions that end, ordered.
    pub fn ended_ids(&self) -> Vec<SessionId> {
        match self {
            Self::Admit { end } => end.iter().map(|(id, _)| *id).collect(),
            Self::Reject { .. } => Vec::new(),
        }
    }
}

/// Decides a sign-in from the user's sessions.
///
/// Sessions past their deadline take up no place. They end in the same step once no use of them can be
/// on its way ([`Bounds::max_lag`]). Until then they are the first to leave where a limit is reached,
/// also where it rejects newcomers, and never the cause of a refusal. The same holds for a session that
/// was not claimed in time ([`Bounds::claim_within`]). A newcomer that takes the place of a live session is not
/// refused by a limit that counts both, also where a lowered limit is exceeded already. The narrowest limit decides first, and whom it ends
/// counts for the wider ones. No session leaves that need not: where limits of crossing scopes chose
/// more than they had to, the newest choices are taken back. The order of `sessions` does not matter;
/// equal times are told apart by id, the smaller leaving first.
pub fn decide(
    policy: &Policy,
    newcomer: &Newcomer<'_>,
    sessions: &[Standing],
    bounds: &Bounds,
    now: Timestamp,
) -> Admission {
    let leaving_anyway = |session: &Standing| {
        if newcomer.replaces == Some(session.id) && !planted::is(Defect::SameDeviceAdds) {
            Some(EndCause::Replaced)
        } else if newcomer.ends == Some(session.id) {
            Some(EndCause::Revoked)
        } else {
            (session.deadline.plus(bounds.max_lag) <= now).then_some(EndCause::Expired)
        }
    };
    let (gone, staying): (Vec<_>, Vec<_>) =
        sessions.iter().partition(|session| leaving_anyway(session).is_some());
    let mut limits = policy.effective_limits();
    let ceiling =
        |max| Limit { max, scope: Scope::User, on_exceed: OnExceed::EvictLeastRecentlyUsed };
    limits.extend(bounds.max_sessions.map(ceiling));
    let expired = |session: &Standing| session.deadline <= now;
    let abandoned = |session: &Standing| {
        !session.claimed
            && session.signed_in.plus(bounds.claim_within) <= now
            && !planted::is(Defect::UnclaimedBlocks)
    };
    let yields = |session: &Standing| expired(session) || abandoned(session);
    // The newcomer takes the place of these: the number does not rise.
    let vacated = |s: &Standing| {
        !expired(s) && (newcomer.replaces == Some(s.id) || newcomer.ends == Some(s.id))
    };
    let vacated: Vec<_> = gone.iter().copied().filter(|session| vacated(session)).collect();
    let evicted = match evict(&limits, newcomer, staying, &vacated, yields) {
        Ok(evicted) => evicted,
        Err(limit) => {
            let counts = |s: &&Standing| leaving_anyway(s).is_none() && !yields(s);
            return reject(limit, newcomer, sessions.iter().filter(counts));
        }
    };
    let anyway = gone.into_iter().filter_map(|s| leaving_anyway(s).map(|cause| (s.id, cause)));
    let cause = |s: &Standing| if expired(s) { EndCause::Expired } else { EndCause::Evicted };
    let evicted = evicted.into_iter().map(|s| (s.id, cause(s)));
    let mut end: Vec<_> = anyway.chain(evicted).collect();
    end.sort_by_key(|(id, _)| *id);
    Admission::Admit { end }
}

fn reject<'s>(
    limit: Limit,
    newcomer: &Newcomer<'_>,
    sessions: impl Iterator<Item = &'s Standing>,
) -> Admission {
    let mut counted: Vec<_> = sessions.filter(|s| in_scope(&limit, newcomer, s)).collect();
    counted.sort_by_key(|session| std::cmp::Reverse((session.signed_in, session.id)));
    let by = counted.iter().take(Admission::MAX_COUNTED).map(|session| session.id).collect();
    Admission::Reject { limit, by }
}

/// Applies the limits in order; the error is the limit that refuses the newcomer. A session that yields
/// leaves before any other.
fn evict<'s>(
    limits: &[Limit],
    newcomer: &Newcomer<'_>,
    mut staying: Vec<&'s Standing>,
    vacated: &[&Standing],
    yields: impl Fn(&Standing) -> bool,
) -> Result<Vec<&'s Standing>, Limit> {
    let mut evicted = Vec::new();
    for limit in limits {
        let surplus = surplus(limit, newcomer, &staying);
        if surplus == 0 {
            continue;
        }
        let may_leave = |session: &Standing| {
            in_scope(limit, newcomer, session)
                && (limit.on_exceed != OnExceed::Reject || yields(session))
        };
        let last = |session: &Standing| !yields(session) && !planted::is(Defect::UnclaimedStays);
        staying.sort_by_key(|session| (last(session), leaves_first(limit.on_exceed, session)));
        let (leave, stay) = split_first(staying, surplus, may_leave);
        let raises = !vacated.iter().any(|session| in_scope(limit, newcomer, session));
        if leave.len() < surplus && raises {
            return Err(*limit);
        }
        evicted.extend(leave);
        staying = stay;
    }
    Ok(take_back(limits, newcomer, &staying, evicted))
}

/// How many of the staying sessions must leave so that the newcomer fits.
fn surplus(limit: &Limit, newcomer: &Newcomer<'_>, staying: &[&Standing]) -> usize {
    let counted = staying.iter().filter(|session| in_scope(limit, newcomer, session)).count();
    let places = limit.max as usize + usize::from(planted::is(Defect::OffByOne));
    (counted + 1).saturating_sub(places)
}

/// Lets those stay after all who fit under every limit, newest choice first.
fn take_back<'s>(
    limits: &[Limit],
    newcomer: &Newcomer<'_>,
    staying: &[&Standing],
    mut evicted: Vec<&'s Standing>,
) -> Vec<&'s Standing> {
    let room = |limit: &Limit| {
        let counted = staying.iter().filter(|s| in_scope(limit, newcomer, s)).count();
        (limit.max as usize).saturating_sub(counted + 1)
    };
    let mut places: Vec<_> = limits.iter().map(|limit| (limit, room(limit))).collect();
    evicted.reverse();
    evicted.retain(|session| {
        let mut counting: Vec<_> =
            places.iter_mut().filter(|(limit, _)| in_scope(limit, newcomer, session)).collect();
        let fits = counting.iter().all(|(_, room)| *room > 0);
        if fits {
            counting.iter_mut().for_each(|(_, room)| *room -= 1);
        }
        !fits
    });
    evicted
}

fn in_scope(limit: &Limit, newcomer: &Newcomer<'_>, session: &Standing) -> bool {
    match limit.scope {
        _ if planted::is(Defect::RejectsAcrossScopes) && limit.on_exceed == OnExceed::Reject => {
            true
        }
        Scope::User => true,
        Scope::DeviceKind => {
            session.device_kind == *newcomer.device_kind || planted::is(Defect::KindIgnored)
        }
        Scope::Client => session.client_id.as_ref() == newcomer.client_id,
    }
}

fn leaves_first(rule: OnExceed, session: &Standing) -> (Timestamp, SessionId) {
    let at = match rule {
        OnExceed::EvictLeastRecentlyUsed => session.last_accessed,
        OnExceed::EvictOldest | OnExceed::Reject => session.signed_in,
    };
    let reversed =
        planted::is(Defect::RecentlyUsedEvicted) && rule == OnExceed::EvictLeastRecentlyUsed;
    if reversed || planted::is(Defect::NewestEvicted) {
        return (Timestamp::from_micros(at.as_micros().saturating_neg()), session.id);
    }
    (at, session.id)
}

/// Takes the first `count` that match; the second list is everybody else.
fn split_first(
    sessions: Vec<&Standing>,
    count: usize,
    matches: impl Fn(&Standing) -> bool,
) -> (Vec<&Standing>, Vec<&Standing>) {
    let mut left = count;
    sessions.into_iter().partition(|session| {
        let take = left > 0 && matches(session);
        left -= usize::from(take);
        take
    })
}
