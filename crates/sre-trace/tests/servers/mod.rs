//! Servers of the official crates on loopback.
#![allow(dead_code, reason = "each test uses a part")]

use std::sync::Arc;

use a2a_server::RequestHandler;
use axum::Router;
use rmcp::ServerHandler;
use rmcp::transport::StreamableHttpService;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use sre_trace::{TracedA2aHandler, TracedMcpHandler};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;

/// Returns an A2A agent by JSON-RPC at `/rpc` and by HTTP+JSON at `/rest`.
pub(crate) fn a2a_routes<H: RequestHandler>(handler: Arc<TracedA2aHandler<H>>) -> Router {
    Router::new()
        .nest("/rpc", a2a_server::jsonrpc::jsonrpc_router(handler.clone()))
        .nest("/rest", a2a_server::rest::rest_router(handler))
}

/// Returns an MCP server by streamable HTTP at `/mcp`.
pub(crate) fn mcp_routes(handler: TracedMcpHandler<impl ServerHandler + Clone>) -> Router {
    let sessions = Arc::new(LocalSessionManager::default());
    let service = StreamableHttpService::new(move || Ok(handler.clone()), sessions, Default::default());
    Router::new().nest_service("/mcp", service)
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

/// Serves on a free port. Returns the URL.
pub(crate) async fn serve(routes: Router) -> String {
    let (listener, url) = listen().await;
    tokio::spawn(async move { axum::serve(listener, routes).await });
    url
}

/// Serves gRPC on a free port. Returns the URL.
pub(crate) async fn serve_grpc(services: tonic::transport::server::Router) -> String {
    let (listener, url) = listen().await;
    tokio::spawn(services.serve_with_incoming(TcpListenerStream::new(listener)));
    url
}
