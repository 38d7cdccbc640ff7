//! What the cache cannot or may not answer: the store is asked, and what it has is settled.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use session_core::planted::{self, Defect};
use session_core::rotation::StepUp;
use session_core::{SessionId, Token};
use tokio::time::Instant;

use crate::check::{
    Claim, Finding, Refusal, Verdict, active, judge, judge_cached, note_use, remembered, stale,
    tell,
};
use crate::ending::Over;
use crate::entry::{Access, Entry, Shown};
use crate::error::Error;
use crate::follower;
use crate::load::Load;
use crate::meter;
use crate::node::Node;

/// A check that has to ask the store.
#[derive(Debug)]
#[must_use = "a lookup has to be resolved"]
pub struct Lookup {
    node: Node,
    claim: Claim,
    access: Access,
    /// When the request came: reading its session takes nothing from the grace of its token.
    asked: Instant,
}

impl Lookup {
    pub(crate) fn new(node: Node, claim: Claim, access: Access) -> Self {
        Self { node, claim, access, asked: Instant::now() }
    }

    /// The session that was asked for.
    pub fn session_id(&self) -> SessionId {
        self.claim.session_id()
    }

    /// Asks the store. Lookups of one session that run side by side ask once. The answer comes no later
    /// than [`Options::store_timeout`](crate::Options::store_timeout) and, with a claims provider,
    /// [`Options::claims_timeout`](crate::Options::claims_timeout) after the check.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store is away and the cache may not answer in its place.
    pub async fn resolve(self) -> Result<Verdict, Error> {
        let mut verdict = self.ask().await;
        if let Ok(Verdict::Active(session)) = &mut verdict {
            session.shown_before(self.asked.elapsed());
        }
        meter::resolved(&verdict);
        verdict
    }

    async fn ask(&self) -> Result<Verdict, Error> {
        let Self { node, claim, access, asked } = self;
        let shared = node.shared();
        let deadline = shared.request_deadline(*asked);
        if let Some(verdict) = node.hear_and_judge(claim, access).await {
            return Ok(verdict);
        }
        if shared.cache.ended(&claim.session_id()).is_some() {
            return Ok(Verdict::Refused(node.why_gone(claim, deadline).await));
        }
        let load = match self.read_newer(deadline).await {
            Err(error) if error.is_unavailable() => {
                let unknown = Verdict::Refused(Refusal::Unknown);
                let refused = planted::is(Defect::OutageIsRefusal).then_some(unknown);
                return stale(shared, claim, access).or(refused).ok_or(error);
            }
            load => load?,
        };
        let (finding, load) = self.settle(load, deadline).await?;
        match (finding, load.entry) {
            (Finding::Good(shown), Some(entry)) => {
                Ok(active(shared, entry, shown, access, shared.now()))
            }
            (Finding::Bad(refusal), _) => Ok(Verdict::Refused(refusal)),
            (Finding::Over(_) | Finding::Gone | Finding::Good(_), _) => {
                Ok(Verdict::Refused(node.why_gone(claim, deadline).await))
            }
        }
    }

    /// Reads the session, and once more where the request joined a read that had begun before it came and
    /// that finds against it.
    async fn read_newer(&self, deadline: Instant) -> Result<Load, Error> {
        let load = self.read(deadline).await?;
        let trusts = !load.joined || planted::is(Defect::JoinedReadTrusted);
        if trusts || matches!(self.judge(&load), Finding::Good(_)) {
            return Ok(load);
        }
        self.read(deadline).await
    }

    async fn read(&self, deadline: Instant) -> Result<Load, Error> {
        let shared = self.node.shared();
        let load = self.node.load(self.session_id());
        let load = shared.before(deadline, "load", load).await?;
        // What the store has of the session cannot be judged by a time that may be hours behind. The wall
        // clock may also have been set right during the read.
        if !shared.is_fresh() && shared.time.may_be_wrong() {
            shared.before(deadline, "log_since", self.node.know_the_time()).await?;
        }
        Ok(load)
    }

    fn judge(&self, load: &Load) -> Finding {
        let shared = self.node.shared();
        let Some(entry) = &load.entry else { return Finding::Gone };
        judge(shared, entry, &self.claim, self.asked.elapsed(), shared.now())
    }

