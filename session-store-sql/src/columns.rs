//! The few kinds of columns there are, read from the rows of any database.

use session_core::StoreError;
use sqlx::{ColumnIndex, Decode, Row, Type};

/// A row whose columns can be read by name.
pub(crate) trait Columns {
    fn text(&self, column: &'static str) -> Result<&str, StoreError>;
    fn optional_text(&self, column: &'static str) -> Result<Option<&str>, StoreError>;
    fn integer(&self, column: &'static str) -> Result<i64, StoreError>;
    fn optional_integer(&self, column: &'static str) -> Result<Option<i64>, StoreError>;
    fn bytes(&self, column: &'static str) -> Result<&[u8], StoreError>;
    fn optional_bytes(&self, column: &'static str) -> Result<Option<&[u8]>, StoreError>;
}

impl<R: Row> Columns for R
where
    &'static str: ColumnIndex<R>,
    for<'r> &'r str: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> &'r [u8]: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> i64: Decode<'r, R::Database> + Type<R::Database>,
{
    fn text(&self, column: &'static str) -> Result<&str, StoreError> {
        self.try_get(column).map_err(unreadable)
    }

    fn optional_text(&self, column: &'static str) -> Result<Option<&str>, StoreError> {
        self.try_get(column).map_err(unreadable)
    }

    fn integer(&self, column: &'static str) -> Result<i64, StoreError> {
        self.try_get(column).map_err(unreadable)
    }

    fn optional_integer(&self, column: &'static str) -> Result<Option<i64>, StoreError> {
        self.try_get(column).map_err(unreadable)
    }

    fn bytes(&self, column: &'static str) -> Result<&[u8], StoreError> {
        self.try_get(column).map_err(unreadable)
    }

    fn optional_bytes(&self, column: &'static str) -> Result<Option<&[u8]>, StoreError> {
        self.try_get(column).map_err(unreadable)
    }
}

fn unreadable(error: sqlx::Error) -> StoreError {
    StoreError::corrupt(error)
}

#[cfg(test)]
#[cfg(any(feature = "mysql", feature = "sqlite"))]
pub(crate) mod testing {
    use super::*;

    /// A row of the log, by its number, which is also its mark: a sign-in, or for odd numbers a
    /// rotation.
    #[derive(Debug)]
    pub(crate) struct Entry(pub(crate) i64);

    impl Columns for Entry {
        fn text(&self, column: &'static str) -> Result<&str, StoreError> {
            Ok(column)
        }

        fn optional_text(&self, column: &'static str) -> Result<Option<&str>, StoreError> {
            Ok(match column {
                "kind" if self.0 % 2 == 0 => Some("created"),
                "kind" => Some("rotated"),
                "actor" => Some("system"),
                _ => None,
            })
        }

        fn integer(&self, _: &'static str) -> Result<i64, StoreError> {
            Ok(self.0)
        }

        fn optional_integer(&self, _: &'static str) -> Result<Option<i64>, StoreError> {
            Ok(Some(self.0))
        }

        fn bytes(&self, _: &'static str) -> Result<&[u8], StoreError> {
            Ok(&[])
        }

        fn optional_bytes(&self, _: &'static str) -> Result<Option<&[u8]>, StoreError> {
            Ok(None)
        }
    }
}
