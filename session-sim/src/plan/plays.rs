//! Short plays of a few steps in which one client's requests meet, within milliseconds or at the edge of a
//! timeout: what steps at any time do too rarely.

use fastrand::Rng;
use session_core::policy::{Limit, OnExceed, Policy, Scope};
use session_engine::Options;

use super::{Act, Fault, Manner, Ms, Place, Step, Way, Weather};
use crate::oracle::ms;

/// One play, with a client that has just signed in.
pub(super) struct Play<'p> {
    options: &'p Options,
    begin: Ms,
    /// The client at two nodes.
    here: Way,
    there: Way,
    steps: Vec<Step>,
}

impl<'p> Play<'p> {
    /// Draws one that begins at this time.
    pub(super) fn draw(
        rng: &mut Rng,
        options: &'p Options,
        begin: Ms,
        client: usize,
        nodes: usize,
    ) -> Vec<Step> {
        let node = rng.usize(..nodes);
        let here = Way { client, node };
        let there = Way { client, node: (node + rng.usize(..nodes)) % nodes };
        let mut play = Self { options, begin, here, there, steps: Vec::new() };
        play.then(0, Act::SignIn(here, Manner::default()));
        match rng.u32(..12) {
            0 => play.theft(rng),
            1 => play.second_tab(rng),
            2 => play.end_beside_a_read(rng),
            3 => play.next_token_beside_a_read(rng),
            4 => play.end_where_it_is_cached(rng),
            5 => play.idle_elsewhere(rng),
            6 => play.write_back_in_a_storm(rng),
            7 => play.sign_ins_in_a_storm(rng),
            8 => play.ticket_twice(rng),
            9 => play.prefetches(rng),
            10 => play.slow_page(rng),
            _ => play.at_once(rng),
        }
        play.steps
    }

    fn then(&mut self, after: Ms, act: Act) {
        self.steps.push(Step::new(self.begin + after, act));
    }

    fn check(&mut self, after: Ms, way: Way) {
        self.then(after, Act::Check(way, 1));
    }

    fn grace(&self) -> Ms {
        ms(self.options.rotation_grace)
    }

    /// A copy is used when its owner has moved on: within the grace, or after it.
    fn theft(&mut self, rng: &mut Rng) {
        self.check(200, self.there);
        self.then(300, Act::Steal(self.here.client));
        self.then(400, Act::Rotate(self.here, Manner::default()));
        self.check(600, self.here);
        self.then(600 + rng.u64(..self.grace() + 9_000), Act::Thief(self.there));
    }

    /// A tab shows the token that another one has replaced, whose next one is first used late.
    fn second_tab(&mut self, rng: &mut Rng) {
        let first_use = 700 + rng.u64(..self.grace() * 2);
        let replaces = if rng.bool() { Act::Rotate } else { Act::StepUp };
        let late = rng.u64(..12_000);
        self.then(400 + late, replaces(self.here, Manner::default()));
        let first_use = first_use + late;
        self.check(first_use, self.here);
        self.then(first_use + 1 + rng.u64(..self.grace()), Act::SecondTab(self.there));
    }

    /// A page takes longer than the grace, and its token is replaced beside it in the meantime; or two tabs
    /// prove who the user is, with different tokens.
    fn slow_page(&mut self, rng: &mut Rng) {
        let works = 1_200 + self.grace() + rng.u64(..6_000);
        let slow = |works| Manner { works, ..Manner::default() };
        let replaces: fn(Way, Manner) -> Act = match rng.u32(..3) {
            0 => Act::Rotate,
            1 => Act::StepUp,
            _ => {
                let works = 500 + rng.u64(..self.grace());
                self.then(300, Act::SignIn(self.there, slow(works)));
                self.then(400, Act::Rotate(self.here, Manner::default()));
                self.check(600, self.here);
                self.then(700 + rng.u64(..200), Act::StepUp(self.here, Manner::default()));
                self.check(700 + works, self.there);
                self.check(900 + works + 2 * self.grace(), self.here);
                return;
            }
        };
        self.then(300, replaces(self.there, slow(works)));
        self.then(400, Act::Rotate(self.here, Manner::default()));
        self.check(600, self.here);
    }

    /// A session ends while another node reads it, whose answers have become slow.
    fn end_beside_a_read(&mut self, rng: &mut Rng) {
        self.check(500, self.there);
        self.slow_answers(502, rng);
        let by = if rng.bool() { self.here } else { self.there };
        self.then(500 + rng.u64(1..8), Act::Revoke(by));
        for _ in 0..4 {
            self.check(500 + rng.u64(1..4_000), self.there);
        }
    }

