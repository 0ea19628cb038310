//! HTTP clients and servers in layers.

use std::convert::Infallible;
use std::io;

use http::{Request, Response, StatusCode};
use sre_trace::{McpHeaders, McpRequest, ProtocolTracer, SpanRole, TracedClientLayer, TracedServerLayer};
use tower::{ServiceBuilder, ServiceExt, service_fn};

#[tokio::test]
async fn a_request_is_below_the_tracer_in_its_extensions_and_replaces_older_headers() {
    let (agent, server) = (ProtocolTracer::new("agent"), ProtocolTracer::new("server"));
    let service = service_fn(async |request: Request<()>| {
        assert_eq!(request.headers().get_all("traceparent").iter().count(), 1);
        assert_eq!(request.headers().get("tracestate"), None);
        let status = if request.uri().path() == "/missing" { StatusCode::NOT_FOUND } else { StatusCode::BAD_GATEWAY };
        Ok::<_, Infallible>(Response::builder().status(status).body(()).unwrap())
    });
    let client = ServiceBuilder::new()
        .layer(TracedClientLayer::new(&agent))
        .layer(TracedServerLayer::new(&server))
        .service(service);
    let task = agent.task("answer");
    for path in ["missing", "broken"] {
        let request = Request::get(format!("http://user:secret@orders.example:8080/{path}?key=secret"))
            .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
            .header("tracestate", "other=1")
            .extension(task.tracer());
        client.clone().oneshot(request.body(()).unwrap()).await.unwrap();
    }
    let (sent, received) = (agent.protocol_spans(), server.protocol_spans());
    for (sent, received) in sent.iter().zip(&received) {
        assert_eq!((sent.span.role, sent.span.parent_span_id), (SpanRole::Client, Some(task.span_id())));
        assert_eq!((received.span.role, received.span.parent_span_id), (SpanRole::Server, Some(sent.span.span_id)));
    }
    assert_eq!(sent[0].attribute("url.full"), Some("http://orders.example:8080/missing"));
    assert_eq!(received[0].attribute("url.path"), Some("/missing"));
    // A request that was wrong is no error of the server.
    let errors = [&sent[0], &received[0], &sent[1], &received[1]].map(|record| record.attribute("error.type"));
    assert_eq!(errors, [Some("404"), None, Some("502"), Some("502")]);
}

#[tokio::test]
async fn a_request_that_fails_or_is_dropped_is_an_error() {
    let agent = ProtocolTracer::new("agent");
    let service = service_fn(async |request: Request<()>| match request.uri().path() {
        "/slow" => std::future::pending().await,
        _ => Err::<Response<()>, _>(io::Error::other("http://orders.example/?key=secret")),
    });
    let client = ServiceBuilder::new().layer(TracedClientLayer::new(&agent)).service(service);
    let request = |path: &str| Request::get(format!("http://orders.example{path}")).body(()).unwrap();
    client.clone().oneshot(request("/")).await.unwrap_err();
    let slow = tokio::spawn(client.oneshot(request("/slow")));
    tokio::task::yield_now().await;
    slow.abort();
    slow.await.unwrap_err();
    let errors: Vec<_> = agent.protocol_spans().into_iter().map(|record| record.span.error.unwrap()).collect();
    assert_eq!(errors, ["the request failed", "cancelled"]);
}

#[tokio::test]
async fn a_request_of_mcp_is_named_by_its_headers_where_nobody_reads_its_body() {
    let (agent, server) = (ProtocolTracer::new("agent"), ProtocolTracer::new("server"));
    let service = service_fn(async |request: Request<()>| {
        let headers = request.headers().iter().filter(|(name, _)| name.as_str().starts_with("mcp-"));
        let headers = headers.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
        Ok::<_, Infallible>(Response::new(headers.collect::<Vec<_>>()))
    });
    let client = ServiceBuilder::new()
        .layer(TracedClientLayer::new(&agent))
        .layer(TracedServerLayer::new(&server))
        .service(service);
    let mcp = |request: McpRequest<'_>| Some(McpHeaders::of(&request));
    let read = McpRequest { method: "resources/read", resource_uri: Some("file:///o-1"), ..McpRequest::default() };
    let version = Some("2026-07-28");
    for (headers, name, sent) in [
        (
            mcp(McpRequest { protocol_version: version, ..McpRequest::tool("search") }),
            "POST tools/call search",
            &["mcp-method: tools/call", "mcp-name: search", "mcp-protocol-version: 2026-07-28"] as &[_],
        ),
        (
            mcp(McpRequest::tool("prüfen")),
            "POST tools/call prüfen",
            &["mcp-method: tools/call", "mcp-name: =?base64?cHLDvGZlbg==?="],
        ),
        (mcp(read), "POST resources/read", &["mcp-method: resources/read", "mcp-name: file:///o-1"]),
        (
            mcp(McpRequest { method: "tools/list", ..McpRequest::default() }),
            "POST tools/list",
            &["mcp-method: tools/list"],
        ),
        (None, "POST", &[]),
    ] {
        let mut request = Request::post("http://tools.example/mcp").body(()).unwrap();
        headers.into_iter().for_each(|headers| _ = request.extensions_mut().insert(headers));
        let response = client.clone().oneshot(request).await.unwrap();
        assert_eq!(response.into_body(), sent);
        for tracer in [&agent, &server] {
            assert_eq!(tracer.protocol_spans().last().unwrap().span.name, name);
        }
    }
}
