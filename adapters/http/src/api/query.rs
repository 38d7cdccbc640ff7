//! Paths and parameters.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use session_core::store::TenantFilter;
use session_core::{InvalidField, Timestamp};

use crate::activity::REFRESH;
use crate::problem::Problem;

/// The parameters of a request, each known, given at most once, and not empty.
///
/// An unknown parameter is refused, and so is an empty one: neither a misspelt filter nor one that a
/// form left out must widen what a call reaches.
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    pub(super) fn parse(query: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        let query = query.unwrap_or_default();
        // The parser below puts a substitute where a text is not UTF-8, and so means another one.
        if percent_decode_str(query).decode_utf8().is_err() {
            return Err(Problem::malformed("the parameters are not UTF-8"));
        }
        let mut parameters = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if !known.contains(&name.as_ref()) {
                let detail = match known {
                    [] => "there are no parameters here".to_owned(),
                    known => format!("the parameters are: {}", known.join(", ")),
                };
                return Err(field(&name, detail));
            }
            if value.is_empty() && !MAY_BE_EMPTY.contains(&name.as_ref()) {
                return Err(field(&name, "it is empty: leave it out, or give it a value"));
            }
            if parameters.insert(name.clone().into_owned(), value.into_owned()).is_some() {
                return Err(field(&name, "given more than once"));
            }
        }
        Ok(Self(parameters))
    }

    /// A parameter.
    pub(super) fn get<T>(&self, name: &str) -> Result<Option<T>, Problem>
    where
        T: FromStr<Err = InvalidField>,
    {
        match self.0.get(name) {
            Some(value) => Ok(Some(value.parse().map_err(|error| invalid(name, error))?)),
            None => Ok(None),
        }
    }

    /// A parameter that has to be given.
    pub(super) fn required<T>(&self, name: &str) -> Result<T, Problem>
    where
        T: FromStr<Err = InvalidField>,
    {
        self.get(name)?.ok_or_else(|| field(name, "has to be given"))
    }

    /// Whether a parameter is given, if only empty.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether any of these parameters has a value.
    pub(super) fn narrows(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.0.get(*name).is_some_and(|value| !value.is_empty()))
    }

    /// A parameter that can only be `true`.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.0.get(name).map(String::as_str) {
            None => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(field(name, "is true, or is left out")),
        }
    }

    /// The walls asked for; an empty tenant stands for the users outside all tenants.
    pub(super) fn tenant(&self) -> Result<TenantFilter, Problem> {
        match self.0.get("tenant") {
            None => Ok(TenantFilter::Any),
            Some(name) if name.is_empty() => Ok(TenantFilter::Is(None)),
            Some(_) => self.get("tenant").map(TenantFilter::Is),
        }
    }

    pub(super) fn time(&self, name: &'static str) -> Result<Option<Timestamp>, Problem> {
        let parse = |text: &String| {
            Timestamp::parse_rfc3339(text)
                .ok_or_else(|| InvalidField::malformed(name, "an RFC 3339 time").into())
        };
        self.0.get(name).map(parse).transpose()
    }

    pub(super) fn number(&self, name: &'static str, max: u32) -> Result<Option<u32>, Problem> {
        let parse = |text: &String| {
            let number = text.parse().ok().filter(|number| (1..=max).contains(number));
            number.ok_or_else(|| InvalidField::out_of_range(name, 1, max.into()).into())
        };
        self.0.get(name).map(parse).transpose()
    }
}

/// An empty tenant stands for the users outside all tenants, wherever a tenant is asked for.
const MAY_BE_EMPTY: [&str; 2] = ["tenant", REFRESH];

/// A value of the path.
pub(super) fn path_value<T>(name: &str, text: &str) -> Result<T, Problem>
where
    T: FromStr<Err = InvalidField>,
{
    text.parse().map_err(|error| invalid(name, error))
}

/// The decoded segments of a path that begins with a slash, or is empty.
pub(super) fn segments(path: &str) -> Result<Vec<Cow<'_, str>>, Problem> {
    let decode = |segment| percent_decode_str(segment).decode_utf8();
    let segments: Result<_, _> =
        path.strip_prefix('/').unwrap_or(path).split('/').map(decode).collect();
    segments.map_err(|_| Problem::malformed("the path is not UTF-8"))
}

/// The error of a value, under the name of its parameter.
pub(super) fn invalid(name: &str, error: InvalidField) -> Problem {
    let mut problem = Problem::from(error);
    problem.field = Some(name.into());
    problem
}

pub(super) fn field(name: &str, detail: impl Into<Box<str>>) -> Problem {
    let mut problem = Problem::malformed(detail);
    let end = name.floor_char_boundary(64);
    problem.field = Some(name[..end].into());
    problem
}
