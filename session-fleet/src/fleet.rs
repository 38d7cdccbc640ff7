//! Several demo processes on one store, and the people who use them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hyper::StatusCode;
use session_benches::Failure;
use tokio::time::timeout;

use crate::books::{BUSY, Books, Limits, What};
use crate::client::{Answer, Client};
use crate::node::{Node, Start};
use crate::people::{People, Session, State};
use crate::proxy::Proxy;
use crate::store::{Server, Store};

/// What a fleet is started with.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) program: PathBuf,
    pub(crate) store: Store,
    pub(crate) nodes: usize,
    /// For the logs of the nodes, and the file of a store that is one.
    pub(crate) folder: PathBuf,
    /// The demo's `--set`.
    pub(crate) settings: Vec<String>,
    pub(crate) limits: Limits,
    /// Whether the last node reaches its store through a proxy, where the store is one server.
    pub(crate) is_proxied: bool,
    /// The library of `libfaketime`: with it the last node but one has a clock that can be set.
    pub(crate) faketime: Option<PathBuf>,
    /// The defect of every node.
    pub(crate) planted: Option<String>,
}

/// A fleet at work.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) store: Store,
    pub(crate) nodes: Vec<Node>,
    /// In front of the store, for the last node.
    pub(crate) proxy: Option<Proxy>,
    /// The file with the time of the last node but one.
    pub(crate) clock: Option<PathBuf>,
    pub(crate) books: Books,
    pub(crate) people: People,
    pub(crate) limits: Limits,
    admin: String,
}

impl Fleet {
    /// Starts the nodes one after the other and signs the users in who stay.
    pub(crate) async fn start(plan: Plan) -> Result<Self, Failure> {
        // What an earlier run left there is no part of this fleet.
        let _ = std::fs::remove_dir_all(&plan.folder);
        std::fs::create_dir_all(&plan.folder)?;
        let url = plan.store.url(&plan.folder)?;
        let proxy = if plan.is_proxied && plan.store.is_one_server() {
            Some(Proxy::start(Server::of(&url)?.address.to_owned()).await?)
        } else {
            None
        };
        let clock = plan.faketime.as_ref().map(|_| plan.folder.join("clock"));
        if let Some(clock) = &clock {
            std::fs::write(clock, "+0\n")?;
        }
        let mut nodes = Vec::new();
        for number in 0..plan.nodes {
            let mut start = plan.start_of(number, &url);
            if let Some(proxy) = proxy.as_ref().filter(|_| number + 1 == plan.nodes) {
                start.arguments[1] = Server::of(&url)?.at(proxy.address);
            }
            if let Some(clock) = clock.as_ref().filter(|_| number + 2 == plan.nodes) {
                start.environment.extend(plan.clock_of(clock));
            }
            nodes.push(Node::start(start).await?);
        }
        let admin = Client::new(nodes[0].address).sign_in("root").await;
        let admin = admin.and_then(|answer| answer.cookie).ok_or("the admin cannot sign in")?;
        let books = Books::new(plan.limits, plan.nodes);
        let people = People::default();
        let (store, limits) = (plan.store, plan.limits);
        let fleet = Self { store, nodes, proxy, clock, books, people, limits, admin };
        fleet.sign_everyone_in().await?;
        Ok(fleet)
    }

    async fn sign_everyone_in(&self) -> Result<(), Failure> {
        for n in 0..KEEP {
            let node = n % self.nodes.len();
            let mut client = Client::new(self.nodes[node].address);
            let begun = self.sign_in(node, &mut client, USERS[n % USERS.len()]).await;
            self.people.begun(&begun.ok_or("a user cannot sign in")?);
        }
        Ok(())
    }

    /// A client of each node.
    pub(crate) fn clients(&self) -> Vec<Client> {
        self.nodes.iter().map(|node| Client::new(node.address)).collect()
    }

