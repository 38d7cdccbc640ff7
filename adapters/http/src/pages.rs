//! The pages: static files without a build step. A strict policy lets them load only themselves.

use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::body::Body;
use crate::entity_tag::EntityTag;
use crate::problem::Problem;

pub(crate) const DEVICES: &str = include_str!("../assets/devices.html");
pub(crate) const ADMIN: &str = include_str!("../assets/admin.html");
const REFUSED: &str = include_str!("../assets/refused.html");

const ASSETS: [(&str, &str, &str); 8] = [
    ("app.css", "text/css; charset=utf-8", include_str!("../assets/app.css")),
    ("common.js", "text/javascript; charset=utf-8", include_str!("../assets/common.js")),
    ("devices.js", "text/javascript; charset=utf-8", include_str!("../assets/devices.js")),
    ("admin.js", "text/javascript; charset=utf-8", include_str!("../assets/admin.js")),
    ("block.js", "text/javascript; charset=utf-8", include_str!("../assets/block.js")),
    ("history.js", "text/javascript; charset=utf-8", include_str!("../assets/history.js")),
    ("policy.js", "text/javascript; charset=utf-8", include_str!("../assets/policy.js")),
    ("icon.svg", "image/svg+xml", include_str!("../assets/icon.svg")),
];

/// A page that is told these facts, as `data-…` attributes of its body.
pub(crate) fn page(html: &str, facts: &[(&str, &str)]) -> Response<Body> {
    let attribute = |(name, value): &(&str, &str)| format!(" data-{name}=\"{}\"", escaped(value));
    let attributes: String = facts.iter().map(attribute).collect();
    let html = html.replacen("<body>", &format!("<body{attributes}>"), 1);
    of_type(Response::new(Body::full(html)), HTML)
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
    response.headers_mut().extend(problem.way_out());
    of_type(response, HTML)
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
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Some(of_type(response, kind))
}

fn of_type(mut response: Response<Body>, kind: &'static str) -> Response<Body> {
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

const HTML: &str = "text/html; charset=utf-8";
