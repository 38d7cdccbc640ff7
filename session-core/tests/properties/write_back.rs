use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use session_core::Timestamp;
use session_core::cleanup::MAX_CLOCK_SKEW;
use session_core::usage::{AccessEffect, Activity, Lifetime, Timeouts, Unstored, WriteBack};

use crate::strategy::at;

/// What a flusher that does what it is asked for does.
struct Node {
    rule: WriteBack,
    timeouts: Timeouts,
    activity: Activity,
    planned: Option<Timestamp>,
    unstored: Vec<Timestamp>,
    stored: Timestamp,
}

impl Node {
    fn new(rule: WriteBack, timeouts: Timeouts) -> Self {
        let activity = Activity::stored(at(0), Vec::new());
        Self { rule, timeouts, activity, planned: None, unstored: Vec::new(), stored: at(0) }
    }

    fn pass_time(&mut self, now: Timestamp) {
        if self.planned.is_some_and(|planned| planned <= now) {
            self.flush();
        }
    }

    fn access(&mut self, now: Timestamp) {
        self.unstored.push(now);
        match self.activity.access(&self.rule, &self.timeouts, None, now) {
            AccessEffect::None => {}
            AccessEffect::Plan(planned) => self.planned = Some(planned),
            AccessEffect::Due => self.flush(),
        }
    }

    fn flush(&mut self) {
        let taken =
            self.activity.take().expect("a flush is only asked for when there is something");
        self.activity.confirm(&taken);
        assert!(taken.last_accessed >= self.stored, "moved backwards");
        self.stored = taken.last_accessed;
        self.planned = None;
        self.unstored.clear();
    }
}

/// A flusher whose calls take their time. It flushes other sessions, too.
struct SlowNode {
    rule: WriteBack,
    timeouts: Timeouts,
    activity: Activity,
    due: Option<Timestamp>,
    next_flush: Timestamp,
    /// What the call under way takes, and when the store has it.
    leaving: Option<(Unstored, Timestamp)>,
    stored: Timestamp,
}

impl SlowNode {
    fn new(rule: WriteBack, timeouts: Timeouts) -> Self {
        let activity = Activity::stored(at(0), Vec::new());
        let (due, leaving) = (None, None);
        Self { rule, timeouts, activity, due, next_flush: at(1), leaving, stored: at(0) }
    }

    /// Whether the store lacks a use that was accepted.
    fn is_behind(&self) -> bool {
        self.stored < self.activity.last_accessed()
    }

    fn access(&mut self, now: Timestamp) {
        match self.activity.access(&self.rule, &self.timeouts, None, now) {
            AccessEffect::None => {}
            AccessEffect::Plan(planned) => self.due = Some(planned),
            AccessEffect::Due => self.due = Some(now),
        }
    }

    /// A flush that begins now takes so long.
    fn pass_time(&mut self, now: Timestamp, call: Duration) {
        if let Some((taken, _)) = self.leaving.take_if(|(_, arrives)| *arrives <= now) {
            self.activity.confirm(&taken);
            self.stored = taken.last_accessed;
        }
        if self.next_flush > now {
            return;
        }
        self.next_flush = now.plus(call + self.rule.flush_interval);
        if self.due.take_if(|due| *due <= now).is_some() {
            let taken = self.activity.take().expect("it is due only with something unstored");
            self.leaving = Some((taken, now.plus(call)));
        }
    }
}

