//! A process that dies while a store of its own is at work.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use session_core::block::Block;
use session_core::policy::PolicyScope;
use session_core::store::record::{decode_session, encode_session};
use session_core::store::{BlockChange, Change, Outcome, PolicyChange};
use session_core::{
    Actor, EndCause, Event, EventKind, FleetKey, Session, SessionId, Store, UserKey,
};

use crate::sample::{
    about, add, at_most, begins, commit, log_end, now, random, read_log, revoke, rotated, session,
    updates, user_in,
};

/// Kills a process (`kill -9`) while four tasks in it begin, rotate and end sessions, set policies
/// and block users in an embedded store: a file or a folder that the process opens by itself.
/// Everything that was acknowledged is there when the store is opened again, in the records and in
/// the log; what has ended is in the history; the change that was under way has happened or has not;
/// the fleet's key is the same; and the store goes on. Three times.
///
/// Call it from a test of its own, with the test's name and a folder that is empty. The test's
/// program is started again, with this test only, as the process that is killed: what stands before
/// the call runs there, too.
///
/// `examples/own-store/tests/crash.rs` is such a test.
///
/// # Panics
/// When any of it does not hold.
pub async fn a_kill_loses_nothing<F: Future<Output = Arc<dyn Store>>>(
    test: &str,
    folder: &Path,
    open: impl Fn(PathBuf) -> F,
) {
    if let Some(folder) = std::env::var_os(FOLDER) {
        work(&open(folder.into()).await).await;
        return;
    }
    for (kill_after, first) in [(1, 1), (50, MOST_ROUNDS), (200, 2 * MOST_ROUNDS)] {
        let store = open(folder.to_owned()).await;
        let mut cursor = log_end(store.as_ref()).await;
        drop(store);
        let (test, of_child) = (test.to_owned(), folder.to_owned());
        let run = move || run_and_kill(&test, &of_child, first, kill_after);
        let told = tokio::task::spawn_blocking(run).await.unwrap();
        assert!(told.acknowledged >= kill_after, "the process made {} changes", told.acknowledged);
        let store = open(folder.to_owned()).await;
        told.is_there(store.as_ref()).await;
        let log = read_log(store.as_ref(), &mut cursor, 100).await;
        told.settings_are_told(&log, first);
        let log: HashSet<_> = log.iter().map(|event| (event.session, event.kind)).collect();
        for (id, kind) in &told.events {
            assert!(
                log.contains(&(Some(*id), *kind)),
                "the log has lost what was acknowledged: {kind} {id}"
            );
        }
        let session = add(store.as_ref(), &user_in("north", "after")).await;
        assert_eq!(revoke(store.as_ref(), session.id).await, 1, "the store goes on");
        println!("a kill: {} changes acknowledged, all there", told.acknowledged);
    }
}

/// What a process acknowledged before it was killed.
#[derive(Default)]
struct Told {
    acknowledged: usize,
    sessions: HashMap<SessionId, Option<Session>>,
    events: Vec<(SessionId, EventKind)>,
    key: Option<String>,
    /// The last number that each worker has written into its policy, and into its block.
    policies: HashMap<usize, u32>,
    blocks: HashMap<usize, u32>,
    under_way: HashSet<SessionId>,
}

impl Told {
    fn hear(&mut self, line: &str) {
        // The test harness may write something before it on the same line.
        let Some((_, line)) = line.split_once(MARK) else { return };
        let Some((word, rest)) = line.split_once(' ') else { return };
        if word == "tries" {
            self.under_way.insert(rest.parse().unwrap());
            return;
        }
        if word == "key" {
            self.key = Some(rest.to_owned());
            return;
        }
        self.acknowledged += 1;
        let settings = match word {
            "limited" => Some(&mut self.policies),
            "blocked" => Some(&mut self.blocks),
            _ => None,
        };
        if let Some(settings) = settings {
            let (worker, number) = rest.split_once(' ').unwrap();
            settings.insert(worker.parse().unwrap(), number.parse().unwrap());
            return;
        }
        let (id, kind, session) = if let Ok(id) = rest.parse() {
            (id, EventKind::Ended(EndCause::SignedOut), None)
        } else {
            let session = decode_session(rest.as_bytes()).unwrap();
            let kind = if word == "began" { EventKind::Created } else { EventKind::Rotated };
            (session.id, kind, Some(session))
        };
        self.under_way.remove(&id);
        self.events.push((id, kind));
        self.sessions.insert(id, session);
    }

