//! Values that cross the border: parsed once, trusted inside.
//!
//! Each type states its limit; a value that breaks it is an [`InvalidField`] that names the field
//! and the limit. Text is compared byte for byte and may not hold control characters.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// A value that does not fit its field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct InvalidField {
    /// The field's name, as in the JSON API.
    pub field: &'static str,
    /// What is wrong with the value.
    pub problem: FieldProblem,
}

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FieldProblem {
    /// The field needs at least one character.
    #[error("must not be empty")]
    Empty,
    /// More bytes than the limit.
    #[error("is {actual} bytes long, the limit is {limit}")]
    TooLong {
        /// The most bytes the field may have.
        limit: usize,
        /// How many it had.
        actual: usize,
    },
    /// Control characters (U+0000 to U+001F, U+007F to U+009F) are not allowed.
    #[error("must not contain control characters")]
    ControlCharacter,
    /// A number outside its range.
    #[error("must be between {min} and {max}")]
    OutOfRange {
        /// The smallest allowed value.
        min: u64,
        /// The largest allowed value.
        max: u64,
    },
    /// More entries than the limit.
    #[error("has {actual} entries, the limit is {limit}")]
    TooMany {
        /// The most entries the field may have.
        limit: usize,
        /// How many it had.
        actual: usize,
    },
    /// Not of the expected form.
    #[error("is not {expected}")]
    Malformed {
        /// What was expected, with its article.
        expected: &'static str,
    },
}

impl InvalidField {
    /// A value of the wrong form; `expected` names the right one with its article.
    pub const fn malformed(field: &'static str, expected: &'static str) -> Self {
        Self { field, problem: FieldProblem::Malformed { expected } }
    }

    /// A number outside `min..=max`.
    pub const fn out_of_range(field: &'static str, min: u64, max: u64) -> Self {
        Self { field, problem: FieldProblem::OutOfRange { min, max } }
    }

    /// The limit that was broken, where there is one.
    pub const fn limit(&self) -> Option<u64> {
        match self.problem {
            FieldProblem::TooLong { limit, .. } | FieldProblem::TooMany { limit, .. } => {
                Some(limit as u64)
            }
            FieldProblem::OutOfRange { max, .. } => Some(max),
            FieldProblem::Empty
            | FieldProblem::ControlCharacter
            | FieldProblem::Malformed { .. } => None,
        }
    }
}

/// The public id of a session: a UUID that may appear in logs, pages and a JWT's `sid` claim.
///
/// It never authenticates by itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(Uuid);

impl SessionId {
    /// From sixteen bytes, as stored.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// A random (version 4) id from sixteen random bytes.
    pub const fn from_random(random: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(random).into_uuid())
    }

    /// The sixteen bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The UUID.
    pub const fn as_uuid(&self) -> &Uuid {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({})", self.0)
    }
}

impl FromStr for SessionId {
    type Err = InvalidField;

    fn from_str(text: &str) -> Result<Self, InvalidField> {
        Uuid::try_parse(text).map(Self).map_err(|_| InvalidField::malformed("session id", "a UUID"))
    }
}

macro_rules! bounded_text {
    ($(#[$doc:meta])* $name:ident, $field:literal, $limit:literal) => {
        $(#[$doc])*
        #[doc = concat!("\n\n1 to ", $limit, " bytes of UTF-8 without control characters.")]
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The most bytes a value may have.
            pub const MAX_BYTES: usize = $limit;

            /// Checks the limit and the characters.
            ///
            /// # Errors
            /// [`InvalidField`] when the text is empty, too long or holds a control character.
            pub fn new(text: &str) -> Result<Self, InvalidField> {
                check_text($field, text, $limit).map(|()| Self(text.into()))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidField;

            fn from_str(text: &str) -> Result<Self, InvalidField> {
                Self::new(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
                Self::new(&text).map_err(de::Error::custom)
            }
        }
    };
}

bounded_text!(
    /// Who is signed in, within a tenant.
    UserId, "user", 128
);
bounded_text!(
    /// The wall around a group of users; the same [`UserId`] in two tenants is two users.
    TenantId, "tenant", 128
);
bounded_text!(
    /// The application that signed the user in, such as an OAuth client id.
    ClientId, "client_id", 128
);
bounded_text!(
    /// Readable text about the device, such as `Firefox 140 on Linux`.
    DeviceInfo, "device_info", 256
);

impl DeviceInfo {
    /// As much of a header as fits: control characters become spaces, the end is cut at a
    /// character's border. `None` when nothing is left.
    pub fn truncated(text: &str) -> Option<Self> {
        let mut clean: String =
            text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(256).collect();
        clean.truncate(clean.floor_char_boundary(Self::MAX_BYTES));
        Self::new(clean.trim()).ok()
    }
}

/// What "same type of device" means in a policy.
///
/// The four usual kinds are recognised whatever their case; any other word of 1 to 64 bytes is a
/// kind of its own and keeps its case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DeviceKind {
    /// A browser on a computer.
    Web,
    /// A phone or a tablet.
    Mobile,
    /// An installed desktop program.
    Desktop,
    /// A command-line program.
    Console,
    /// The application's own word.
    Custom(CustomDeviceKind),
}

bounded_text!(
    /// The application's own word for a kind of device; made by [`DeviceKind::new`].
    CustomDeviceKind, "device_kind", 64
);

impl DeviceKind {
    /// The most bytes a kind may have.
    pub const MAX_BYTES: usize = CustomDeviceKind::MAX_BYTES;

    /// Recognises a usual kind or takes the word as it is.
    ///
    /// # Errors
    /// [`InvalidField`] when the word is empty, too long or holds a control character.
    pub fn new(word: &str) -> Result<Self, InvalidField> {
        let usual = [Self::Web, Self::Mobile, Self::Desktop, Self::Console];
        match usual.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(word)) {
            Some(kind) => Ok(kind),
            None => CustomDeviceKind::new(word).map(Self::Custom),
        }
    }

    /// The word.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Web => "Web",
            Self::Mobile => "Mobile",
            Self::Desktop => "Desktop",
            Self::Console => "Console",
            Self::Custom(word) => word.as_str(),
        }
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DeviceKind {
    type Err = InvalidField;

    fn from_str(text: &str) -> Result<Self, InvalidField> {
        Self::new(text)
    }
}

impl Serialize for DeviceKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for DeviceKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        Self::new(&text).map_err(de::Error::custom)
    }
}

