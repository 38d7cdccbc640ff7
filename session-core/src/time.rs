//! Points in time, in whole microseconds of UTC.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A point in time: microseconds since the Unix epoch, UTC.
///
/// The core never asks what time it is; every rule receives `now`. Arithmetic saturates, so no
/// stored or configured value can overflow. In JSON it is an RFC 3339 text with microseconds; a year
/// that this has no text for has a sign, as in ISO 8601.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);

    /// Later than anything that happens.
    pub const MAX: Self = Self(i64::MAX);

    /// From microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// This point moved later by `by`.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(micros(by)))
    }

    /// This point moved earlier by `by`.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(micros(by)))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        let elapsed = self.0.saturating_sub(earlier.0);
        Duration::from_micros(u64::try_from(elapsed).unwrap_or(0))
    }

    /// Parses an RFC 3339 text; digits below a microsecond are cut. None for a time that is beyond the
    /// year 9999 in UTC, because RFC 3339 has no text for that.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let parsed = DateTime::parse_from_rfc3339(text).ok()?.timestamp_micros();
        (parsed < YEAR_10000).then_some(Self(parsed))
    }

    /// Reads what [`Timestamp`] shows, beyond the year 9999 and before the year 0 as well.
    fn parse_shown(text: &str) -> Option<Self> {
        let beyond = || text.starts_with(['+', '-']).then(|| text.parse::<DateTime<Utc>>().ok());
        Self::parse_rfc3339(text).or_else(|| beyond().flatten().map(Self::from))
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(value: DateTime<Utc>) -> Self {
        Self(value.timestamp_micros())
    }
}

impl From<Timestamp> for DateTime<Utc> {
    /// Values outside the calendar's range become the nearest end of it.
    fn from(value: Timestamp) -> Self {
        let limit = if value.0 < 0 { Self::MIN_UTC } else { Self::MAX_UTC };
        Self::from_timestamp_micros(value.0).unwrap_or(limit)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let utc = DateTime::<Utc>::from(*self);
        f.write_str(&utc.to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        Self::parse_shown(&text).ok_or_else(|| de::Error::custom("not an RFC 3339 time"))
    }
}

/// In microseconds since the Unix epoch.
const YEAR_10000: i64 = 253_402_300_800_000_000;

/// Reads and writes a [`Duration`] as seconds, for options in configuration files.
pub mod seconds {
    use super::{Deserialize, Deserializer, Duration, Serializer, de};

    /// Writes whole and fractional seconds.
    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(value.as_secs_f64())
    }

    /// Reads a non-negative number of seconds.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// Like [`seconds`], for a duration that may be absent.
pub mod optional_seconds {
    use super::{Deserialize, Deserializer, Duration, Serializer, de};

    /// Writes seconds, or nothing.
    pub fn serialize<S: Serializer>(
        value: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.serialize_some(&value.as_secs_f64()),
            None => serializer.serialize_none(),
        }
    }

    /// Reads a non-negative number of seconds, or nothing.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Option::<f64>::deserialize(deserializer)?
            .map(|seconds| Duration::try_from_secs_f64(seconds).map_err(de::Error::custom))
            .transpose()
    }
}

/// Like [`seconds`], for a duration that zero switches off: not every format has a word for nothing.
pub mod seconds_or_off {
    use super::{Deserializer, Duration, Serializer, optional_seconds, seconds};

    /// Writes seconds, or zero.
    pub fn serialize<S: Serializer>(
        value: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        seconds::serialize(&value.unwrap_or_default(), serializer)
    }

    /// Reads a number of seconds; none for zero, and for nothing.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let value = optional_seconds::deserialize(deserializer)?;
        Ok(value.filter(|value| !value.is_zero()))
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        let last = Timestamp::from_micros(i64::MAX);
        assert_eq!(last.plus(Duration::MAX), last);
        assert_eq!(Timestamp::from_micros(5).since(Timestamp::from_micros(9)), Duration::ZERO);
        assert_eq!(
            Timestamp::from_micros(i64::MAX).since(Timestamp::from_micros(i64::MIN)).as_micros(),
            i64::MAX as u128
        );
    }

    #[test]
    fn text_round_trips_to_the_microsecond() {
        let at = Timestamp::from_micros(1_764_000_000_123_456);
        assert_eq!(Timestamp::parse_rfc3339(&at.to_string()), Some(at));
        assert_eq!(Timestamp::parse_rfc3339("yesterday"), None);
    }

    #[test]
    fn years_without_a_text_of_rfc_3339_are_stored_and_not_taken() {
        let year_10000 = "9999-12-31T23:59:59-01:00";
        assert_eq!(Timestamp::parse_rfc3339(year_10000), None);
        assert_eq!(Timestamp::parse_rfc3339("+10000-01-01T00:00:00Z"), None);
        for at in [YEAR_10000 - 1, YEAR_10000, -70_000_000_000_000_000] {
            let at = Timestamp::from_micros(at);
            let text = serde_json::to_string(&at).unwrap();
            assert_eq!(serde_json::from_str::<Timestamp>(&text).unwrap(), at, "{text}");
        }
        for end in [i64::MAX, i64::MIN].map(Timestamp::from_micros) {
            let text = serde_json::to_string(&end).unwrap();
            let nearest = serde_json::from_str::<Timestamp>(&text).unwrap();
            assert_eq!(nearest.as_micros() > 0, end.as_micros() > 0, "{text}");
        }
    }
}
