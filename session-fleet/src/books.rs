//! What the fleet may answer, by what it has acknowledged: every answer is judged.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use hyper::StatusCode;

use crate::client::Answer;
use crate::people::{State, held};
use crate::timeline::{Seen, Timeline};

/// How long a revoked session may go on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// On a node that reaches the store: `propagation_bound`.
    pub(crate) bound: Duration,
    /// On one that does not: `max_staleness`.
    pub(crate) staleness: Duration,
}

/// What is wrong with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Its process is gone: it may not answer at all.
    Process,
    /// Its process stands still: it cannot answer while it does.
    Still(Standstill),
    /// It reaches the store late or not at all: it answers all the same.
    Store,
}

/// Between which times a process certainly stood still. What it answers to a request that was sent then, it has
/// decided after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standstill {
    since: Option<Instant>,
    until: Option<Instant>,
}

#[derive(Debug)]
struct Period {
    nodes: Vec<usize>,
    trouble: Trouble,
    until: Option<Instant>,
}

/// The judge of all answers.
#[derive(Debug)]
pub(crate) struct Books {
    limits: Limits,
    periods: Mutex<Vec<Period>>,
    complaints: Mutex<Vec<String>>,
    timeline: Mutex<Timeline>,
}

impl Books {
    pub(crate) fn new(limits: Limits, nodes: usize) -> Self {
        Self {
            limits,
            periods: Mutex::default(),
            complaints: Mutex::default(),
            timeline: Mutex::new(Timeline::start(nodes)),
        }
    }

    /// From now on these nodes are in trouble, in this one where they are in several.
    pub(crate) fn trouble(&self, nodes: &[usize], trouble: Trouble) {
        held(&self.periods).push(Period { nodes: nodes.to_vec(), trouble, until: None });
    }

    /// From now on no node is.
    pub(crate) fn end_trouble(&self) {
        let now = Instant::now();
        held(&self.periods).iter_mut().for_each(|period| {
            period.until.get_or_insert(now);
        });
    }

    /// From now on what is about to stand still does.
    pub(crate) fn stopped(&self) {
        self.standstills(|still| still.since = Some(Instant::now()));
    }

    /// From now on it may go on.
    pub(crate) fn resumes(&self) -> Instant {
        let now = Instant::now();
        self.standstills(|still| still.until = Some(now));
        now
    }

    fn standstills(&self, change: impl Fn(&mut Standstill)) {
        for period in held(&self.periods).iter_mut().filter(|period| period.until.is_none()) {
            if let Trouble::Still(still) = &mut period.trouble {
                change(still);
            }
        }
    }

    /// Whether the process of a node is away.
    pub(crate) fn is_gone(&self, node: usize) -> bool {
        let trouble = self.trouble_of(node, Instant::now());
        matches!(trouble, Some(Trouble::Process | Trouble::Still(_)))
    }

    /// Judges what a node has answered, or that it has not.
    pub(crate) fn judge(&self, node: usize, what: What, sent: Instant, answer: Option<&Answer>) {
        if matches!(what, What::Page(_)) {
            held(&self.timeline).note(node, Seen::of(answer));
        }
        let asked = Asked { what, trouble: self.trouble_of(node, sent), sent };
        if let Some(complaint) = self.limits.complaint(&asked, answer) {
            self.complain(format!("node {node}, asked for {}: {complaint}", what.name()));
        }
    }

    pub(crate) fn complain(&self, complaint: impl Into<String>) {
        let (complaint, since) = (complaint.into(), held(&self.timeline).now());
        let mut complaints = held(&self.complaints);
        if complaints.len() < MOST_SHOWN {
            eprintln!("BROKEN after {since:.1?}: {complaint}");
        }
        complaints.push(complaint);
    }

    /// How often a guarantee broke: one whose complaint has this part, or any.
    pub(crate) fn broken(&self, part: Option<&str>) -> usize {
        let complaints = held(&self.complaints);
        complaints
            .iter()
            .filter(|complaint| part.is_none_or(|part| complaint.contains(part)))
            .count()
    }