const STORE_TIMEOUT: u64 = 5;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_lag_never_exceeds_either_bound(
        gaps in vec(0..40_u64, 1..200), every_hits in 1..20_u32, idle in prop::option::of(1..400_u64),
    ) {
        let timeouts = Timeouts::none().with_idle(idle.map(Duration::from_secs));
        let rule = WriteBack::default().with_every_hits(every_hits);
        let mut node = Node::new(rule, timeouts);
        let mut second = 0;
        for gap in gaps {
            for _ in 0..gap {
                second += 1;
                node.pass_time(at(second));
                let oldest = node.unstored.first().copied().unwrap_or(at(second));
                prop_assert!(at(second).since(oldest) < rule.max_delay);
            }
            node.access(at(second));
            prop_assert!(node.unstored.len() < every_hits as usize);
        }
    }

    /// Another node reads only the store: it must not take a session in use for idle.
    #[test]
    fn no_other_node_takes_a_session_in_use_for_idle(
        gaps in vec(1..200_u64, 1..100), idle in 8..400_u64,
    ) {
        let timeouts = Timeouts::none().with_idle(Duration::from_secs(idle));
        let mut node = Node::new(WriteBack::default(), timeouts);
        let mut second = 0;
        for gap in gaps {
            for _ in 0..gap.min(idle - 1) {
                second += 1;
                node.pass_time(at(second));
                prop_assert!(!timeouts.expired(node.stored, None, at(second)));
            }
            node.access(at(second));
        }
    }

    /// Nor may it end the session while a use that was accepted is on its way, however slow each call
    /// of the store is within its time limit.
    #[test]
    fn no_session_ends_as_idle_while_a_use_is_on_its_way(
        gaps in vec(1..200_u64, 1..60), idle in 1..200_u64,
        calls in vec(0..=STORE_TIMEOUT, 1..60), every_hits in 1..20_u32,
    ) {
        let timeouts = Timeouts::none().with_idle(Duration::from_secs(idle));
        let rule = WriteBack::default()
            .with_every_hits(every_hits)
            .with_flush_interval(Duration::from_secs(1));
        let in_flight = rule.in_flight(Duration::from_secs(STORE_TIMEOUT)) - MAX_CLOCK_SKEW;
        let mut node = SlowNode::new(rule, timeouts);
        let mut calls = calls.into_iter().cycle().map(Duration::from_secs);
        let mut second = 0;
        for gap in gaps {
            for _ in 0..gap.min(idle) {
                let lifetime = timeouts.lifetime(node.stored, None, in_flight, at(second));
                let is_unused = matches!(lifetime, Lifetime::Unused { .. });
                prop_assert!(!(is_unused && node.is_behind()), "at {second} s");
                second += 1;
                node.pass_time(at(second), calls.next().unwrap());
            }
            if !timeouts.expired(node.activity.last_accessed(), None, at(second)) {
                node.access(at(second));
            }
        }
    }

    #[test]
    fn last_accessed_never_moves_back(times in vec(0..1000_u64, 1..50), fail in vec(any::<bool>(), 50)) {
        let (rule, timeouts) = (WriteBack::default(), Timeouts::none());
        let mut activity = Activity::stored(at(500), Vec::new());
        let (mut stored, mut newest) = (at(500), at(500));
        for (time, fail) in times.into_iter().zip(fail) {
            activity.access(&rule, &timeouts, None, at(time));
            newest = newest.max(at(time));
            prop_assert_eq!(activity.last_accessed(), newest);
            let taken = activity.take().unwrap();
            if fail {
                activity.give_back(taken);
                prop_assert!(activity.is_unstored());
            } else {
                prop_assert!(taken.last_accessed >= stored);
                stored = taken.last_accessed;
                activity.confirm(&taken);
            }
        }
    }

    #[test]
    fn timeouts_are_monotone(
        used in 0..1000_u64, now in 0..2000_u64, later in 0..1000_u64,
        idle in prop::option::of(0..500_u64), expiry in prop::option::of(0..2000_u64),
    ) {
        let timeouts = Timeouts::none().with_idle(idle.map(Duration::from_secs));
        let expired = |used: u64, now: u64| timeouts.expired(at(used), expiry.map(at), at(now));
        // Once expired, expired for good; a later use or a longer timeout never expires earlier.
        prop_assert!(!expired(used, now) || expired(used, now + later));
        prop_assert!(expired(used, now) || !expired(used + later, now));
        let longer = timeouts.with_idle(timeouts.idle.map(|i| i * 2));
        prop_assert!(expired(used, now) || !longer.expired(at(used), expiry.map(at), at(now)));
    }
}
