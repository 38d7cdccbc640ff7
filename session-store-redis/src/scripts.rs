//! The scripts, each of one atomic step in one slot.

use redis::Script;

macro_rules! scripts {
    ($($name:ident: $text:expr),+ $(,)?) => {
        /// Known to the servers by their hashes.
        #[derive(Debug)]
        pub(crate) struct Scripts {
            $(pub(crate) $name: Source),+
        }

        impl Scripts {
            pub(crate) fn new() -> Self {
                Self { $($name: Source::new(stringify!($name), $text)),+ }
            }
        }
    };
}

/// The text of these files, one after the other.
macro_rules! text {
    ($($file:literal),+) => {
        concat!($(include_str!(concat!("lua/", $file))),+)
    };
}

/// A script that also runs where the server has reached `maxmemory`: it ends sessions, or writes
/// little.
macro_rules! lua {
    ($($file:literal),+) => {
        concat!("#!lua flags=allow-oom\n", text!($($file),+))
    };
}

scripts! {
    agree: lua!("agree.lua"),
    begin: lua!("clock.lua", "log.lua", "begin.lua"),
    block: lua!("block.lua"),
    commit: lua!("clock.lua", "log.lua", "session.lua", "commit.lua"),
    // Where no memory is free, sessions begin only in place of others.
    commit_insert: text!("clock.lua", "log.lua", "session.lua", "commit.lua"),
    end_sessions: lua!("clock.lua", "log.lua", "session.lua", "end_sessions.lua"),
    follow: lua!("clock.lua", "follow.lua"),
    forget: lua!("clock.lua", "forget.lua"),
    lease: lua!("lease.lua"),
    overdue: lua!("clock.lua", "overdue.lua"),
    set: lua!("clock.lua", "log.lua", "set.lua"),
    touch: lua!("clock.lua", "session.lua", "touch.lua"),
    trim: lua!("clock.lua", "trim.lua"),
}

/// These two are sent as texts, because they go in one pipeline with other commands.
pub(crate) const ANNOUNCE: &str = lua!("announce.lua");
pub(crate) const WRITE: &str = lua!("write.lua");

#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
    pub(crate) hash: String,
}

impl Source {
    fn new(name: &'static str, text: &'static str) -> Self {
        Self { name, text, hash: Script::new(text).get_hash().to_owned() }
    }
}