    /// Signs in; none where no answer says that it is done.
    pub(crate) async fn sign_in(
        &self,
        node: usize,
        client: &mut Client,
        user: &str,
    ) -> Option<Arc<Session>> {
        let sent = Instant::now();
        let answer = client.sign_in(user).await;
        let answer = self.done(node, What::SignIn, sent, answer)?;
        Session::of(user, &answer.cookie?).map(Arc::new)
    }

    /// Asks for a page, and has the answer judged.
    pub(crate) async fn visit(
        &self,
        node: usize,
        client: &mut Client,
        session: &Session,
    ) -> Option<StatusCode> {
        let sent = Instant::now();
        let answer = client.get("/whoami", &session.cookie()).await;
        self.books.judge(node, What::Page(session.state()), sent, answer.as_ref());
        let answer = answer?;
        if answer.status == StatusCode::OK {
            session.accepted_by(node);
            if !session.is_named_by(&answer.body) {
                self.books.complain(format!("node {node} shows the page of someone else"));
            }
        }
        Some(answer.status)
    }

    /// Revokes a session as the admin; false where no answer says that it is done.
    pub(crate) async fn revoke(&self, node: usize, client: &mut Client, session: &Session) -> bool {
        let what = match session.becomes(State::Ending) {
            State::Live => What::Revocation,
            State::Ending | State::Ended(_) => What::RevocationAgain,
        };
        let (path, sent) = (format!("/sessions/admin/sessions/{}", session.id), Instant::now());
        let answer = client.delete(&path, &self.admin).await;
        let is_done = self.done(node, what, sent, answer).is_some();
        if is_done {
            session.becomes(State::Ended(Instant::now()));
        }
        is_done
    }

    /// Raises the count in a session's data by one; false where no answer says that it was.
    pub(crate) async fn count(&self, node: usize, client: &mut Client, session: &Session) -> bool {
        let sent = Instant::now();
        let answer = client.post("/count", &session.cookie()).await;
        let is_done = self.done(node, What::Change, sent, answer).is_some();
        session.counted(is_done);
        is_done
    }

    /// Rotates a session's token; false where no answer has brought the next one.
    pub(crate) async fn rotate(&self, node: usize, client: &mut Client, session: &Session) -> bool {
        let sent = Instant::now();
        let answer = client.post("/rotate", &session.cookie()).await;
        let cookie = self.done(node, What::Rotation, sent, answer).and_then(|answer| answer.cookie);
        if let Some(cookie) = &cookie {
            session.rotated(cookie);
        }
        cookie.is_some()
    }

    /// Has the answer judged, and returns it if it says that this is done.
    fn done(
        &self,
        node: usize,
        what: What,
        sent: Instant,
        answer: Option<Answer>,
    ) -> Option<Answer> {
        self.books.judge(node, what, sent, answer.as_ref());
        answer.filter(|answer| what.is_done(answer))
    }

    /// What a node's `/metrics` says.
    pub(crate) async fn metrics_of(&self, node: usize) -> Result<String, Failure> {
        let answer = Client::new(self.nodes[node].address).get("/metrics", "").await;
        let answer = answer.ok_or_else(|| format!("node {node} does not answer"))?;
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }

    /// What those of all nodes say.
    pub(crate) async fn metrics(&self) -> Result<Vec<String>, Failure> {
        let mut all = Vec::new();
        for node in 0..self.nodes.len() {
            all.push(self.metrics_of(node).await?);
        }
        Ok(all)
    }

    /// Reads a page of the admin's API.
    pub(crate) async fn read(&self, node: usize, path: &str) -> Result<serde_json::Value, Failure> {
        let answer = Client::new(self.nodes[node].address).get(path, &self.admin).await;
        let answer = answer.ok_or_else(|| format!("node {node} does not answer"))?;
        if answer.status != StatusCode::OK {
            return Err(format!("{path}: {}", answer.status).into());
        }
        Ok(serde_json::from_slice(&answer.body)?)
    }

