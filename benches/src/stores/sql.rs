//! The rows of a sign-in in SQL.

use session_core::Session;
use session_core::store::record::{FieldValue, session_fields};
use sqlx::{Database, Encode, QueryBuilder, Type};

/// `INSERT` of a session's row: the columns have the names of the fields.
pub(super) fn session_row<DB>(table: &str, session: &Session) -> QueryBuilder<DB>
where
    DB: Database,
    i64: for<'q> Encode<'q, DB> + Type<DB>,
    String: for<'q> Encode<'q, DB> + Type<DB>,
    Vec<u8>: for<'q> Encode<'q, DB> + Type<DB>,
{
    let fields = session_fields(session);
    let names: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
    let mut insert =
        QueryBuilder::new(format!("INSERT INTO {table} ({}) VALUES (", names.join(", ")));
    let mut values = insert.separated(", ");
    for (_, value) in fields {
        match value {
            FieldValue::Null => values.push("NULL"),
            FieldValue::Integer(number) => values.push_bind(number),
            FieldValue::Text(text) => values.push_bind(text.into_owned()),
            FieldValue::Bytes(bytes) => values.push_bind(bytes.to_vec()),
        };
    }
    insert.push(")");
    insert
}

/// `INSERT` of the row of a user who has no sessions yet.
pub(super) fn user_row<DB>(table: &str, session: &Session) -> QueryBuilder<DB>
where
    DB: Database,
    i64: for<'q> Encode<'q, DB> + Type<DB>,
    String: for<'q> Encode<'q, DB> + Type<DB>,
{
    let mut insert =
        QueryBuilder::new(format!("INSERT INTO {table} (tenant, user_id, version) VALUES ("));
    let mut values = insert.separated(", ");
    values.push_bind(session.owner.tenant_text().to_owned());
    values.push_bind(session.owner.user.as_str().to_owned());
    values.push_bind(1_i64);
    insert.push(")");
    insert
}
