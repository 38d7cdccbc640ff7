//! Names of tables and functions, written into statements that hold no other text from outside.

use session_core::InvalidField;
use sqlx::AssertSqlSafe;

use super::PostgresOptions;

#[derive(Clone, Debug)]
pub(super) struct Names {
    /// Before the name of a table or a function.
    tables: String,
    /// Before the name of an index, which has no schema.
    indexes: String,
    /// The channel of notifications.
    pub(super) channel: String,
}

impl Names {
    pub(super) fn new(options: &PostgresOptions) -> Self {
        let PostgresOptions { schema, prefix } = options;
        let qualified = schema.as_ref().map(|schema| format!("{schema}."));
        let channel = match schema {
            Some(schema) => format!("{schema}_{prefix}log"),
            None => format!("{prefix}log"),
        };
        let tables = qualified.unwrap_or_default() + prefix;
        Self { tables, indexes: prefix.clone(), channel }
    }

    /// Writes the names into a statement.
    pub(super) fn fill(&self, statement: &str) -> String {
        let statement = statement.replace("{t}", &self.tables).replace("{i}", &self.indexes);
        statement.replace("{channel}", &self.channel)
    }

    /// The same for sqlx. The names have been checked, and there is nothing else to write.
    pub(super) fn sql(&self, statement: &'static str) -> AssertSqlSafe<String> {
        AssertSqlSafe(self.fill(statement))
    }
}

/// Lower-case letters, digits and underscores; at most 32, so that every name fits 63.
pub(super) fn check(field: &'static str, name: &str) -> Result<(), InvalidField> {
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
        let mut options = PostgresOptions::default();
        assert_eq!(
            Names::new(&options).fill("{t}log {i}x {channel}"),
            "session_kit_log session_kit_x session_kit_log"
        );
        options.schema = Some("auth".to_owned());
        options.prefix = "s_".to_owned();
        assert_eq!(Names::new(&options).fill("{t}log {i}x {channel}"), "auth.s_log s_x auth_s_log");
        for bad in ["", "A", "1a", "a;b", "a.b", "a\"b", &"a".repeat(33)] {
            options.prefix = bad.to_owned();
            assert_eq!(options.validate().unwrap_err().field, "prefix", "{bad}");
        }
    }
}