    /// Takes what was seen up to now, and begins again.
    pub(crate) fn take_timeline(&self) -> Timeline {
        let mut timeline = held(&self.timeline);
        let fresh = Timeline::start(timeline.nodes());
        std::mem::replace(&mut *timeline, fresh)
    }

    /// Marks this moment of the timeline.
    pub(crate) fn mark(&self, what: &'static str) {
        held(&self.timeline).mark(what);
    }

    /// What was wrong with the node at any time since the request was sent.
    fn trouble_of(&self, node: usize, sent: Instant) -> Option<Trouble> {
        let periods = held(&self.periods);
        let concerns = |period: &&Period| {
            period.nodes.contains(&node) && period.until.is_none_or(|until| until >= sent)
        };
        periods.iter().filter(concerns).map(|period| period.trouble).next_back()
    }
}

impl Limits {
    /// What is wrong with an answer, if anything is.
    fn complaint(self, asked: &Asked, answer: Option<&Answer>) -> Option<String> {
        let Some(answer) = answer else {
            let is_expected = matches!(asked.trouble, Some(Trouble::Process | Trouble::Still(_)));
            return (!is_expected).then(|| "no answer".to_owned());
        };
        if matches!(asked.trouble, Some(Trouble::Still(still)) if still.lasts_for(asked.sent)) {
            return Some("an answer while it stands still".to_owned());
        }
        let status = answer.status;
        let has_cookie = answer.cookie.is_some();
        if has_cookie != asked.what.brings_cookie(status) {
            return Some(format!("{status}, with a cookie: {has_cookie}"));
        }
        match (status, asked.what) {
            (StatusCode::SERVICE_UNAVAILABLE, _) if !answer.has_retry_after => {
                Some("503 without Retry-After".to_owned())
            }
            (StatusCode::SERVICE_UNAVAILABLE, _) if asked.trouble.is_none() => {
                Some("503 without any trouble".to_owned())
            }
            (StatusCode::SERVICE_UNAVAILABLE, _) => None,
            (StatusCode::OK, What::Page(State::Ended(at))) => self.too_long(at, asked),
            (StatusCode::UNAUTHORIZED, What::Page(State::Ending | State::Ended(_))) => None,
            (_, what) => (!what.is_done(answer)).then(|| status.to_string()),
        }
    }

    fn too_long(self, ended: Instant, asked: &Asked) -> Option<String> {
        let sent = asked.sent;
        let (limit, decided) = match asked.trouble {
            None => (self.bound + BUSY, sent),
            Some(Trouble::Still(Standstill { since: Some(since), until: Some(until) }))
                if sent >= since =>
            {
                // It has to read the log before it answers: however busy the machine is, that takes no longer.
                if sent <= until { (self.bound, until) } else { (self.bound + BUSY, sent) }
            }
            Some(_) => (self.staleness + BUSY, sent),
        };
        let after = decided.saturating_duration_since(ended);
        (after > limit).then(|| format!("accepted {after:.2?} after its revocation"))
    }
}

impl Standstill {
    /// Whether the process has not gone on since it stood still when this was sent.
    fn lasts_for(self, sent: Instant) -> bool {
        self.until.is_none() && self.since.is_some_and(|since| sent >= since)
    }
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A page, with the cookie of a session.
    Page(State),
    SignIn,
    /// The end of a session, by the admin.
    Revocation,
    /// The same once more, after an answer that was lost.
    RevocationAgain,
    /// A change of a session's data.
    Change,
    Rotation,
}

impl What {
    const fn name(self) -> &'static str {
        match self {
            Self::Page(State::Live) => "a signed-in user's page",
            Self::Page(_) => "the page of a revoked session",
            Self::SignIn => "a sign-in",
            Self::Revocation | Self::RevocationAgain => "a revocation",
            Self::Change => "a change of data",
            Self::Rotation => "a rotation",
        }
    }

    /// The status that says that it is done.
    const fn done(self) -> StatusCode {
        match self {
            Self::Page(_) | Self::Change | Self::Rotation => StatusCode::OK,
            Self::SignIn => StatusCode::SEE_OTHER,
            Self::Revocation | Self::RevocationAgain => StatusCode::NO_CONTENT,
        }
    }

    /// Whether an answer says that it is done.
    pub(crate) fn is_done(self, answer: &Answer) -> bool {
        let is_done_already =
            self == Self::RevocationAgain && answer.status == StatusCode::NOT_FOUND;
        answer.status == self.done() || is_done_already
    }

    /// Nothing but a new token is worth a cookie.
    fn brings_cookie(self, status: StatusCode) -> bool {
        matches!(self, Self::SignIn | Self::Rotation) && status == self.done()
    }
}

