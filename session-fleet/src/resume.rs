//! What a node answers when it goes on after it stood still: it had many sessions in its cache, and all of
//! them were revoked in that time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hyper::StatusCode;
use session_benches::Failure;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::fleet::{Fleet, USERS};
use crate::people::Session;

/// Sessions that a node has in its cache.
#[derive(Debug)]
pub(crate) struct Crowd {
    node: usize,
    sessions: Vec<Arc<Session>>,
}

/// Their answers.
pub(crate) type Visits = JoinSet<Option<StatusCode>>;

impl Crowd {
    /// Signs so many in on the first node, and uses each on this one.
    pub(crate) async fn gather(fleet: &Fleet, node: usize, count: usize) -> Result<Self, Failure> {
        let (mut clients, mut sessions) = (fleet.clients(), Vec::new());
        for n in 0..count {
            let session = fleet.sign_in(0, &mut clients[0], USERS[n % USERS.len()]).await;
            let session = session.ok_or("a user cannot sign in")?;
            if fleet.visit(node, &mut clients[node], &session).await != Some(StatusCode::OK) {
                return Err(format!("node {node} does not know a session that is new").into());
            }
            sessions.push(session);
        }
        Ok(Self { node, sessions })
    }

    /// Revokes all on the other nodes, which share them.
    pub(crate) async fn revoke(&self, fleet: &Fleet) {
        let mut clients = fleet.clients();
        clients.remove(self.node);
        let others = clients.len();
        let shares = clients.into_iter().enumerate().map(|(n, mut client)| async move {
            let node = n + usize::from(n >= self.node);
            for session in self.sessions.iter().skip(n).step_by(others) {
                if fleet.revoke(node, &mut client, session).await {
                    fleet.people.ended(session);
                }
            }
        });
        join_all(shares).await;
    }

    /// Shows all to the node at once; the requests wait until it goes on.
    pub(crate) async fn show(&self, fleet: &Arc<Fleet>) -> Visits {
        let mut visits = JoinSet::new();
        for session in &self.sessions {
            let (fleet, session, node) = (Arc::clone(fleet), Arc::clone(session), self.node);
            visits.spawn(async move {
                let mut client = Client::new(fleet.nodes[node].address);
                fleet.visit(node, &mut client, &session).await
            });
        }
        tokio::time::sleep(SENT).await;
        visits
    }

    /// How many were shown that the node, which went on at `resumed`, has to refuse; most have to be.
    pub(crate) async fn seen(&self, fleet: &Fleet, resumed: Instant, visits: Visits) -> usize {
        let answered = visits.join_all().await.into_iter().flatten().count();
        let is_over = |session: &&Arc<Session>| {
            session.ended_at().is_some_and(|ended| resumed - ended > fleet.limits.bound)
        };
        let over = self.sessions.iter().filter(is_over).count();
        if answered < self.sessions.len() || 2 * over < self.sessions.len() {
            let all = self.sessions.len();
            fleet.books.complain(format!(
                "of {all} sessions, {over} were revoked in time and {answered} shown to a node that goes on"
            ));
        }
        over
    }
}

/// By then requests to a node of this machine have been sent.
const SENT: Duration = Duration::from_millis(100);
