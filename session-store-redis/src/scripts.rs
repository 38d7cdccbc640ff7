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

macro_rules! plain {
    ($file:literal) => {
        include_str!(concat!("lua/", $file))
    };
}

macro_rules! logging {
    ($file:literal) => {
        concat!(include_str!("lua/log.lua"), include_str!(concat!("lua/", $file)))
    };
}

scripts! {
    agree: plain!("agree.lua"),
    begin: logging!("begin.lua"),
    commit: logging!("commit.lua"),
    end_sessions: logging!("end_sessions.lua"),
    lease: plain!("lease.lua"),
    policy: logging!("policy.lua"),
    touch: plain!("touch.lua"),
    trim: plain!("trim.lua"),
}

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