    /// Whether a sign-in on each node, visits of all nodes and revocations on each go as they should, now.
    pub(crate) async fn works(&self) -> bool {
        // One that has waited too long is not used again.
        let clients = &mut self.clients();
        let begun = clients.iter_mut().enumerate();
        let user = |node: usize| USERS[node % USERS.len()];
        let begun = begun.map(|(node, client)| self.sign_in(node, client, user(node)));
        let Ok(begun) = timeout(BUSY, join_all(begun)).await else { return false };
        let Some(begun) = begun.into_iter().collect::<Option<Vec<_>>>() else { return false };
        if !self.all_answer(clients, &begun, StatusCode::OK).await {
            return false;
        }
        // Each node revokes what the next one began.
        let each = clients.iter_mut().zip(begun.iter().cycle().skip(1)).enumerate();
        let revoked = each.map(|(node, (client, session))| self.revoke(node, client, session));
        let revoked = timeout(BUSY, join_all(revoked)).await;
        begun.iter().filter(|session| session.ended_at().is_some()).for_each(|session| {
            self.people.ended(session);
        });
        if !revoked.is_ok_and(|revoked| revoked.iter().all(|is_done| *is_done)) {
            return false;
        }
        let revoked = Instant::now();
        while !self.all_answer(clients, &begun, StatusCode::UNAUTHORIZED).await {
            if revoked.elapsed() > self.limits.bound + BUSY {
                return false;
            }
            tokio::time::sleep(SOON).await;
        }
        true
    }

    /// Whether the first node takes a sign-in at once.
    pub(crate) async fn takes_sign_ins(&self) -> bool {
        let client = &mut Client::new(self.nodes[0].address);
        let begun = timeout(BUSY, self.sign_in(0, client, USERS[0])).await.ok().flatten();
        if let Some(session) = &begun {
            self.people.begun(session);
        }
        begun.is_some()
    }

    /// Whether every node answers this to each of these, soon.
    async fn all_answer(
        &self,
        clients: &mut [Client],
        sessions: &[Arc<Session>],
        with: StatusCode,
    ) -> bool {
        let answers = clients.iter_mut().enumerate().map(|(node, client)| async move {
            for session in sessions {
                if self.visit(node, client, session).await != Some(with) {
                    return false;
                }
            }
            true
        });
        let answers = timeout(BUSY, join_all(answers)).await;
        answers.is_ok_and(|answers| answers.iter().all(|is_so| *is_so))
    }

    /// Looks at every signed-in user on every node: each has to be welcome.
    pub(crate) async fn census(&self) {
        let mut clients = self.clients();
        for session in self.people.all_live() {
            for (node, client) in clients.iter_mut().enumerate() {
                self.visit(node, client, &session).await;
            }
        }
    }
}

impl Plan {
    fn start_of(&self, number: usize, url: &str) -> Start {
        let mut arguments = vec!["--store".to_owned(), url.to_owned()];
        for setting in &self.settings {
            arguments.extend(["--set".to_owned(), setting.clone()]);
        }
        let log = self.folder.join(format!("node-{number}.log"));
        let planted = self.planted.iter();
        let environment = planted.map(|defect| ("SESSION_KIT_PLANTED".to_owned(), defect.clone()));
        Start { program: self.program.clone(), arguments, environment: environment.collect(), log }
    }

    /// Only the wall clock is another one.
    fn clock_of(&self, clock: &Path) -> Vec<(String, String)> {
        let library = self.faketime.as_deref().unwrap_or(clock);
        [
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", clock.display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}

/// Between two looks at whether all nodes refuse.
const SOON: Duration = Duration::from_millis(5);
/// The users of the demo whose number of sessions matters to none.
pub(crate) const USERS: [&str; 6] =
    ["alice", "bob", "north/alice", "north/boss", "south/alice", "south/bob"];
/// The sessions that no one revokes.
pub(crate) const KEEP: usize = 60;
