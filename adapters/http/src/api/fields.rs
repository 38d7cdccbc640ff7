//! Bodies of requests: JSON objects whose fields are named when they do not fit.

use std::str::FromStr;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use session_core::{InvalidField, Timestamp};

use super::query::{field, invalid};
use crate::problem::Problem;

/// The fields of a body, each known.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    pub(super) fn parse(body: &[u8], known: &[&str]) -> Result<Self, Problem> {
        let fields: Map<String, Value> = serde_json::from_slice(body)
            .map_err(|error| Problem::malformed(format!("the body is no JSON object: {error}")))?;
        match fields.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(field(name, format!("the fields are: {}", known.join(", ")))),
            None => Ok(Self(fields)),
        }
    }

    /// As [`Fields::parse`], where no body stands for an object without fields.
    pub(super) fn parse_optional(body: &[u8], known: &[&str]) -> Result<Self, Problem> {
        if body.is_empty() { Ok(Self(Map::new())) } else { Self::parse(body, known) }
    }

    /// A field, where it is given and not null.
    pub(super) fn get<T>(&self, name: &str) -> Result<Option<T>, Problem>
    where
        T: FromStr<Err = InvalidField>,
    {
        let text = self.text(name)?;
        text.map(|text| text.parse().map_err(|error| invalid(name, error))).transpose()
    }

    /// A field that has to be given, if only as null.
    pub(super) fn nullable<T>(&self, name: &str) -> Result<Option<T>, Problem>
    where
        T: FromStr<Err = InvalidField>,
    {
        match self.0.contains_key(name) {
            true => self.get(name),
            false => Err(field(name, "has to be given")),
        }
    }

    /// A field that has to be given.
    pub(super) fn required<T>(&self, name: &str) -> Result<T, Problem>
    where
        T: FromStr<Err = InvalidField>,
    {
        self.get(name)?.ok_or_else(|| field(name, "has to be given"))
    }

    pub(super) fn time(&self, name: &'static str) -> Result<Option<Timestamp>, Problem> {
        let parse = |text| {
            Timestamp::parse_rfc3339(text)
                .ok_or_else(|| InvalidField::malformed(name, "an RFC 3339 time").into())
        };
        self.text(name)?.map(parse).transpose()
    }

    /// A value of its own shape, where it is given and not null.
    pub(super) fn value<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Problem> {
        let value = self.0.get(name).filter(|value| !value.is_null());
        value.map(|value| read(name, value)).transpose()
    }

    /// A list of objects; where it is not given, an empty one.
    pub(super) fn objects<T: DeserializeOwned>(&self, name: &str) -> Result<Vec<T>, Problem> {
        let objects: Option<Vec<Map<String, Value>>> = self.value(name)?;
        objects.into_iter().flatten().map(|object| read(name, &Value::Object(object))).collect()
    }

    /// A text that has to be given and has at least one character.
    pub(super) fn required_text(&self, name: &str) -> Result<&str, Problem> {
        let text = self.text(name)?.filter(|text| !text.is_empty());
        text.ok_or_else(|| field(name, "has to be given"))
    }

    fn text(&self, name: &str) -> Result<Option<&str>, Problem> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(field(name, "is no text")),
        }
    }
}

fn read<T: DeserializeOwned>(name: &str, value: &Value) -> Result<T, Problem> {
    T::deserialize(value).map_err(|error| field(name, error.to_string()))
}
