//! The scripts, each of one atomic step in one slot.

use redis::Script;

macro_rules! scripts {
    ($($name:ident),+ $(,)?) => {
        /// Known to the servers by their hashes.
        #[derive(Debug)]
        pub(crate) struct Scripts {
            $(pub(crate) $name: Source),+
        }

        impl Scripts {
            pub(crate) fn new() -> Self {
                Self { $($name: Source::new(include_str!(concat!("lua/", stringify!($name), ".lua")))),+ }
            }
        }
    };
}

scripts!(agree, begin, commit, end_sessions, lease, policy, touch, trim);

#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) text: &'static str,
    pub(crate) hash: String,
}

impl Source {
    fn new(text: &'static str) -> Self {
        Self { text, hash: Script::new(text).get_hash().to_owned() }
    }
}
