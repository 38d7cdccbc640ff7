//! The pages: static files without a build step. A strict policy lets them load only themselves.

use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::body::Body;
use crate::problem::Problem;

pub(crate) const DEVICES: &str = include_str!("../assets/devices.html");
pub(crate) const ADMIN: &str = include_str!("../assets/admin.html");
const REFUSED: &str = include_str!("../assets/refused.html");

const ASSETS: [(&str, &str, &str); 5] = [
    ("app.css", "text/css; charset=utf-8", include_str!("../assets/app.css")),
    ("common.js", "text/javascript; charset=utf-8", include_str!("../assets/common.js")),
    ("devices.js", "text/javascript; charset=utf-8", include_str!("../assets/devices.js")),
    ("admin.js", "text/javascript; charset=utf-8", include_str!("../assets/admin.js")),
    ("icon.svg", "image/svg+xml", include_str!("../assets/icon.svg")),
];

pub(crate) fn page(html: &'static str) -> Response<Body> {
    with_headers(Response::new(Body::full(html)), "text/html; charset=utf-8", "no-store")
}

/// A page that says why there is none.
pub(crate) fn refusal(problem: &Problem) -> Response<Body> {
    let html = REFUSED.replace("{{title}}", &problem.title);
    let mut response = Response::new(Body::full(html));
    *response.status_mut() = problem.status();
    response.headers_mut().extend(problem.retry_after());
    with_headers(response, "text/html; charset=utf-8", "no-store")
}

/// A file of the pages; 304 for a browser that has it.
pub(crate) fn asset(name: &str, headers: &HeaderMap) -> Option<Response<Body>> {
    let (_, kind, text) = ASSETS.into_iter().find(|(known, ..)| *known == name)?;
    let tag = entity_tag(text);
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut known = known.flat_map(|value| value.split(','));
    let is_known = known.any(|known| {
        let known = known.trim();
        known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag
    });
    let mut response = if is_known {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        Response::new(Body::full(text))
    };
    response.headers_mut().extend(HeaderValue::try_from(tag).ok().map(|tag| (ETAG, tag)));
    Some(with_headers(response, kind, "no-cache"))
}

/// FNV-1a of the text: it changes with every version of the file.
fn entity_tag(text: &str) -> String {
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("\"{:016x}\"", text.bytes().fold(0xcbf2_9ce4_8422_2325, step))
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
