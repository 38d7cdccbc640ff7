//! What users saw, over time.

use std::time::{Duration, Instant};

use hyper::StatusCode;

use crate::client::Answer;

/// What a user saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// 200.
    Page,
    /// 401.
    Refused,
    /// 503.
    Unavailable,
    /// Anything else, or nothing.
    Nothing,
}

impl Seen {
    pub(crate) const ALL: [Self; 4] = [Self::Page, Self::Refused, Self::Unavailable, Self::Nothing];

    pub(crate) fn of(answer: Option<&Answer>) -> Self {
        match answer.map(|answer| answer.status) {
            Some(StatusCode::OK) => Self::Page,
            Some(StatusCode::UNAUTHORIZED) => Self::Refused,
            Some(StatusCode::SERVICE_UNAVAILABLE) => Self::Unavailable,
            _ => Self::Nothing,
        }
    }

    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Page => "200",
            Self::Refused => "401",
            Self::Unavailable => "503",
            Self::Nothing => "no answer",
        }
    }
}

/// How often each was seen in a slice of time.
pub(crate) type Slice = [u32; Seen::ALL.len()];

/// The answers of each node, in slices of time.
#[derive(Debug)]
pub(crate) struct Timeline {
    begun: Instant,
    nodes: Vec<Vec<Slice>>,
    marks: Vec<(&'static str, Duration)>,
}

impl Timeline {
    pub(crate) fn start(nodes: usize) -> Self {
        Self { begun: Instant::now(), nodes: vec![Vec::new(); nodes], marks: Vec::new() }
    }

    pub(crate) fn note(&mut self, node: usize, seen: Seen) {
        let slice = (self.now().as_millis() / SLICE.as_millis()) as usize;
        let slices = &mut self.nodes[node];
        if slices.len() <= slice {
            slices.resize(slice + 1, Slice::default());
        }
        slices[slice][seen as usize] += 1;
    }

    pub(crate) fn mark(&mut self, what: &'static str) {
        self.marks.push((what, self.now()));
    }

    pub(crate) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(crate) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn slices(&self, node: usize) -> &[Slice] {
        &self.nodes[node]
    }

    pub(crate) fn marks(&self) -> &[(&'static str, Duration)] {
        &self.marks
    }

    /// How many slices the longest row has.
    pub(crate) fn length(&self) -> usize {
        self.nodes.iter().map(Vec::len).max().unwrap_or_default()
    }

    /// How often something was seen, on all nodes.
    pub(crate) fn total(&self, seen: Seen) -> u64 {
        (0..self.nodes()).map(|node| self.total_of(node, seen)).sum()
    }

    /// The same on one node.
    pub(crate) fn total_of(&self, node: usize, seen: Seen) -> u64 {
        self.nodes[node].iter().map(|slice| u64::from(slice[seen as usize])).sum()
    }
}

/// The length of a slice.
pub(crate) const SLICE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_node_and_time() {
        let mut timeline = Timeline::start(2);
        timeline.note(1, Seen::Page);
        timeline.note(1, Seen::Unavailable);
        timeline.begun -= SLICE * 3;
        timeline.note(1, Seen::Page);
        assert_eq!(timeline.slices(1)[0], [1, 0, 1, 0]);
        assert_eq!(timeline.slices(1)[3], [1, 0, 0, 0]);
        assert_eq!((timeline.length(), timeline.slices(0).len()), (4, 0));
        assert_eq!(timeline.total(Seen::Page), 2);
    }
}
