//! What the store has, beside what was acknowledged.

use std::collections::HashMap;
use std::sync::Arc;

use hyper::StatusCode;
use serde_json::Value;
use session_benches::Failure;

use crate::fleet::Fleet;
use crate::people::{People, Session};
use crate::totals;

/// The ids of sessions, and the counts in their data.
type List = HashMap<String, u64>;

/// In what the store differs from what was acknowledged.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) live: usize,
    pub(crate) revoked: usize,
    pub(crate) history: usize,
    /// Live sessions whose data do not have every change.
    pub(crate) changes: usize,
}

/// Complains of every difference. One node is killed and started again, and asked for all: the others remember
/// what has ended, also where the store has lost it.
pub(crate) async fn run(fleet: &Fleet) -> Result<Lost, Failure> {
    fleet.nodes[FRESH].kill().await?;
    fleet.nodes[FRESH].restart().await?;
    let there = listed(fleet, "/sessions/admin/sessions?limit=200").await?;
    let ended = listed(fleet, "/sessions/admin/history?limit=200").await?;
    let lost = Lost::of(&fleet.people, &there, &ended);
    lost.complain(fleet);
    let client = &mut fleet.clients()[FRESH];
    for session in fleet.people.all_ended() {
        let seen = fleet.visit(FRESH, client, &session).await;
        if seen != Some(StatusCode::UNAUTHORIZED) {
            fleet.books.complain(format!("a new process does not refuse {}: {seen:?}", session.id));
        }
    }
    Ok(lost)
}

/// Complains of panics, and of workers that were started again after one.
pub(crate) async fn processes(fleet: &Fleet) -> Result<(), Failure> {
    for (node, metrics) in fleet.metrics().await?.iter().enumerate() {
        let (panics, restarts) = (fleet.nodes[node].panics()?, totals::worker_restarts(metrics));
        if panics > 0 || restarts > 0 {
            fleet.books.complain(format!(
                "node {node} has panicked {panics} times and started workers again {restarts} times"
            ));
        }
    }
    Ok(())
}

impl Lost {
    /// By the lists of what is live, with the counts in the sessions' data, and of what has ended.
    fn of(people: &People, there: &List, ended: &List) -> Self {
        let is_in = |list: &List, session: &Session| list.contains_key(&session.id);
        let is_wrong = |session: &&Arc<Session>| {
            there.get(&session.id).is_some_and(|count| !session.may_count(*count))
        };
        let (live, revoked) = (people.all_live(), people.all_ended());
        Self {
            live: live.iter().filter(|session| !is_in(there, session)).count(),
            revoked: revoked.iter().filter(|session| is_in(there, session)).count(),
            history: revoked.iter().filter(|session| !is_in(ended, session)).count(),
            changes: live.iter().filter(is_wrong).count(),
        }
    }

    fn complain(&self, fleet: &Fleet) {
        for (count, what) in [
            (self.live, "live sessions are lost"),
            (self.revoked, "revoked sessions are there"),
            (self.history, "revocations are not in the history"),
            (self.changes, "sessions have lost a change of their data, or have one twice"),
        ] {
            if count > 0 {
                fleet.books.complain(format!("{count} {what}"));
            }
        }
    }
}

/// The ids on all pages of a list, and the counts in the sessions' data.
async fn listed(fleet: &Fleet, path: &str) -> Result<List, Failure> {
    let mut listed = List::new();
    let mut cursor = String::new();
    loop {
        let page = fleet.read(FRESH, &format!("{path}{cursor}")).await?;
        let sessions = page["sessions"].as_array().into_iter().flatten();
        listed.extend(sessions.filter_map(|session| {
            let count = session["data"]["count"].as_u64().unwrap_or_default();
            Some((session["id"].as_str()?.to_owned(), count))
        }));
        match &page["next_cursor"] {
            Value::String(next) => cursor = format!("&cursor={next}"),
            _ => return Ok(listed),
        }
    }
}

/// The node that is started again. It reaches its store without a proxy.
const FRESH: usize = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_store_has_lost_or_kept_is_counted() {
        let people = People::default();
        let sessions: Vec<_> = (0..4)
            .map(|n| Arc::new(Session::of("bob", &format!("session={n:032x}")).unwrap()))
            .collect();
        for live in &sessions[..2] {
            live.counted(true);
            people.begun(live);
        }
        sessions[2..].iter().for_each(|ended| people.ended(ended));
        let list = |of: &[(usize, u64)]| -> List {
            of.iter().map(|(n, count)| (sessions[*n].id.clone(), *count)).collect()
        };
        let lost = |there: &[(usize, u64)], ended: &[(usize, u64)]| {
            let Lost { live, revoked, history, changes } =
                Lost::of(&people, &list(there), &list(ended));
            [live, revoked, history, changes]
        };
        assert_eq!(lost(&[(0, 1), (1, 1)], &[(2, 0), (3, 0)]), [0, 0, 0, 0]);
        assert_eq!(lost(&[(0, 1)], &[(2, 0), (3, 0)]), [1, 0, 0, 0]);
        assert_eq!(lost(&[(0, 1), (1, 1), (3, 0)], &[(2, 0), (3, 0)]), [0, 1, 0, 0]);
        assert_eq!(lost(&[(0, 1), (1, 1)], &[(2, 0)]), [0, 0, 1, 0]);
        assert_eq!(lost(&[(0, 0), (1, 2)], &[(2, 0), (3, 0)]), [0, 0, 0, 2]);
    }
}
