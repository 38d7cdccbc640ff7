//! The pages: static files without a build step. A strict policy lets them load only themselves.

use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::body::Body;
use crate::entity_tag::EntityTag;
use crate::problem::Problem;

pub(crate) const DEVICES: &str = include_str!("../assets/devices.html");
pub(crate) const ADMIN: &str = include_str!("../assets/admin.html");
const REFUSED: &str = include_str!("../assets/refused.html");

const ASSETS: [(&str, &str, &str); 6] = [
    ("app.css", "text/css; charset=utf-8", include_str!("../assets/app.css")),
    ("common.js", "text/javascript; charset=utf-8", include_str!("../assets/common.js")),
    ("devices.js", "text/javascript; charset=utf-8", include_str!("../assets/devices.js")),
    ("admin.js", "text/javascript; charset=utf-8", include_str!("../assets/admin.js")),
    ("policy.js", "text/javascript; charset=utf-8", include_str!("../assets/policy.js")),
    ("icon.svg", "image/svg+xml", include_str!("../assets/icon.svg")),
];

/// A page that is told these facts, as `data-…` attributes of its body.
pub(crate) fn page(html: &str, facts: &[(&str, &str)]) -> Response<Body> {
    let attribute = |(name, value): &(&str, &str)| format!(" data-{name}=\"{}\"", escaped(value));
    let attributes: String = facts.iter().map(attribute).collect();
    let html = html.replacen("<body>", &format!("<body{attributes}>"), 1);
    with_headers(Response::new(Body::full(html)), "text/html; charset=utf-8", "no-store")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;")
}

/// A page that says why there is none, and where to go on.
pub(crate) fn refusal(problem: &Problem) -> Response<Body> {
    let (to, link) = match problem.status() {
        StatusCode::FORBIDDEN => ("./", "My devices"),
        _ => ("", "Try again"),
    };
    let html = REFUSED.replace("{{title}}", &problem.title);
    let html = html.replace("{{to}}", to).replace("{{link}}", link);
    let mut response = Response::new(Body::full(html));
    *response.status_mut() = problem.status();
    response.headers_mut().extend(problem.retry_after());
    with_headers(response, "text/html; charset=utf-8", "no-store")
}

/// A file of the pages; 304 for a browser that has it.
pub(crate) fn asset(name: &str, headers: &HeaderMap) -> Option<Response<Body>> {
    let (_, kind, text) = ASSETS.into_iter().find(|(known, ..)| *known == name)?;
    let tag = EntityTag::of(text.as_bytes());
    let mut response = if tag.is_in(headers, IF_NONE_MATCH) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        Response::new(Body::full(text))
    };
    response.headers_mut().extend(tag.value().map(|tag| (ETAG, tag)));
    Some(with_headers(response, kind, "no-cache"))
}

fn with_headers(
    mut response: Response<Body>,
    kind: &'static str,
    cache: &'static str,
) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
