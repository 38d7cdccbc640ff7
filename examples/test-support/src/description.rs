//! An OpenAPI description, to compare answers with.

use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// The description of an API. [`Description::check`] finds what an answer has and the description lacks.
#[derive(Debug)]
pub struct Description {
    prefix: String,
    paths: Map<String, Value>,
    schemas: Value,
}

/// An answer, as far as a description tells of it.
#[derive(Clone, Copy, Debug)]
pub struct Described<'a> {
    /// The method of the request.
    pub method: &'a str,
    /// The path of the request, with its prefix; a query may follow.
    pub path: &'a str,
    /// The status.
    pub status: u16,
    /// The value of `Content-Type`.
    pub content_type: &'a str,
    /// The body.
    pub body: &'a [u8],
}

impl Description {
    /// Reads a description of version 3.1 whose first server is a path: the prefix of its paths.
    ///
    /// # Panics
    /// When it is none.
    pub fn parse(text: &str) -> Self {
        let mut document: Value = serde_json::from_str(text).unwrap();
        let prefix = document["servers"][0]["url"].as_str().unwrap().to_owned();
        let Value::Object(paths) = document["paths"].take() else { panic!("no paths") };
        let mut schemas = document["components"]["schemas"].take();
        // Those that refer to a schema say that it is complete.
        for schema in schemas.as_object_mut().unwrap().values_mut() {
            close(schema, false);
        }
        Self { prefix, paths, schemas }
    }

    /// Compares a JSON answer with what the description has for its operation and status: every field
    /// has to fit, and none may be missing in the description. What is no operation of the description
    /// fits, and so does an answer that is no JSON.
    ///
    /// # Errors
    /// What does not fit, in words.
    pub fn check(&self, answer: Described<'_>) -> Result<(), String> {
        let Described { method, path, status, content_type, body } = answer;
        if !content_type.contains("json") {
            return Ok(());
        }
        let path = path.split('?').next().unwrap_or_default();
        let operation = path.strip_prefix(&self.prefix).and_then(|below| self.item(below));
        let method = if method == "HEAD" { "get".to_owned() } else { method.to_lowercase() };
        let Some(operation) = operation.and_then(|item| item.get(&method)) else { return Ok(()) };
        let described = &operation["responses"][status.to_string()]["content"][content_type];
        let Some(schema) = described.get("schema") else {
            return Err(format!("{method} {path}: {status} {content_type} is not described"));
        };
        if body.is_empty() {
            return Ok(()); // the answer to a HEAD request
        }
        let body = serde_json::from_slice(body).map_err(|error| format!("no JSON: {error}"))?;
        let errors: Vec<_> = self
            .validator(schema.clone())
            .iter_errors(&body)
            .map(|error| format!("{error} at {:?}", error.instance_path().to_string()))
            .collect();
        if errors.is_empty() {
            return Ok(());
        }
        Err(format!("{method} {path}: {status} {body} does not fit: {}", errors.join("; ")))
    }

    /// The operations of a path: of all templates that fit, the one with the fewest parameters.
    fn item(&self, path: &str) -> Option<&Value> {
        let fitting = self.paths.iter().filter(|(template, _)| fits(template, path));
        fitting.min_by_key(|(template, _)| template.matches('{').count()).map(|(_, item)| item)
    }

    fn validator(&self, mut schema: Value) -> Validator {
        close(&mut schema, true);
        schema["components"] = json!({ "schemas": self.schemas });
        jsonschema::draft202012::options().should_validate_formats(true).build(&schema).unwrap()
    }
}

fn fits(template: &str, path: &str) -> bool {
    let (templates, parts) = (template.split('/'), path.split('/'));
    templates.clone().count() == parts.clone().count()
        && templates
            .zip(parts)
            .all(|(template, part)| template.starts_with('{') || template == part)
}

/// Says of each object that a schema describes that it has no more fields than those. A schema that is
/// only a part of another (`whole` is false) leaves that to it.
fn close(schema: &mut Value, whole: bool) {
    let Value::Object(fields) = schema else { return };
    let is_object = ["properties", "allOf", "$ref"].iter().any(|name| fields.contains_key(*name));
    if whole && is_object {
        fields.insert("unevaluatedProperties".to_owned(), false.into());
    }
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("allOf", Value::Array(parts)) => parts.iter_mut().for_each(|part| close(part, false)),
            ("oneOf" | "anyOf", Value::Array(all)) => {
                all.iter_mut().for_each(|one| close(one, true))
            }
            ("properties", Value::Object(all)) => all.values_mut().for_each(|one| close(one, true)),
            ("items", items) => close(items, true),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const API: &str = r##"{
        "servers": [{ "url": "/api" }],
        "paths": { "/dogs/{id}": { "get": { "responses": { "200": { "content": {
            "application/json": { "schema": { "$ref": "#/components/schemas/Dog" } } } } } } },
            "/dogs/all": {} },
        "components": { "schemas": {
            "Dog": { "allOf": [{ "$ref": "#/components/schemas/Animal" },
                { "type": "object", "properties": { "owner": { "$ref": "#/components/schemas/Animal" } } }] },
            "Animal": { "type": "object", "required": ["name"],
                "properties": { "name": { "type": "string" }, "born": { "type": "string", "format": "date-time" } } } } }
    }"##;

    fn check(path: &str, status: u16, body: &str) -> Result<(), String> {
        let content_type = "application/json";
        let (method, body) = ("GET", body.as_bytes());
        Description::parse(API).check(Described { method, path, status, content_type, body })
    }

    #[test]
    fn every_field_has_to_be_described() {
        for body in [
            r#"{"name":"Rex"}"#,
            r#"{"name":"Rex","born":"2020-01-01T00:00:00Z","owner":{"name":"Ada"}}"#,
        ] {
            assert_eq!(check("/api/dogs/7?x=y", 200, body), Ok(()), "{body}");
        }
        for body in [
            "{}",
            "",
            r#"{"name":7}"#,
            r#"{"name":"Rex","born":"long ago"}"#,
            r#"{"name":"Rex","colour":"red"}"#,
            r#"{"name":"Rex","owner":{"name":"Ada","age":7}}"#,
        ] {
            assert!(check("/api/dogs/7", 200, body).is_err() != body.is_empty(), "{body}");
        }
        assert!(check("/api/dogs/7", 404, "{}").is_err(), "the status is not described");
        for elsewhere in ["/api/dogs/all", "/api/cats/7", "/dogs/7", "/api/dogs/7/8"] {
            assert_eq!(check(elsewhere, 200, "[]"), Ok(()), "{elsewhere}");
        }
    }
}
