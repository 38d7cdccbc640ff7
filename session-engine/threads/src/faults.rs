//! The faults that the models have to find: what a hurried change could make of the engine.

/// A change of the engine's code.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) module: &'static str,
    pub(crate) correct: &'static str,
    /// `FAULT` is whether it is planted.
    pub(crate) wrong: &'static str,
}

const fn fault(
    name: &'static str,
    module: &'static str,
    correct: &'static str,
    wrong: &'static str,
) -> Fault {
    Fault { name, module, correct, wrong }
}

pub(crate) const FAULTS: [Fault; 24] = [
    fault(
        "a fill looks at no mark",
        "cache",
        "slots.get_mut(&id).map(std::mem::take) {",
        "slots.get_mut(&id).map(std::mem::take).filter(|_| !FAULT) {",
    ),
    fault(
        "a fill gives up its lock before it installs",
        "cache",
        "        entry.install(self.generation.load(Ordering::Acquire));\n",
        "        entry.install(self.generation.load(Ordering::Acquire));
        let _slots = if FAULT { drop(slots); None } else { Some(slots) };\n",
    ),
    fault(
        "an end marks no fill",
        "cache",
        "if let Some(slot) = slots.get_mut(&id) {",
        "if let Some(slot) = slots.get_mut(&id).filter(|_| !FAULT) {",
    ),
    fault(
        "an end leaves the entry",
        "cache",
        "if let Some(entry) = self.memory.remove(&id) {",
        "if let Some(entry) = self.memory.remove_unless(&id, FAULT) {",
    ),
    fault(
        "a change marks no fill",
        "cache",
        "if let Some(slot) = slots.get_mut(&id).filter(|slot| **slot == Slot::Clear) {",
        "if let Some(slot) = slots.get_mut(&id).filter(|slot| !FAULT && **slot == Slot::Clear) {",
    ),
    fault(
        "a change leaves the entry valid",
        "cache",
        "        if let Some(entry) = self.memory.entry(&id) {
            entry.mark_stale();",
        "        if let Some(entry) = self.memory.entry(&id).filter(|_| !FAULT) {
            entry.mark_stale();",
    ),
    fault(
        "a doubt marks no fill",
        "cache",
        "let unmarked = slots.values_mut().filter(|slot| **slot == Slot::Clear);",
        "let unmarked = slots.values_mut().filter(|slot| !FAULT && **slot == Slot::Clear);",
    ),
    fault(
        "a clear marks no fill",
        "cache",
        "slots.values_mut().for_each(|slot| *slot = Slot::Changed);",
        "slots.values_mut().filter(|_| !FAULT).for_each(|slot| *slot = Slot::Changed);",
    ),
    fault(
        "a clear begins no generation",
        "cache",
        "self.generation.fetch_add(1, Ordering::AcqRel);",
        "self.generation.fetch_add(u64::from(!FAULT), Ordering::AcqRel);",
    ),
    fault(
        "a reload forgets what the older copy has seen",
        "entry",
        "use_.activity.take_over(&mut older.activity);",
        "if !FAULT { use_.activity.take_over(&mut older.activity); }",
    ),
    fault(
        "a reload leaves the older copy what it takes over",
        "entry",
        "        use_.claimed |= older.claimed;\n",
        "        use_.claimed |= older.claimed;
        let mut copy = older.activity.clone();
        if FAULT { return use_.activity.take_over(&mut copy); }\n",
    ),
    fault(
        "a reload forgets that the session is claimed",
        "entry",
        "use_.claimed |= older.claimed;",
        "use_.claimed |= older.claimed && !FAULT;",
    ),
    fault(
        "a flush lets go between what it takes and the mark",
        "entry",
        "        (use_.due, use_.urgent) = (false, false);
        let unstored = use_.activity.take();",
        "        let unstored = use_.activity.take();
        if FAULT { drop(use_); use_ = self.use_(); }
        (use_.due, use_.urgent) = (false, false);",
    ),
    fault(
        "every access plans a write-back",
        "entry",
        "AccessEffect::Plan(_) if std::mem::replace(&mut use_.planned, true) => {",
        "AccessEffect::Plan(_) if !FAULT && std::mem::replace(&mut use_.planned, true) => {",
    ),
    fault(
        "an access does not notice that there was no room",
        "entry",
        "if effect == AccessEffect::None && !use_.planned && !use_.due {",
        "if !FAULT && effect == AccessEffect::None && !use_.planned && !use_.due {",
    ),
    fault(
        "what is due is queued again",
        "queue",
        "        if !use_.due || (is_urgent && !use_.urgent) {",
        "        if FAULT || !use_.due || (is_urgent && !use_.urgent) {",
    ),
    fault(
        "what found no room counts as queued",
        "queue",
        "let has_room = self.waiting().due.add(tick, entry, self.capacity);",
        "let has_room = self.waiting().due.add(tick, entry, self.capacity) || FAULT;",
    ),
    fault(
        "a flush that is dropped gives nothing back",
        "queue",
        "            entry.use_().activity.give_back(unstored);\n",
        "            if FAULT { continue; }
            entry.use_().activity.give_back(unstored);\n",
    ),
    fault(
        "what comes back from a flush is not queued",
        "queue",
        "self.give_back(|entry| queue.due_or_dropped(entry));",
        "self.give_back(|entry| if !FAULT { queue.due_or_dropped(entry) });",
    ),
    fault(
        "a read that has ended can be joined",
        "reads",
        "        drop(self.place);\n",
        "        if FAULT { self.found.send_replace(Some(found)); return; }
        drop(self.place);\n",
    ),
    fault(
        "a read that was given up is still waited for",
        "reads",
        "self.reads.running().remove(&self.id);",
        "if !FAULT { self.reads.running().remove(&self.id); }",
    ),
    fault(
        "a doubt hides an end",
        "watchers",
        "        Seen::Ended(_) => false,
        Seen::Nothing | Seen::Doubt => {",
        "        Seen::Ended(_) if !FAULT => false,
        _ => {",
    ),
    fault(
        "the first watcher who leaves takes the others along",
        "watchers",
        "|signal| signal.receiver_count() == 0)",
        "|signal| FAULT || signal.receiver_count() == 0)",
    ),
    fault(
        "the last watcher leaves the session behind",
        "watchers",
        "            watched.remove(&self.id);\n",
        "            if !FAULT { watched.remove(&self.id); }\n",
    ),
];