    /// Stores what follows from a finding, and reads the session again, until nothing follows any more.
    async fn settle(&self, mut load: Load, deadline: Instant) -> Result<(Finding, Load), Error> {
        let mut ends = 0;
        loop {
            let finding = self.judge(&load);
            let proven = match (&finding, &load.entry) {
                (Finding::Good(shown), Some(entry)) => shown.step_up(&entry.session.token),
                _ => None,
            };
            let proven = proven.map(StepUp::handed_out);
            let goes_on = match finding {
                Finding::Good(Shown::Successor | Shown::StepUp(_)) => self.confirm(deadline).await,
                Finding::Over(over) => {
                    ends += 1;
                    !self.end(over, ends, deadline).await?
                }
                _ => false,
            };
            if !goes_on {
                return Ok((finding, load));
            }
            load = match self.read(deadline).await {
                // It has been confirmed, so it is good.
                Err(error) if error.is_unavailable() && matches!(finding, Finding::Good(_)) => {
                    return Ok((finding, load));
                }
                load => load?,
            };
            let (shared, access) = (self.node.shared(), &self.access);
            let now = shared.now();
            let unused = |entry: &&Arc<Entry>| entry.past(|| shared.in_flight(), now).is_some();
            if let Some((entry, proven)) = load.entry.as_ref().filter(unused).zip(proven) {
                // The proof was a use, of which the store does not know.
                let at = if access.passive { proven } else { now };
                note_use(shared, entry, &Access::from_ip(access.ip), at);
            }
        }
    }

    /// Whether the first use of the token is stored. Where it cannot be, the token is good, and its next
    /// use is tried again.
    async fn confirm(&self, deadline: Instant) -> bool {
        if planted::is(Defect::ConfirmSkipped) {
            return false;
        }
        let (id, node) = (self.session_id(), self.node.clone());
        let tokens = self.claim.tokens().to_vec();
        let shared = self.node.shared();
        let confirm = shared.detached(async move { node.confirm(id, &tokens).await });
        shared.before(deadline, "commit", confirm).await.is_ok()
    }

    /// Ends the session. False where it was used since it was read, or is gone.
    async fn end(&self, over: Over, tries: u32, deadline: Instant) -> Result<bool, Error> {
        let end = self.node.end_over_detached(self.session_id(), over, tries);
        self.node.shared().before(deadline, "end_many", end).await
    }
}

impl Node {
    /// A node that may not trust its cache reads the log first; then the cache may answer again.
    async fn hear_and_judge(&self, claim: &Claim, access: &Access) -> Option<Verdict> {
        let shared = self.shared();
        if shared.is_fresh() {
            return None;
        }
        // While the store is known to be away, no request has to wait for it.
        let away = shared.unheard.load(Ordering::Acquire);
        if away && let Some(verdict) = stale(shared, claim, access) {
            return Some(verdict);
        }
        // The other half is for reading the session, where the log cannot be read.
        let half = Instant::now() + shared.options.store_timeout / 2;
        shared.before(half, "log_since", follower::hear(shared)).await.ok()?;
        judge_cached(shared, claim, access)
    }

    /// What a client with this token may be told of a session that is not there.
    pub(crate) async fn why_ended(&self, token: &Token) -> Refusal {
        let deadline = self.shared().request_deadline(Instant::now());
        self.why_gone(&Claim::Token(token.clone()), deadline).await
    }

    /// What a client with this claim may be told of a session that is not there. How it has ended, the
    /// history says; where it does not answer soon, or cannot be read, the client is told nothing.
    async fn why_gone(&self, claim: &Claim, deadline: Instant) -> Refusal {
        let shared = self.shared();
        if let Some(refusal) = remembered(shared, claim) {
            return refusal;
        }
        let soon = Instant::now() + shared.options.store_timeout / 4;
        let read = self.read_ending(claim.session_id());
        let record = shared.before(soon.min(deadline), "ended", read).await.unwrap_or_default();
        record.map_or(Refusal::Unknown, |record| tell(&record, claim))
    }
}
