//! The OpenAPI document, generated from the operations and types of the API.

use std::sync::{Arc, LazyLock};

use http::StatusCode;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Content, KnownFormat, ObjectBuilder, RefOr, Response, ResponseBuilder, Schema, SchemaFormat, Type,
};
use utoipa::{Modify, OpenApi, PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;

use super::error::ErrorBody;
use crate::Scope;
use crate::app::AppState;
use crate::live::LiveUpdate;

/// Routes together with their description.
pub(super) type ApiRouter = OpenApiRouter<Arc<AppState>>;

/// The part of the document about the service as a whole.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "sre serve",
        description = "Accepts the telemetry of AI agents and reports the state of their objectives. If tokens are \
                       configured, requests need `Authorization: Bearer …`. While the service starts, every path but \
                       `/healthz` answers 503 with `Retry-After`."
    ),
    servers((url = "http://127.0.0.1:4318")),
    tags(
        (name = "ingest", description = "Endpoints that accept telemetry."),
        (name = "read", description = "Endpoints that report the state of agents."),
        (name = "service", description = "Endpoints about the service itself; open to everybody.")
    ),
    components(schemas(ErrorBody, LiveUpdate)),
    modifiers(&Tokens)
)]
struct Document;

/// The security schemes: a bearer token of either scope.
struct Tokens;

impl Modify for Tokens {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        for scope in [Scope::Ingest, Scope::Read] {
            let description = format!("A token of scope `{}`.", scope.as_str());
            let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(description)).build();
            components.add_security_scheme(scope.as_str(), SecurityScheme::Http(scheme));
        }
    }
}

static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let routes = ApiRouter::with_openapi(Document::openapi())
        .merge(super::ingest_routes())
        .merge(super::engine_routes())
        .merge(super::other_read_routes())
        .merge(super::service_routes());
    let text = routes.into_openapi().to_pretty_json().expect("the document has only string keys");
    // Links of rustdoc lead nowhere outside of it.
    text.replace("[`", "`").replace("`]", "`")
});

/// Returns the OpenAPI document of the service, as JSON.
///
/// ```
/// assert!(sre_server::openapi().contains("\"/v1/slos\""));
/// ```
pub fn openapi() -> &'static str {
    &DOCUMENT
}

/// Errors with the same meaning in every operation that returns them.
type Errors = [(StatusCode, &'static str)];

const ACCESS_ERRORS: &Errors = &[
    (StatusCode::UNAUTHORIZED, "The token is missing or unknown."),
    (StatusCode::FORBIDDEN, "The token has another scope, or the request comes from another website's page."),
];

/// The errors of operations that accept a body of telemetry.
pub(super) const INGEST_ERRORS: &Errors = &[
    (StatusCode::BAD_REQUEST, "The body cannot be read; the message names what was found and what was expected."),
    (StatusCode::REQUEST_TIMEOUT, "The body did not arrive within `client_timeout`."),
    (
        StatusCode::PAYLOAD_TOO_LARGE,
        "The body is larger than `max_body`, as sent or decompressed, or its records take too much memory.",
    ),
    (StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported content type or encoding."),
    (StatusCode::TOO_MANY_REQUESTS, "Too many requests are in progress; retry later."),
    (StatusCode::INTERNAL_SERVER_ERROR, "Internal error: the outcome of the batch is unknown."),
    (StatusCode::SERVICE_UNAVAILABLE, "The journal cannot be written, or the service is stopping; retry later."),
];

/// Tags the operations of `routes` as `service`: anyone may call them.
pub(super) fn for_everybody(mut routes: ApiRouter) -> ApiRouter {
    for operation in operations(&mut routes) {
        operation.tags = Some(vec!["service".to_owned()]);
        operation.security = Some(vec![SecurityRequirement::default()]);
    }
    routes
}

/// Describes that the operations of `routes` need a token of a scope, if tokens are configured.
pub(super) fn for_scope(mut routes: ApiRouter, scope: Scope) -> ApiRouter {
    for operation in operations(&mut routes) {
        operation.tags = Some(vec![scope.as_str().to_owned()]);
        let token = SecurityRequirement::new::<_, [&str; 0], _>(scope.as_str(), []);
        operation.security = Some(vec![token, SecurityRequirement::default()]);
    }
    with_errors(routes, ACCESS_ERRORS, &[("application/json", ErrorBody::reference())])
}

/// Adds errors to the operations of `routes`, unless these describe them already.
pub(super) fn with_errors(mut routes: ApiRouter, errors: &Errors, content: &[(&str, RefOr<Schema>)]) -> ApiRouter {
    for operation in operations(&mut routes) {
        for (status, description) in errors {
            let answer = || error(*status, description, content).into();
            operation.responses.responses.entry(status.as_str().to_owned()).or_insert_with(answer);
        }
    }
    routes
}

fn error(status: StatusCode, description: &str, content: &[(&str, RefOr<Schema>)]) -> Response {
    let mut response = ResponseBuilder::new().description(description);
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        let seconds = HeaderBuilder::new().schema(Some(u64::schema())).description(Some("Seconds to wait."));
        response = response.header("Retry-After", seconds.build());
    }
    let content = content.iter().map(|(kind, schema)| (*kind, Content::new(Some(schema.clone()))));
    content.fold(response, |response, (kind, content)| response.content(kind, content)).build()
}

fn operations(routes: &mut ApiRouter) -> impl Iterator<Item = &mut Operation> {
    let paths = routes.get_openapi_mut().paths.paths.values_mut();
    paths.flat_map(|path| [&mut path.get, &mut path.post].into_iter().flatten())
}

/// Returns the schema of a window in a query: all of these are within 1 ms and 100 years.
pub(super) fn window_parameter() -> Schema {
    const PATTERN: &str = "^([1-9][0-9]{0,11}ms|[1-9][0-9]{0,8}s|[1-9][0-9]{0,6}m|[1-9][0-9]{0,4}h|[1-9][0-9]{0,3}d|\
                           [1-9][0-9]{0,2}w){1,3}$";
    let description =
        "A length of time within 1 ms and 100 years: `5m`, `6h` or `1h30m`. Units are ms, s, m, h, d and w.";
    let schema = ObjectBuilder::new().schema_type(Type::String).pattern(Some(PATTERN));
    schema.description(Some(description)).into()
}

/// The schema of a body of any bytes.
pub(super) struct Binary;

impl PartialSchema for Binary {
    fn schema() -> RefOr<Schema> {
        let format = SchemaFormat::KnownFormat(KnownFormat::Binary);
        ObjectBuilder::new().schema_type(Type::String).format(Some(format)).into()
    }
}

impl ToSchema for Binary {}
