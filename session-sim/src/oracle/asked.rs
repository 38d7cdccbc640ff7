//! What callers have asked to end and to set: nothing else ends, but for its age, for a limit or for theft,
//! and nothing else is set.

use session_core::block::Block;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::Selection;
use session_core::{EndCause, SessionId, Timestamp};

use super::carried::covers;
use super::{Begun, Guarantee, Known, Oracle, ms};
use crate::plan::Ms;

/// An operation may end these sessions in this way.
pub(super) struct Asked {
    by: usize,
    node: usize,
    from: Ms,
    /// What it has sent may arrive until then. None while it is not over, and where its caller has gone away.
    until: Option<Ms>,
    ends: Ends,
}

/// What an operation may end, and how.
pub(crate) struct Ends {
    pub(crate) cause: EndCause,
    pub(crate) sessions: Selection,
    /// It deletes what is kept of them, too.
    pub(crate) erases: bool,
}

impl Oracle {
    /// An operation has begun that is to end these, or may.
    pub(crate) fn asks(&mut self, by: usize, begun: &Begun, ends: Ends) {
        let (node, from) = (begun.node, begun.at);
        self.asked.push(Asked { by, node, from, until: None, ends });
    }

    /// An operation has been answered.
    pub(crate) fn answered(&mut self, by: usize, at: Ms) {
        self.asks_no_more(at, |asked| asked.by == by);
    }

    /// A process is gone, and what it worked on.
    pub(super) fn asks_no_more(&mut self, at: Ms, which: impl Fn(&Asked) -> bool) {
        let until = at + 2 * ms(self.options.store_timeout);
        for asked in self.asked.iter_mut().filter(|asked| which(asked)) {
            asked.until.get_or_insert(until);
        }
    }

    /// Whether what is kept of a session that has ended may have been deleted.
    pub(super) fn may_be_erased(&self, known: &Known) -> bool {
        let ended = known.ended.map_or(0, |end| end.at);
        self.asked.iter().any(|asked| {
            let in_time = asked.until.is_none_or(|until| ended <= until);
            asked.ends.erases && in_time && covers(&asked.ends.sessions, &known.session)
        })
    }

    /// A session ends: some operation must have asked to end it so.
    pub(super) fn check_asked(&mut self, at: Ms, id: SessionId, cause: EndCause) {
        let Some(known) = self.sessions.get(&id) else { return };
        let allows = |asked: &Asked| {
            let in_time = asked.from <= at && asked.until.is_none_or(|until| at <= until);
            let Ends { cause: asked, sessions, .. } = &asked.ends;
            in_time && *asked == cause && covers(sessions, &known.session)
        };
        if !self.asked.iter().any(allows) {
            self.broken(Guarantee::Unasked, at, || {
                format!("{id} ends as {cause:?}, and nobody has asked for it")
            });
        }
    }
}

/// What a place is to have.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Setting {
    Policy(Option<Policy>),
    NoBlock,
    /// A block, and until when.
    Block(Option<Timestamp>),
}

impl Oracle {
    /// An operation has begun that is to set this.
    pub(crate) fn asks_to_set(&mut self, begun: &Begun, scope: PolicyScope, setting: Setting) {
        self.settings.push((begun.at, scope, setting));
    }

    /// The store has this now: some operation has asked for it.
    pub(super) fn check_setting(&mut self, at: Ms, scope: &PolicyScope, setting: &Setting) {
        let mut asked = self.settings.iter();
        if !asked.any(|(_, place, wanted)| place == scope && wanted == setting) {
            self.broken(Guarantee::Set, at, || {
                format!("{setting:?} is set for {scope:?}, and nobody has asked for it")
            });
        }
    }

    /// A node has answered that this is set: the store has carried it out since it was asked for.
    pub(crate) fn set(&mut self, at: Ms, begun: &Begun, scope: &PolicyScope, setting: &Setting) {
        let since = |set: &Ms| *set >= begun.at;
        let is_set = match setting {
            Setting::Policy(wanted) => self
                .policies
                .iter()
                .any(|(set, place, policy)| since(set) && place == scope && policy == wanted),
            Setting::Block(_) | Setting::NoBlock => {
                self.blocks.iter().any(|(set, place, block)| {
                    since(set) && place == scope && Setting::of_block(block.as_ref()) == *setting
                })
            }
        };
        if !is_set && !self.restored_since(begun.at) {
            self.broken(Guarantee::Set, at, || {
                format!("{setting:?} is said to be set for {scope:?}, and is not")
            });
        }
    }
}

impl Setting {
    pub(super) fn of_block(block: Option<&Block>) -> Self {
        block.map_or(Self::NoBlock, |block| Self::Block(block.until))
    }
}

impl Asked {
    pub(super) const fn is_of(&self, node: usize) -> bool {
        self.node == node
    }
}
