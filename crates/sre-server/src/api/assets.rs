use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use utoipa_axum::routes;

use super::error::ApiError;
use super::extract::Path;
use super::openapi::{ApiRouter, openapi};

pub(super) fn routes() -> ApiRouter {
    let page = ApiRouter::default().route("/", get(index)).route("/page/{file}", get(file));
    page.routes(routes!(document))
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The files of the page, which loads nothing from elsewhere.
const FILES: [(&str, &str, &str); 8] = [
    ("style.css", CSS, include_str!("../../page/style.css")),
    ("base.js", SCRIPT, include_str!("../../page/base.js")),
    ("app.js", SCRIPT, include_str!("../../page/app.js")),
    ("list.js", SCRIPT, include_str!("../../page/list.js")),
    ("detail.js", SCRIPT, include_str!("../../page/detail.js")),
    ("trace.js", SCRIPT, include_str!("../../page/trace.js")),
    ("uPlot.css", CSS, include_str!("../../page/uPlot.min.css")),
    ("uPlot.js", SCRIPT, include_str!("../../page/uPlot.iife.min.js")),
];

/// The page loads only its own files, and no other page may embed it.
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

async fn index() -> Response {
    asset(HTML, include_str!("../../page/index.html"))
}

async fn file(Path(name): Path<String>) -> Result<Response, ApiError> {
    let found = FILES.iter().find(|(known, ..)| *known == name);
    found
        .map(|(_, kind, text)| asset(kind, text))
        .ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, format!("found no file `{name}`")))
}

/// This document
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "openapi",
    responses((status = 200, description = "The OpenAPI document.", body = Object, content_type = "application/json"))
)]
async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], openapi()).into_response()
}
