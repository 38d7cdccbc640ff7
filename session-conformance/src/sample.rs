//! Values and steps that the cases use, for a store's own tests, too. They panic where a step
//! fails.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use session_core::policy::{Limit, OnExceed, Policy, Scope};
use session_core::rotation::{self, SignInAgain, TokenState};
use session_core::store::{
    Change, Commit, Cursor, EndMany, Ended, EndedBatch, Entries, Loaded, Outcome, Selection, Sweep,
    TenantFilter, Touch, Version, limit_within,
};
use session_core::usage::Timeouts;
use session_core::{
    Actor, AssuranceLevel, Authentication, DeviceInfo, DeviceName, EndCause, Event, EventKind,
    ExtraData, FleetKey, Session, SessionId, Store, StoreErrorKind, TenantId, Timestamp, Token,
    UserId, UserKey,
};
use session_engine::{Engine, Options};

/// How long a test waits for something that has to come. Only a defect takes as long, also where
/// the machine is busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How much longer a case waits for a store that does its work in several calls: [`PATIENCE`] since
/// the last call that did some.
pub(crate) struct Patience(Instant);

impl Default for Patience {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Patience {
    pub(crate) fn lasts(&self) -> bool {
        self.0.elapsed() < PATIENCE
    }

    pub(crate) fn renew_if(&mut self, progress: bool) {
        if progress {
            self.0 = Instant::now();
        }
    }
}

/// The default options of an engine, with time-outs that a busy machine does not exceed.
pub fn options() -> Options {
    let mut options = Options::default();
    options.store_timeout = PATIENCE;
    options.max_staleness = PATIENCE;
    options
}

/// Options of an engine that reads the log by itself so rarely that only a hint can have it read
/// within a test.
pub fn options_for_hints() -> Options {
    let mut options = options();
    options.propagation_bound = PATIENCE * 10;
    options.max_staleness = options.propagation_bound;
    options
}

/// A user outside all tenants.
pub fn user(name: &str) -> UserKey {
    UserKey::new(UserId::new(name).unwrap())
}

/// A user of a tenant.
pub fn user_in(tenant: &str, name: &str) -> UserKey {
    UserKey::in_tenant(TenantId::new(tenant).unwrap(), UserId::new(name).unwrap())
}

/// The time by the store's clock.
pub async fn now(store: &dyn Store) -> Timestamp {
    store.log_since(None, Entries::All, 0).await.unwrap().clock
}

pub(crate) fn address(n: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, n])
}

/// Random bytes.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

/// A token of this session. Stores do not look into tokens, so any fleet's key will do.
pub(crate) fn token(id: SessionId) -> Token {
    Token::new(&FleetKey::from_bytes([7; 32]), id, random(), random())
}

/// A session that begins at this time and has no deadline, with an id that the store has made.
pub fn session(store: &dyn Store, owner: &UserKey, signed_in: Timestamp) -> Session {
    let token = token(store.session_id(owner, signed_in, random()));
    let ip_addresses = vec![address(1)];
    Session { ip_addresses, ..Session::new(owner.clone(), &token, signed_in) }
}

/// Commits against the version that holds now.
pub async fn commit(store: &dyn Store, owner: &UserKey, changes: Vec<Change>) -> Outcome {
    let at = now(store).await;
    let expected = version(store, owner).await;
    store.commit(&change_at(owner, expected, changes, at)).await.unwrap()
}

