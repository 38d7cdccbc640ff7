//! Values that cross the border: parsed once, trusted inside.
//!
//! Each type states its limit; a value that breaks it is an [`InvalidField`] that names the field
//! and the limit. Text is compared byte for byte and may not hold control characters.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};
use uuid::Uuid;

use crate::time::Timestamp;

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
    /// Characters that show nothing themselves, or reorder what stands around them, are not allowed:
    /// zero-width spaces and joiners, bidirectional controls, tags, line and paragraph separators
    /// (Unicode's categories Cf, Zl and Zp). Two names that look alike would be two users.
    #[error("must not contain invisible characters")]
    InvisibleCharacter,
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

    /// Checks that a list has at most `limit` entries.
    ///
    /// # Errors
    /// This error, naming the limit, for a longer list.
    pub const fn check_count(field: &'static str, actual: usize, limit: usize) -> Result<(), Self> {
        if actual > limit {
            return Err(Self { field, problem: FieldProblem::TooMany { limit, actual } });
        }
        Ok(())
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
            | FieldProblem::InvisibleCharacter
            | FieldProblem::Malformed { .. } => None,
        }
    }
}

/// The public id of a session: a UUID that may appear in logs, pages and a JWT's `sid` claim.
///
/// It never authenticates by itself. It may tell when the session began.
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

    /// A version 7 id: the milliseconds of a time, and 74 of the random bits. Those of one time stand side by
    /// side in an index.
    pub fn at(time: Timestamp, random: [u8; 16]) -> Self {
        let millis = u64::try_from(time.as_micros() / 1_000).unwrap_or_default();
        let mut after = [0; 10];
        after.copy_from_slice(&random[6..]);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &after).into_uuid())
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
        #[doc = concat!(
            "\n\n1 to ", $limit, " bytes of UTF-8 without control characters and without ",
            "[invisible ones](FieldProblem::InvisibleCharacter)."
        )]
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The most bytes a value may have.
            pub const MAX_BYTES: usize = $limit;

            /// Checks the limit and the characters.
            ///
            /// # Errors
            /// [`InvalidField`] when the text is empty, too long or holds a control character or an
            /// invisible one.
            pub fn new(text: &str) -> Result<Self, InvalidField> {
                let value = Self::from_stored(text)?;
                check_visible($field, text).map(|()| value)
            }

            /// Takes a text that a store has kept. For stores: a value from before a character became
            /// invisible to Unicode has to be read, or its user could not get in.
            ///
            /// # Errors
            /// [`InvalidField`] when the text is empty, too long or holds a control character.
            pub fn from_stored(text: &str) -> Result<Self, InvalidField> {
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
    UserId, "user", 255
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

bounded_text!(
    /// The name that its user gave a device, such as `Kitchen tablet`.
    DeviceName, "device_name", 128
);
bounded_text!(
    /// How a user proved who they are: a word of RFC 8176, such as `pwd` or `otp`.
    AuthMethod, "methods", 64
);
bounded_text!(
    /// Why a user, tenant or deployment is blocked: for admins and for the sign-in page.
    BlockReason, "reason", 256
);

impl DeviceInfo {
    /// As much of a header as fits: control characters become spaces, invisible ones are left out,
    /// the end is cut at a character's border. `None` when nothing is left.
    pub fn truncated(text: &str) -> Option<Self> {
        let visible = text.chars().filter(|c| !is_invisible(*c));
        let mut clean: String =
            visible.map(|c| if c.is_control() { ' ' } else { c }).take(Self::MAX_BYTES).collect();
        clean.truncate(clean.floor_char_boundary(Self::MAX_BYTES));
        Self::new(clean.trim()).ok()
    }
}

/// What "same type of device" means in a policy.
///
/// The five usual kinds are recognised in any case; any other word of 1 to 64 bytes is a
/// kind of its own and keeps its case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DeviceKind {
    /// A browser on a computer.
    Web,
    /// A phone or a tablet: a browser or an application.
    Mobile,
    /// An installed desktop program.
    Desktop,
    /// A screen in the living room: a television, a box beside it, a games console.
    Tv,
    /// A command-line program or a script.
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
    /// [`InvalidField`] when the word is empty, too long or holds a control character or an invisible
    /// one.
    pub fn new(word: &str) -> Result<Self, InvalidField> {
        Self::usual(word).map_or_else(|| CustomDeviceKind::new(word).map(Self::Custom), Ok)
    }

    /// Takes a word that a store has kept.
    ///
    /// # Errors
    /// [`InvalidField`] when the word is empty, too long or holds a control character.
    pub fn from_stored(word: &str) -> Result<Self, InvalidField> {
        Self::usual(word).map_or_else(|| CustomDeviceKind::from_stored(word).map(Self::Custom), Ok)
    }

    fn usual(word: &str) -> Option<Self> {
        let usual = [Self::Web, Self::Mobile, Self::Desktop, Self::Tv, Self::Console];
        usual.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(word))
    }

    /// The word.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Web => "Web",
            Self::Mobile => "Mobile",
            Self::Desktop => "Desktop",
            Self::Tv => "Tv",
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
///
/// It is no place for what its user may not see: users find it in the API's answer about their own
/// sessions (`GET /sessions/me`), admins in theirs.
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

