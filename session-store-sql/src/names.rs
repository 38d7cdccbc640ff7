//! Names of tables and functions, written into statements that hold no other text from outside.

use session_core::InvalidField;
use sqlx::AssertSqlSafe;

#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// Before the name of a table or a function.
    tables: String,
    /// Before the name of an index, which has no schema.
    indexes: String,
    /// The channel of notifications.
    pub(crate) channel: String,
}

impl Names {
    pub(crate) fn new(schema: Option<&str>, prefix: &str) -> Self {
        let qualified = schema.map(|schema| format!("{schema}."));
        let channel = match schema {
            Some(schema) => format!("{schema}_{prefix}log"),
            None => format!("{prefix}log"),
        };
        let tables = qualified.unwrap_or_default() + prefix;
        Self { tables, indexes: prefix.to_owned(), channel }
    }

    /// Writes the names into a statement.
    pub(crate) fn fill(&self, statement: &str) -> String {
        let statement = statement.replace("{t}", &self.tables).replace("{i}", &self.indexes);
        statement.replace("{channel}", &self.channel)
    }

    /// The same for sqlx. The names have been checked, and there is nothing else to write.
    pub(crate) fn sql(&self, statement: &'static str) -> AssertSqlSafe<String> {
        AssertSqlSafe(self.fill(statement))
    }
}

/// Lower-case letters, digits and underscores; at most 32, so that every name fits 63.
pub(crate) fn check(field: &'static str, name: &str) -> Result<(), InvalidField> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let begins_well = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    if begins_well && name.len() <= 32 && name.chars().all(plain) {
        return Ok(());
    }
    let expected = "1 to 32 lower-case letters, digits and underscores, no digit first";
    Err(InvalidField::malformed(field, expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_and_written() {
        let fill = |schema, prefix| Names::new(schema, prefix).fill("{t}log {i}x {channel}");
        assert_eq!(fill(None, "s_"), "s_log s_x s_log");
        assert_eq!(fill(Some("auth"), "s_"), "auth.s_log s_x auth_s_log");
        assert_eq!(check("prefix", "session_kit_"), Ok(()));
        for bad in ["", "A", "1a", "a;b", "a.b", "a\"b", &"a".repeat(33)] {
            assert_eq!(check("prefix", bad).unwrap_err().field, "prefix", "{bad}");
        }
    }
}