/// Begins a session, and tries again while others change those of its user.
pub async fn insert(store: &dyn Store, session: &Session) {
    let change = Change::Insert(Box::new(session.clone()));
    for _ in 0..MOST_CONFLICTS {
        if commit(store, &session.owner, vec![change.clone()]).await == Outcome::Done {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("a commit conflicts where no other one is made");
}

/// A commit by the application at this time, against this version.
pub(crate) fn change_at(
    owner: &UserKey,
    expected: Version,
    changes: Vec<Change>,
    at: Timestamp,
) -> Commit {
    let (owner, by) = (owner.clone(), Actor::Application);
    Commit { owner, expected, changes, at, by, from: None }
}

/// A change that begins a session.
pub(crate) fn begins(session: &Session) -> Change {
    Change::Insert(Box::new(session.clone()))
}

/// The change that makes this the session's record, and that the log tells as a rotation.
pub(crate) fn updates(session: &Session) -> Change {
    Change::Update { session: Box::new(session.clone()), kind: EventKind::Rotated }
}

/// A session whose token was rotated at this time, and whose next token has been presented.
pub(crate) fn rotated(session: &Session, at: Timestamp) -> Session {
    let (begun, next) = rotation::begin(session, &token(session.id), random(), None, at);
    rotation::confirm(begun.as_ref().unwrap_or(session), &next, &Timeouts::default(), at)
}

/// A user whose text as an actor is as long as one can be.
pub(crate) fn longest_actor() -> Actor {
    Actor::User(user_in(&":".repeat(TenantId::MAX_BYTES), &"u".repeat(UserId::MAX_BYTES)))
}

/// The same session with details of every kind, as long as they may be, and with those of a newer
/// version.
pub(crate) fn detailed(mut session: Session) -> Session {
    let at = session.signed_in;
    let wide = |bytes: usize| "ü".repeat(bytes / 2) + &"u".repeat(bytes % 2);
    let method = |n: usize| format!("method-{n}").parse().unwrap();
    let proof = Authentication {
        at: at.plus(SECOND),
        level: Some(AssuranceLevel::Aal3),
        methods: (0..Authentication::MAX_METHODS).map(method).collect(),
        ..Authentication::default()
    };
    session.device_info = Some(DeviceInfo::new(&wide(DeviceInfo::MAX_BYTES)).unwrap());
    session.device_name = Some(DeviceName::new(&wide(DeviceName::MAX_BYTES)).unwrap());
    session.authentication = proof.clone();
    session.absolute_expiry = Some(at.plus(Duration::from_micros(1)));
    session.timeouts = Some(Timeouts::aal3());
    session.impersonator = Some(user_in(&wide(TenantId::MAX_BYTES), &wide(UserId::MAX_BYTES)));
    let text = serde_json::Value::String("\u{1F511}".repeat(1023) + "\\");
    session.data = Some(ExtraData::new(&text).unwrap());
    let risk = || ("risk".to_owned(), serde_json::json!({ "score": [7, null, "\0"] }));
    session.unknown.extend([risk()]);
    session = rotated(&session, at);
    let next = token(session.id);
    session = rotation::begin(&session, &next, random(), None, at).0.unwrap();
    let sign_in = SignInAgain {
        at,
        device_info: session.device_info.clone(),
        data: session.data.clone(),
        timeouts: session.timeouts,
        unknown: [risk()].into_iter().collect(),
    };
    session = rotation::sign_in_again(&session, &next, random(), proof, sign_in).0;
    let widest = session.token.step_ups[0].clone();
    while session.token.step_ups.len() < TokenState::MAX_STEP_UPS {
        let mut other = widest.clone();
        other.next.digest = token(session.id).digest();
        session.token.step_ups.push(other);
    }
    let TokenState { successor, step_ups, retired, .. } = &mut session.token;
    successor.iter_mut().for_each(|successor| successor.unknown.extend([risk()]));
    step_ups.iter_mut().for_each(|step_up| step_up.next.unknown.extend([risk()]));
    retired.iter_mut().for_each(|retired| retired.unknown.extend([risk()]));
    session
}

/// A write-back of a use at this time, which is also the deadline.
pub(crate) fn used(id: SessionId, at: Timestamp) -> Touch {
    Touch { id, last_accessed: at, deadline: at, claimed: false, ip_addresses: Vec::new() }
}

/// The version of a user now.
pub(crate) async fn version(store: &dyn Store, owner: &UserKey) -> Version {
    store.user(owner).await.unwrap().version
}

/// Begins these sessions, each with a commit of its own.
pub(crate) async fn insert_all<'s>(
    store: &dyn Store,
    sessions: impl IntoIterator<Item = &'s Session>,
) {
    for session in sessions {
        insert(store, session).await;
    }
}

/// Begins many sessions of one user, in as few commits as there may be.
pub async fn add_many(store: &dyn Store, owner: &UserKey, count: usize) -> Vec<Session> {
    let begun = now(store).await;
    let sessions: Vec<_> = (0..count).map(|_| session(store, owner, begun)).collect();
    insert_in_parts(store, owner, &sessions).await;
    sessions
}

/// Begins these sessions of one user, in as few commits as there may be.
pub(crate) async fn insert_in_parts(store: &dyn Store, owner: &UserKey, sessions: &[Session]) {
    for part in sessions.chunks(Commit::MAX_CHANGES) {
        let outcome = commit(store, owner, part.iter().map(begins).collect()).await;
        assert_eq!(outcome, Outcome::Done, "a commit that conflicts with no other one");
    }
}

/// A policy that refuses a user's sign-ins beyond so many sessions.
pub(crate) fn at_most(max: u32) -> Policy {
    Policy::limit(Limit { max, scope: Scope::User, on_exceed: OnExceed::Reject })
}

/// Ends one session with a commit at this time.
pub(crate) async fn end_at(store: &dyn Store, session: &Session, cause: EndCause, at: Timestamp) {
    let change = Change::End(session.id, cause);
    for _ in 0..MOST_CONFLICTS {
        let expected = version(store, &session.owner).await;
        let commit = change_at(&session.owner, expected, vec![change.clone()], at);
        if store.commit(&commit).await.unwrap() == Outcome::Done {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("a commit conflicts where no other one is made");
}

/// Where the log ends now.
pub(crate) async fn log_end(store: &dyn Store) -> Cursor {
    store.log_since(None, Entries::All, 0).await.unwrap().next
}

/// The ids of sessions, sorted.
pub(crate) fn sorted<'s>(sessions: impl IntoIterator<Item = &'s Session>) -> Vec<SessionId> {
    let mut ids: Vec<_> = sessions.into_iter().map(|session| session.id).collect();
    ids.sort();
    ids
}

/// The ids of what ended, sorted; an id that ended twice stands twice.
pub(crate) fn ended_ids(ended: &[Ended]) -> Vec<SessionId> {
    let mut ids: Vec<_> = ended.iter().map(|ended| ended.id).collect();
    ids.sort();
    ids
}

/// Those of some entries that are about one user: only they have an order that is promised.
pub(crate) fn about<'e>(events: &'e [Event], owner: &UserKey) -> Vec<&'e Event> {
    let is =
        |event: &&Event| event.tenant == owner.tenant && event.user.as_ref() == Some(&owner.user);
    events.iter().filter(is).collect()
}

