//! The pages: static files without a build step. A strict policy lets them load only themselves.

use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
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
    of_type(Response::new(Body::full(html)), HTML)
}

/// A page that says why there is none.
pub(crate) fn refusal(problem: &Problem) -> Response<Body> {
    let html = REFUSED.replace("{{title}}", &problem.title);
    let mut response = Response::new(Body::full(html));
    *response.status_mut() = problem.status();
    response.headers_mut().extend(problem.retry_after());
    of_type(response, HTML)
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
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Some(of_type(response, kind))
}

/// FNV-1a of the text: it changes with every version of the file.
fn entity_tag(text: &str) -> String {
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("\"{:016x}\"", text.bytes().fold(0xcbf2_9ce4_8422_2325, step))
}

fn of_type(mut response: Response<Body>, kind: &'static str) -> Response<Body> {
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

const HTML: &str = "text/html; charset=utf-8";
