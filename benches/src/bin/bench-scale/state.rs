//! What the next run has to know.

use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};
use session_benches::Failure;
use session_benches::fill::Written;
use session_benches::people::People;
use session_core::store::Cursor;

/// Who is being written, how many of them are there, and where the log began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) people: People,
    pub(crate) written: Written,
    /// In hexadecimal digits.
    begin: String,
}

impl State {
    pub(crate) fn new(people: People, begin: &Cursor) -> Self {
        Self { people, written: Written::default(), begin: const_hex::encode(&begin.0) }
    }

    /// The cursor before the first of the people.
    pub(crate) fn begin(&self) -> Result<Cursor, Failure> {
        Ok(Cursor(const_hex::decode(&self.begin)?))
    }

    /// None where there was no earlier run.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, Failure> {
        match std::fs::read(path) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("{}: {error}", path.display()).into()),
        }
    }

    /// Replaces the file as a whole, so that an interrupted run leaves the old one or the new one.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Failure> {
        let new = path.with_extension("new");
        std::fs::write(&new, serde_json::to_vec(self)?)?;
        std::fs::rename(&new, path)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use session_core::Timestamp;

    use super::*;

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        assert_eq!(State::read(&path).unwrap(), None);
        let people = People::new(7, Timestamp::from_micros(9));
        let mut state = State::new(people, &Cursor(vec![0, 255]));
        state.written.sessions = 1_003;
        state.write(&path).unwrap();
        let read = State::read(&path).unwrap().unwrap();
        assert_eq!(read, state);
        assert_eq!(read.begin().unwrap(), Cursor(vec![0, 255]));
        std::fs::write(&path, "{").unwrap();
        assert!(State::read(&path).is_err(), "what is damaged is not overwritten");
    }
}