fn check_visible(field: &'static str, text: &str) -> Result<(), InvalidField> {
    if text.chars().any(is_invisible) {
        return Err(InvalidField { field, problem: FieldProblem::InvisibleCharacter });
    }
    Ok(())
}

fn is_invisible(c: char) -> bool {
    use GeneralCategory::{Format, LineSeparator, ParagraphSeparator};
    matches!(c.general_category(), Format | LineSeparator | ParagraphSeparator)
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
    fn ids_are_in_the_order_of_their_times() {
        let at = |millis: i64, random| {
            SessionId::at(Timestamp::from_micros(millis * 1_000), [random; 16])
        };
        let ids = [at(-1, 9), at(1, 255), at(2, 0), at(1 << 40, 0)];
        assert!(ids.is_sorted(), "{ids:?}");
        assert!(ids.iter().all(|id| id.as_uuid().get_version_num() == 7));
        assert_ne!(at(1, 1), at(1, 2));
    }

    #[test]
    fn errors_name_the_field_and_the_limit() {
        let long = "é".repeat(128);
        let error = UserId::new(&long).unwrap_err();
        assert_eq!(error.to_string(), "user is 256 bytes long, the limit is 255");
        assert_eq!(error.limit(), Some(255));
        assert_eq!(TenantId::new(&long).unwrap_err().limit(), Some(128));
        assert_eq!(TenantId::new("").unwrap_err().to_string(), "tenant must not be empty");
        assert!(ClientId::new("a\0b").is_err());
        assert!(UserId::new(&"é".repeat(127)).is_ok());
    }

    /// `alice` and `ali<zero width>ce` look alike on an admin's page and would be two users.
    #[test]
    fn what_shows_nothing_is_in_no_new_value() {
        let listed = [
            '\u{ad}'..='\u{ad}',
            '\u{61c}'..='\u{61c}',
            '\u{200b}'..='\u{200f}',
            '\u{2028}'..='\u{202e}',
            '\u{2060}'..='\u{2064}',
            '\u{2066}'..='\u{206f}',
            '\u{feff}'..='\u{feff}',
            '\u{e0020}'..='\u{e007f}',
        ];
        let problem = FieldProblem::InvisibleCharacter;
        let problem_of = |error: InvalidField| error.problem;
        for c in listed.into_iter().flatten() {
            let text = format!("ali{c}ce");
            assert_eq!(UserId::new(&text).map_err(problem_of), Err(problem.clone()), "{c:?}");
            assert_eq!(TenantId::new(&text).map_err(problem_of), Err(problem.clone()));
            assert_eq!(ClientId::new(&text).map_err(problem_of), Err(problem.clone()));
            assert_eq!(DeviceInfo::new(&text).map_err(problem_of), Err(problem.clone()));
            assert_eq!(DeviceKind::new(&text).map_err(problem_of), Err(problem.clone()));
            assert!(serde_json::from_value::<UserId>(text.clone().into()).is_err());
            assert_eq!(DeviceInfo::truncated(&text), DeviceInfo::new("alice").ok());
            // Any stored value can be read.
            assert_eq!(UserId::from_stored(&text).unwrap().as_str(), text);
            assert_eq!(DeviceKind::from_stored(&text).unwrap().as_str(), text);
        }
        let error = UserId::new("\u{202e}nimda").unwrap_err();
        assert_eq!(error.to_string(), "user must not contain invisible characters");
        for name in ["josé", "Łukasz", "Ελένη", "李小龙", "עדה", "امينة", "नीला", "🦀", "a b"]
        {
            assert!(UserId::new(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn usual_device_kinds_fold_case_and_custom_ones_do_not() {
        assert_eq!(DeviceKind::new("mobile").unwrap(), DeviceKind::Mobile);
        assert_eq!("TV".parse(), Ok(DeviceKind::Tv));
        assert_eq!(DeviceKind::Tv.to_string(), "Tv");
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