/// Waits, without sleeping, until this much time has passed on the store's clock.
pub(crate) async fn let_pass(store: &dyn Store, time: Duration) {
    let begun = Instant::now();
    assert!(store.lease("the kit's timer", "one", time).await.unwrap(), "a lease that is free");
    while !store.lease("the kit's timer", "two", PATIENCE).await.unwrap() {
        assert!(begun.elapsed() < PATIENCE, "a lease of {time:?} runs out");
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn add(store: &dyn Store, owner: &UserKey) -> Session {
    let session = session(store, owner, now(store).await);
    insert(store, &session).await;
    session
}

/// An end by revocation, now.
pub async fn end(store: &dyn Store, selection: Selection) -> EndMany {
    let (cause, by) = (EndCause::Revoked, Actor::Application);
    EndMany { selection, after: None, cause, at: now(store).await, by, from: None }
}

/// Revokes a session; answers how many that ended.
pub async fn revoke(store: &dyn Store, id: SessionId) -> usize {
    let selection = Selection::session(id, TenantFilter::Any);
    store.end_many(&end(store, selection).await, 10).await.unwrap().ended.len()
}

/// Ends everything that is selected, this many at a time, as an engine does.
pub async fn end_all(store: &dyn Store, mut end: EndMany, limit: u32) -> Vec<Ended> {
    let mut all = Vec::new();
    for _ in 0..MOST_CALLS {
        let batch = store.end_many(&end, limit).await.unwrap();
        assert_within(&batch, limit);
        all.extend(batch.ended);
        match batch.next {
            Some(next) => end.after = Some(next),
            None => return all,
        }
    }
    panic!("the walk of end_many has no end");
}

fn assert_within(batch: &EndedBatch, limit: u32) {
    let (ended, most) = (batch.ended.len(), limit_within(limit, EndedBatch::MAX_LIMIT));
    assert!(ended <= most as usize, "{ended} ended in one call with a limit of {limit}");
}

/// Ends everything whose deadline passed longer ago than this, so many at a time, as an engine
/// does.
pub async fn sweep_all(store: &dyn Store, overdue: Duration, limit: u32) -> Vec<Ended> {
    let sweep = Sweep { overdue, after: None, at: now(store).await };
    whole_sweep(store, sweep, limit).await
}

pub(crate) async fn whole_sweep(store: &dyn Store, mut sweep: Sweep, limit: u32) -> Vec<Ended> {
    let mut all = Vec::new();
    for _ in 0..MOST_CALLS {
        let batch = store.sweep(&sweep, limit).await.unwrap();
        assert_within(&batch, limit);
        all.extend(batch.ended);
        match batch.next {
            Some(next) => sweep.after = Some(next),
            None => return all,
        }
    }
    panic!("the walk of sweep has no end");
}

pub(crate) async fn ids(store: &dyn Store, owner: &UserKey) -> Vec<SessionId> {
    let state = store.user(owner).await.unwrap();
    let mut ids: Vec<_> = state.sessions.iter().map(|session| session.id).collect();
    ids.sort();
    ids
}

/// Loads a session from a store whose server may just have come back.
pub async fn load(store: &dyn Store, id: SessionId) -> Option<Loaded> {
    let begun = Instant::now();
    loop {
        match store.load(id).await {
            Ok(found) => return found,
            Err(error) => {
                assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
                assert!(begun.elapsed() < PATIENCE, "it does not come back: {error}");
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Reads the log to its end, this many entries at a time, and moves the cursor there.
pub async fn read_log(store: &dyn Store, cursor: &mut Cursor, page: u32) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        assert!(events.len() < 100_000, "the log has no end");
        let read = store.log_since(Some(cursor), Entries::All, page).await.unwrap();
        assert!(!read.gap, "a gap in a log that was not cut");
        assert!(read.events.len() <= page as usize);
        events.extend(read.events);
        *cursor = read.next;
        if !read.more {
            return events;
        }
    }
}

/// Trims this many entries of the log, at most three at a time. On PostgreSQL an entry can be
/// trimmed once every transaction on the server that is older has ended.
pub async fn trim_log(store: &dyn Store, entries: u32) {
    let (mut patience, mut trimmed) = (Patience::default(), 0);
    while trimmed < entries {
        assert!(patience.lasts(), "{trimmed} of {entries} entries can be trimmed");
        let limit = 3.min(entries - trimmed);
        let at_once = store.trim_log(Duration::ZERO, limit).await.unwrap();
        assert!(at_once <= limit, "{at_once} entries trimmed where the limit was {limit}");
        patience.renew_if(at_once > 0);
        trimmed += at_once;
        tokio::task::yield_now().await;
    }
}

/// Trims exactly this many entries, all that are older than this and may go. A store may need a while,
/// as [`trim_log`] says.
pub async fn trim_old(store: &dyn Store, older_than: Duration, entries: u32) {
    let (mut patience, mut trimmed) = (Patience::default(), 0);
    while trimmed < entries {
        assert!(patience.lasts(), "{trimmed} of {entries} old entries went");
        let at_once = store.trim_log(older_than, 1000).await.unwrap();
        patience.renew_if(at_once > 0);
        trimmed += at_once;
        assert!(trimmed <= entries, "{trimmed} entries went where {entries} are a prefix");
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn engine(store: Arc<dyn Store>, options: Options) -> Engine {
    Engine::start_with(store, options, session_engine::Parts::default()).await.unwrap()
}

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
/// How far the clocks of a store's servers may be apart, and how coarse they may be.
pub(crate) const SLACK: Duration = Duration::from_millis(100);
/// In the year 1900, and at the end of the year 9999.
pub(crate) const LONG_AGO: Timestamp = Timestamp::from_micros(-2_208_988_800_000_000);
pub(crate) const FAR_AHEAD: Timestamp = Timestamp::from_micros(253_402_300_799_999_999);
/// More than a walk over the cases' sessions takes.
const MOST_CALLS: usize = 10_000;
/// More than the cases' concurrent writers can cause in a row.
const MOST_CONFLICTS: usize = 1000;