/// What was asked, and when.
#[derive(Clone, Copy, Debug)]
struct Asked {
    what: What,
    trouble: Option<Trouble>,
    sent: Instant,
}

/// How long a machine on which a whole fleet, its store and its users share a few cores may keep a
/// process waiting.
pub(crate) const BUSY: Duration = Duration::from_secs(1);
/// Complaints that are printed; all are counted.
const MOST_SHOWN: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { bound: Duration::from_secs(1), staleness: Duration::from_secs(3) };

    fn answer(status: u16) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        let has_retry_after = status == StatusCode::SERVICE_UNAVAILABLE;
        Answer { status, cookie: None, has_retry_after, body: bytes::Bytes::new() }
    }

    fn is_wrong(
        state: State,
        trouble: Option<Trouble>,
        after: f64,
        answer: Option<&Answer>,
    ) -> bool {
        let ended = Instant::now() - Duration::from_secs_f64(after);
        let state = if matches!(state, State::Ended(_)) { State::Ended(ended) } else { state };
        is_wrong_to(What::Page(state), trouble, answer)
    }

    fn is_wrong_to(what: What, trouble: Option<Trouble>, answer: Option<&Answer>) -> bool {
        let sent = Instant::now();
        LIMITS.complaint(&Asked { what, trouble, sent }, answer).is_some()
    }

    #[test]
    fn a_revoked_session_is_accepted_within_the_bound_only() {
        let ended = State::Ended(Instant::now());
        assert!(!is_wrong(ended, None, 1.9, Some(&answer(200))));
        assert!(is_wrong(ended, None, 2.1, Some(&answer(200))));
        for trouble in [Trouble::Process, Trouble::Store] {
            assert!(!is_wrong(ended, Some(trouble), 3.9, Some(&answer(200))));
            assert!(is_wrong(ended, Some(trouble), 4.1, Some(&answer(200))));
        }
        assert!(!is_wrong(State::Ending, None, 9.0, Some(&answer(200))));
        assert!(!is_wrong(ended, None, 9.0, Some(&answer(401))));
    }

    /// It has read nothing while it stood still, so the time at which it goes on counts.
    #[test]
    fn a_node_that_stood_still_accepts_no_session_that_ended_then() {
        let stopped = Instant::now();
        let after = |seconds| stopped + Duration::from_secs_f64(seconds);
        let is_wrong = |ended, sent, until| {
            let still = Standstill { since: Some(stopped), until };
            let (what, trouble) = (What::Page(State::Ended(ended)), Some(Trouble::Still(still)));
            LIMITS.complaint(&Asked { what, trouble, sent }, Some(&answer(200))).is_some()
        };
        let resumed = Some(after(2.0));
        assert!(is_wrong(after(0.9), after(0.1), resumed), "sent before the session ended");
        assert!(!is_wrong(after(1.1), after(0.1), resumed));
        let before = stopped - Duration::from_millis(1);
        assert!(!is_wrong(after(0.9), before, resumed), "perhaps decided before");
        assert!(!is_wrong(after(0.9), after(2.8), resumed), "the machine may be busy");
        assert!(is_wrong(after(0.9), after(3.0), resumed));
        assert!(is_wrong(after(0.9), after(0.1), None), "it answers while it stands still");
    }

    #[test]
    fn a_standstill_is_known_while_its_trouble_lasts() {
        let books = Books::new(LIMITS, 2);
        books.trouble(&[1], Trouble::Still(Standstill::default()));
        let sent = Instant::now();
        books.stopped();
        let until = Some(books.resumes());
        let Some(Trouble::Still(still)) = books.trouble_of(1, sent) else { panic!("{books:?}") };
        assert!(still.since >= Some(sent) && still.until == until);
        assert!(books.is_gone(1) && !books.is_gone(0));
        books.end_trouble();
        books.resumes();
        assert_eq!(books.trouble_of(1, sent), Some(Trouble::Still(still)));
    }

    #[test]
    fn only_a_node_in_trouble_is_away() {
        assert!(is_wrong(State::Live, None, 0.0, Some(&answer(503))));
        assert!(is_wrong(State::Ending, None, 0.0, Some(&answer(503))));
        for trouble in [Trouble::Process, Trouble::Store, Trouble::Still(Standstill::default())] {
            assert!(!is_wrong(State::Live, Some(trouble), 0.0, Some(&answer(503))));
        }
    }

    #[test]
    fn an_outage_is_no_sign_out() {
        assert!(is_wrong(State::Live, Some(Trouble::Store), 0.0, Some(&answer(401))));
        assert!(!is_wrong(State::Live, Some(Trouble::Store), 0.0, Some(&answer(503))));
        let silent = Answer { has_retry_after: false, ..answer(503) };
        assert!(is_wrong(State::Live, None, 0.0, Some(&silent)));
        let clearing = Answer { cookie: Some("session=".to_owned()), ..answer(503) };
        assert!(is_wrong(State::Live, None, 0.0, Some(&clearing)));
        assert!(is_wrong(State::Live, None, 0.0, Some(&answer(500))));
    }

    #[test]
    fn what_changes_something_is_judged_like_a_page() {
        let all = [What::SignIn, What::Revocation, What::Change, What::Rotation];
        let cookie = |answer: Answer| Answer { cookie: Some("session=".to_owned()), ..answer };
        for what in all {
            let done = answer(what.done().as_u16());
            let brings = what.brings_cookie(done.status);
            assert_eq!(brings, matches!(what, What::SignIn | What::Rotation));
            assert_eq!(is_wrong_to(what, None, Some(&cookie(done.clone()))), !brings, "{what:?}");
            assert_eq!(is_wrong_to(what, None, Some(&done)), brings, "{what:?}");
            let silent = Answer { has_retry_after: false, ..answer(503) };
            for bad in [Some(silent), Some(cookie(answer(503))), Some(answer(401)), None] {
                assert!(is_wrong_to(what, Some(Trouble::Store), bad.as_ref()), "{what:?} {bad:?}");
            }
            assert!(!is_wrong_to(what, Some(Trouble::Store), Some(&answer(503))));
            assert!(is_wrong_to(what, None, Some(&answer(503))), "{what:?}");
        }
        let gone = answer(404);
        assert!(is_wrong_to(What::Revocation, None, Some(&gone)));
        assert!(!is_wrong_to(What::RevocationAgain, None, Some(&gone)));
    }

    #[test]
    fn only_a_node_that_does_not_run_may_be_silent() {
        assert!(!is_wrong(State::Live, Some(Trouble::Process), 0.0, None));
        assert!(!is_wrong(State::Live, Some(Trouble::Still(Standstill::default())), 0.0, None));
        assert!(is_wrong(State::Live, Some(Trouble::Store), 0.0, None));
        assert!(is_wrong(State::Live, None, 0.0, None));
    }

    #[test]
    fn trouble_is_over_for_what_is_sent_after_it() {
        let books = Books::new(LIMITS, 2);
        let before = Instant::now();
        books.trouble(&[1], Trouble::Process);
        assert_eq!(books.trouble_of(1, before), Some(Trouble::Process));
        assert_eq!(books.trouble_of(0, before), None);
        books.end_trouble();
        assert_eq!(books.trouble_of(1, before), Some(Trouble::Process));
        let after = Instant::now() + Duration::from_millis(1);
        assert_eq!(books.trouble_of(1, after), None);
        books.judge(0, What::Page(State::Live), after, None);
        assert_eq!(books.broken(None), 1);
    }
}
