use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::OPENAPI;
use super::error::ApiError;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The page's files; nothing of it comes from anywhere else.
const FILES: [(&str, &str, &str); 8] = [
    ("style.css", CSS, include_str!("../../page/style.css")),
    ("base.js", SCRIPT, include_str!("../../page/base.js")),
    ("app.js", SCRIPT, include_str!("../../page/app.js")),
    ("list.js", SCRIPT, include_str!("../../page/list.js")),
    ("guards.js", SCRIPT, include_str!("../../page/guards.js")),
    ("detail.js", SCRIPT, include_str!("../../page/detail.js")),
    ("uPlot.css", CSS, include_str!("../../page/uPlot.min.css")),
    ("uPlot.js", SCRIPT, include_str!("../../page/uPlot.iife.min.js")),
];

/// Nothing from outside, and nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn asset(kind: &'static str, text: &'static str) -> Response {
    let headers: [(HeaderName, &str); 4] = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    let headers: HeaderMap = headers.map(|(name, value)| (name, HeaderValue::from_static(value))).into_iter().collect();
    let version = HeaderValue::from_static(concat!("\"", env!("CARGO_PKG_VERSION"), "\""));
    (headers, [(header::CACHE_CONTROL, HeaderValue::from_static("no-cache")), (header::ETAG, version)], text)
        .into_response()
}

pub(crate) async fn index() -> Response {
    asset(HTML, include_str!("../../page/index.html"))
}

pub(crate) async fn file(Path(name): Path<String>) -> Result<Response, ApiError> {
    let found = FILES.iter().find(|(known, ..)| *known == name);
    found
        .map(|(_, kind, text)| asset(kind, text))
        .ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, format!("found no file `{name}`")))
}

pub(crate) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}