    async fn is_there(&self, store: &dyn Store) {
        for (id, expected) in &self.sessions {
            let found = store.load(*id).await.unwrap().map(|loaded| loaded.session);
            if let Some(found) = &found {
                let state = store.user(&found.owner).await.unwrap();
                let listed = state.sessions.iter().any(|session| session.id == *id);
                assert!(listed, "{id} is read and is none of its user's");
            }
            let ended = store.ended(*id).await.unwrap();
            assert_eq!(
                found.is_none(),
                ended.is_some(),
                "{id} was acknowledged: it lives or has ended"
            );
            if !self.under_way.contains(id) {
                assert_eq!(found, *expected, "{id} is not as it was acknowledged");
            }
        }
        assert_eq!(
            self.key,
            Some(key(store).await),
            "not the key of the fleet that was acknowledged"
        );
        // The next one may have been under way.
        for (worker, number) in &self.policies {
            let found = store.policy(&PolicyScope::User(owner(*worker))).await.unwrap();
            let may_be = [*number, *number + 1].map(|number| Some(at_most(number)));
            assert!(may_be.contains(&found), "not the policy that was acknowledged: {found:?}");
        }
        for (worker, number) in &self.blocks {
            let found = store.block(&PolicyScope::User(blocked(*worker))).await.unwrap();
            let found = found.and_then(|block| block.reason?.as_str().parse().ok());
            let may_be = [*number, *number + 1].map(Some);
            assert!(may_be.contains(&found), "not the block that was acknowledged: {found:?}");
        }
    }

    /// Each worker sets a policy and a block in each round.
    fn settings_are_told(&self, log: &[Event], first: u32) {
        let all = [
            (&self.policies, EventKind::PolicyChanged, owner as fn(usize) -> UserKey),
            (&self.blocks, EventKind::BlockSet, blocked),
        ];
        for (last, kind, concerned) in all {
            for (worker, number) in last {
                let told = about(log, &concerned(*worker));
                let told = told.iter().filter(|event| event.kind == kind).count();
                let least = (number - first + 1) as usize;
                assert!(told >= least, "the log has lost what was acknowledged: {kind}");
            }
        }
    }
}

fn run_and_kill(test: &str, folder: &Path, first: u32, kill_after: usize) -> Told {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    command.args([test, "--exact", "--nocapture", "--include-ignored"]).env(FOLDER, folder);
    command.env(FIRST, first.to_string());
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut child = Killed(child);
    let lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let mut told = Told::default();
    for line in lines {
        told.hear(&line.unwrap());
        if told.acknowledged == kill_after {
            // What it has written so far is still in the pipe.
            child.0.kill().unwrap();
        }
    }
    told
}

/// A child that does not outlive this.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Changes sessions until it is killed, and acknowledges each change on the standard output.
async fn work(store: &Arc<dyn Store>) {
    say("key", &key(store.as_ref()).await);
    let first: u32 = std::env::var(FIRST).unwrap().parse().unwrap();
    let mut workers = tokio::task::JoinSet::new();
    for n in 0..WORKERS {
        let store = Arc::clone(store);
        workers.spawn(async move {
            for round in (first..).take(MOST_ROUNDS as usize) {
                one_session(store.as_ref(), n).await;
                settings(store.as_ref(), n, round).await;
            }
        });
    }
    workers.join_all().await;
}

async fn one_session(store: &dyn Store, worker: usize) {
    let mut session = session(store, &owner(worker), now(store).await);
    let id = session.id;
    change(store, &session, begins(&session)).await;
    say("began", &text(&session));
    session = rotated(&session, session.signed_in);
    change(store, &session, updates(&session)).await;
    say("rotated", &text(&session));
    // Every third one stays.
    if !id.as_bytes()[15].is_multiple_of(3) {
        change(store, &session, Change::End(id, EndCause::SignedOut)).await;
        say("ended", &id.to_string());
    }
}

async fn settings(store: &dyn Store, worker: usize, round: u32) {
    let (at, by) = (now(store).await, Actor::Application);
    let (scope, policy) = (PolicyScope::User(owner(worker)), Some(at_most(round)));
    store.set_policy(&PolicyChange { scope, policy, at, by: by.clone() }).await.unwrap();
    say("limited", &format!("{worker} {round}"));
    let reason = Some(round.to_string().parse().unwrap());
    let block = Some(Block { reason, until: None, since: at, by: by.clone() });
    let scope = PolicyScope::User(blocked(worker));
    store.set_block(&BlockChange { scope, block, at, by }).await.unwrap();
    say("blocked", &format!("{worker} {round}"));
}

/// The fleet's key, as text. It becomes one where there is none.
async fn key(store: &dyn Store) -> String {
    let key = store.fleet_key(&FleetKey::from_bytes(random())).await.unwrap();
    format!("{:?}", key.as_bytes())
}

fn owner(worker: usize) -> UserKey {
    user_in("north", &format!("worker {worker}"))
}

/// A user whom a worker blocks, and who has no sessions.
fn blocked(worker: usize) -> UserKey {
    user_in("north", &format!("blocked by worker {worker}"))
}

async fn change(store: &dyn Store, session: &Session, change: Change) {
    say("tries", &session.id.to_string());
    let outcome = commit(store, &session.owner, vec![change]).await;
    assert_eq!(outcome, Outcome::Done, "each worker has a user of its own");
}

fn text(session: &Session) -> String {
    String::from_utf8(encode_session(session)).unwrap()
}

/// In one write, so that what it says is told whole or not at all.
fn say(word: &str, what: &str) {
    let line = format!("{MARK}{word} {what}\n");
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).unwrap();
}

const FOLDER: &str = "SESSION_KIT_CRASH_FOLDER";
const FIRST: &str = "SESSION_KIT_CRASH_FIRST";
const MARK: &str = "session-kit: ";
const WORKERS: usize = 4;
/// A parent that dies leaves no child behind that works for ever.
const MOST_ROUNDS: u32 = 100_000;