/// The application's own JSON beside a session, at most 4 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraData(Arc<str>);

impl ExtraData {
    /// The most bytes of JSON text.
    pub const MAX_BYTES: usize = 4096;

    /// Writes the value as compact JSON and checks its size.
    ///
    /// # Errors
    /// [`InvalidField`] when the text is longer than [`Self::MAX_BYTES`].
    pub fn new(value: &serde_json::Value) -> Result<Self, InvalidField> {
        let text = value.to_string();
        check_length("data", &text, Self::MAX_BYTES).map(|()| Self(text.into()))
    }

    /// Takes JSON text, as stored.
    ///
    /// # Errors
    /// [`InvalidField`] when the text is too long or not JSON.
    pub fn from_json(text: &str) -> Result<Self, InvalidField> {
        check_length("data", text, Self::MAX_BYTES)?;
        serde_json::from_str::<serde::de::IgnoredAny>(text)
            .map_err(|_| InvalidField::malformed("data", "JSON"))?;
        Ok(Self(text.into()))
    }

    /// The JSON text.
    pub fn as_json(&self) -> &str {
        &self.0
    }

    /// The parsed value.
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

impl Serialize for ExtraData {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_value().serialize(serializer)
    }
}

fn check_text(field: &'static str, text: &str, limit: usize) -> Result<(), InvalidField> {
    if text.is_empty() {
        return Err(InvalidField { field, problem: FieldProblem::Empty });
    }
    check_length(field, text, limit)?;
    if text.chars().any(char::is_control) {
        return Err(InvalidField { field, problem: FieldProblem::ControlCharacter });
    }
    Ok(())
}

fn check_length(field: &'static str, text: &str, limit: usize) -> Result<(), InvalidField> {
    if text.len() > limit {
        let problem = FieldProblem::TooLong { limit, actual: text.len() };
        return Err(InvalidField { field, problem });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_field_and_the_limit() {
        let long = "é".repeat(65);
        let error = UserId::new(&long).unwrap_err();
        assert_eq!(error.to_string(), "user is 130 bytes long, the limit is 128");
        assert_eq!(error.limit(), Some(128));
        assert_eq!(TenantId::new("").unwrap_err().to_string(), "tenant must not be empty");
        assert!(ClientId::new("a\0b").is_err());
        assert!(UserId::new(&"é".repeat(64)).is_ok());
    }

    #[test]
    fn usual_device_kinds_fold_case_and_custom_ones_do_not() {
        assert_eq!(DeviceKind::new("mobile").unwrap(), DeviceKind::Mobile);
        assert_ne!(DeviceKind::new("Kiosk").unwrap(), DeviceKind::new("kiosk").unwrap());
        assert!(DeviceKind::new(&"x".repeat(65)).is_err());
    }

    #[test]
    fn device_info_is_cut_at_a_character() {
        let info = DeviceInfo::truncated(&format!("x{}", "é".repeat(300))).unwrap();
        assert!(info.as_str().len() <= DeviceInfo::MAX_BYTES);
        assert_eq!(DeviceInfo::truncated(" \r\n"), None);
    }

    #[test]
    fn extra_data_is_bounded_json() {
        let value = serde_json::json!({ "note": "x".repeat(4096) });
        assert_eq!(ExtraData::new(&value).unwrap_err().limit(), Some(4096));
        assert!(ExtraData::from_json("{").is_err());
        assert!(ExtraData::from_json(&"[".repeat(4096)).is_err());
    }
}
