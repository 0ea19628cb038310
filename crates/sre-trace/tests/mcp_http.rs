//! What the headers of streamable HTTP have to do with the spans of MCP.

mod servers;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, StatusCode};
use axum::middleware::map_request;
use rmcp::model::{CallToolRequestParams, CallToolResponse, CallToolResult, ProtocolVersion};
use rmcp::service::{ClientLifecycleMode, ClientServiceExt, RequestContext};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt};
use serde_json::json;
use sre_trace::{ProtocolTracer, SpanRecord, TracedMcpHandler, TracedMcpTransport, TracedServerLayer};

/// Has any tool.
#[derive(Clone)]
struct Tools;

impl ServerHandler for Tools {
    async fn call_tool(
        &self,
        _: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        Ok(CallToolResult::success(Vec::new()).into())
    }
}

fn routes(tracer: &ProtocolTracer) -> Router {
    // The HTTP client of `rmcp` uses the default of the process.
    _ = rustls::crypto::ring::default_provider().install_default();
    servers::mcp_routes(TracedMcpHandler::new(Tools, tracer))
}

async fn serve(routes: Router) -> String {
    format!("{}/mcp", servers::serve(routes).await)
}

fn names(records: &[SpanRecord]) -> Vec<&str> {
    records.iter().map(|record| &*record.span.name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn since_2026_07_28_every_request_has_its_method_and_name_in_headers_too() {
    const TOOL: &str = "prüfen";
    let discover = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    for (lifecycle, has_headers) in [(discover, true), (ClientLifecycleMode::Initialize, false)] {
        let (tools, agent) = (ProtocolTracer::new("tools"), ProtocolTracer::new("agent"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let list = seen.clone();
        let edge = ProtocolTracer::new("edge");
        let routes = routes(&tools).layer(TracedServerLayer::new(&edge));
        let url = serve(routes.layer(map_request(move |request: Request| {
            let header = |name| Some(request.headers().get(name)?.to_str().unwrap().to_owned());
            list.lock().unwrap().push((header("mcp-method"), header("mcp-name")));
            std::future::ready(request)
        })))
        .await;
        let transport = TracedMcpTransport::http(StreamableHttpClientTransport::from_uri(&*url), &agent, "tools", url);
        let client = ().serve_with_lifecycle(transport, lifecycle).await.unwrap();
        client.call_tool(CallToolRequestParams::new(TOOL)).await.unwrap();
        client.cancel().await.unwrap();
        let opening = if has_headers { "server/discover" } else { "initialize" };
        for tracer in [&tools, &agent] {
            let records = tracer.protocol_spans();
            assert_eq!(names(&records), [opening, "tools/call prüfen"]);
            // Not as the header has it.
            assert_eq!(records[1].mcp_tool_name(), Some(TOOL));
        }
        // A layer in front of the server names the requests by the headers, if they have them.
        let edge = edge.protocol_spans();
        let edge = names(&edge).into_iter().filter(|name| *name != "GET" && *name != "DELETE");
        let expected: &[&str] =
            if has_headers { &["POST server/discover", "POST tools/call prüfen"] } else { &["POST"; 3] };
        assert_eq!(edge.collect::<Vec<_>>(), expected);
        let with_method = |(method, name): (Option<String>, _)| Some((method?, name));
        let seen: Vec<_> = seen.lock().unwrap().drain(..).filter_map(with_method).collect();
        let name = Some("=?base64?cHLDvGZlbg==?=".to_owned());
        let expected = [(opening.to_owned(), None), ("tools/call".to_owned(), name)];
        assert_eq!(seen, if has_headers { expected.to_vec() } else { Vec::new() });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_headers_contradict_its_body_is_no_call() {
    let tools = ProtocolTracer::new("tools");
    let url = serve(routes(&tools)).await;
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "agent", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {}
    });
    let params = json!({"name": "lookup", "arguments": {}, "_meta": meta});
    let body = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}).to_string();
    let call = async |method, name| {
        let headers = [
            ("accept", "application/json, text/event-stream"),
            ("content-type", "application/json"),
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", method),
            ("mcp-name", name),
        ];
        let request = reqwest::Client::new().post(&url).body(body.clone());
        let request = headers.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        request.send().await.unwrap().status()
    };
    assert_eq!(call("tools/call", "other").await, StatusCode::BAD_REQUEST);
    assert_eq!(call("prompts/get", "lookup").await, StatusCode::BAD_REQUEST);
    assert_eq!(names(&tools.protocol_spans()), [""; 0]);
    assert_eq!(call("tools/call", "lookup").await, StatusCode::OK);
    assert_eq!(names(&tools.protocol_spans()), ["tools/call lookup"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_writes_only_headers_is_followed() {
    const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for has_layer in [false, true] {
        let tracer = ProtocolTracer::new("orders");
        let (routes, layer) = (routes(&tracer), TracedServerLayer::new(&tracer));
        let url = serve(if has_layer { routes.layer(layer) } else { routes }).await;
        let headers = HashMap::from([(HeaderName::from_static("traceparent"), CALLER.parse().unwrap())]);
        let config = StreamableHttpClientTransportConfig::with_uri(url).custom_headers(headers);
        let client = ().serve(StreamableHttpClientTransport::from_config(config)).await.unwrap();
        client.call_tool(CallToolRequestParams::new("lookup")).await.unwrap();
        client.cancel().await.unwrap();
        let records = tracer.protocol_spans();
        let served = &records.iter().find(|record| record.mcp_tool_name().is_some()).unwrap().span;
        assert_eq!(served.trace_id.to_string(), CALLER[3..35]);
        let parent = records.iter().find(|record| Some(record.span.span_id) == served.parent_span_id);
        assert_eq!(parent.map(|record| &*record.span.name), has_layer.then_some("POST"));
    }
}