    /// A request with a new token joins a read that began before the token was there.
    fn next_token_beside_a_read(&mut self, rng: &mut Rng) {
        self.check(500, self.there);
        self.slow_answers(502, rng);
        self.then(500 + rng.u64(2..8), Act::Rotate(self.here, Manner::default()));
        self.check(540, self.there);
    }

    /// What is under way arrives, and its answer is slow.
    fn slow_answers(&mut self, after: Ms, rng: &mut Rng) {
        let weather = Fault::Weather(self.there.node, Weather::Slow, rng.u64(200..3_000));
        self.then(after, Act::Fault(weather));
    }

    /// The node that ends a session has it in its cache, and hears nothing.
    fn end_where_it_is_cached(&mut self, rng: &mut Rng) {
        self.check(300, self.here);
        self.then(400, Act::Fault(Fault::PushesLost(self.here.node, 3_000)));
        self.then(500, Act::Revoke(self.here));
        for _ in 0..3 {
            self.check(500 + rng.u64(1..100), self.here);
        }
    }

    /// The last use before the idle timeout is on another node than the first request after it.
    fn idle_elsewhere(&mut self, rng: &mut Rng) {
        let Some(idle) = self.options.timeouts.idle.map(ms) else { return };
        self.check(300, self.here);
        let before = if rng.bool() { 400 } else { 3_000 };
        self.check(300 + idle - rng.u64(1..before), self.there);
        self.check(300 + idle + rng.u64(..300), self.here);
        for _ in 0..2 {
            self.check(300 + idle + rng.u64(..22_000), self.here);
        }
    }

    /// A browser fetches ahead what nobody looks at, and the session is not used for longer than its timeout.
    fn prefetches(&mut self, rng: &mut Rng) {
        let Some(idle) = self.options.timeouts.idle.map(ms) else { return };
        self.check(300, self.here);
        for way in [self.here, self.there] {
            self.then(300 + idle * 3 / 4 + rng.u64(..idle / 8), Act::Passive(way));
        }
        let unsure = 2 * ms(self.options.store_timeout);
        self.check(300 + idle + unsure + rng.u64(500..1_500), self.here);
    }

    /// What was used is written back through a storm, and not used again.
    fn write_back_in_a_storm(&mut self, rng: &mut Rng) {
        let storm = Fault::Weather(self.there.node, Weather::Stormy, rng.u64(2_000..20_000));
        self.then(500, Act::Fault(storm));
        for _ in 0..4 {
            self.check(500 + rng.u64(..4_000), self.there);
        }
    }

    /// Sign-ins of one client, some of whose callers go away, under a limit of one.
    fn sign_ins_in_a_storm(&mut self, rng: &mut Rng) {
        let storm = Fault::Weather(self.there.node, Weather::Stormy, rng.u64(4_000..20_000));
        self.limit(100, 1);
        self.then(500, Act::Fault(storm));
        for _ in 0..4 {
            let leaves = rng.bool().then(|| rng.u64(..60));
            let (after, manner) = (600 + rng.u64(..4_000), Manner { leaves, ..Manner::default() });
            self.then(after, Act::SignOut(self.here));
            self.then(after + 200, Act::SignIn(self.there, manner));
        }
    }

    /// One ticket is used on two nodes at once.
    fn ticket_twice(&mut self, rng: &mut Rng) {
        self.then(300, Act::SignOut(self.here));
        self.limit(400, rng.u32(1..3));
        self.then(600, Act::SignIn(self.here, Manner::default()));
        for way in [self.here, self.there, self.there] {
            self.then(900 + rng.u64(..30), Act::Ticket(way, Manner::default()));
        }
    }

    fn limit(&mut self, after: Ms, max: u32) {
        let limit = Limit { max, scope: Scope::User, on_exceed: OnExceed::Reject };
        let policy = Some(Policy::limit(limit));
        self.then(after, Act::SetPolicy(self.here, Place::User, policy));
    }

    /// Changes of one user at the same moment.
    fn at_once(&mut self, rng: &mut Rng) {
        let block = Act::Block(self.there, Place::User, Some(4_000));
        for act in [Act::SignIn(self.here, Manner::default()), block] {
            self.then(3_000 + rng.u64(..6), act);
        }
        for way in [self.here, self.there, self.here, self.there] {
            self.then(500 + rng.u64(..6), Act::Data(way));
        }
    }
}
