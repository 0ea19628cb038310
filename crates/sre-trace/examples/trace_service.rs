//! The service that the W3C test suite calls: `POST /test` takes a list of `{"url", "arguments"}`, and posts `arguments` to each `url` as a
//! child of the request's span.
//!
//! ```text
//! cargo run -p sre-trace --example trace_service -- 127.0.0.1:8080
//! ```
use axum::body::Bytes;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use http_body_util::Full;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::Value;
use sre_trace::TraceContext;

#[derive(Deserialize)]
struct Call {
    url: String,
    arguments: Value,
}

type Posts = Client<HttpConnector, Full<Bytes>>;
/// Returns the headers of a number of calls that a request causes.
pub type HeadersOfCalls = fn(&HeaderMap, usize) -> Vec<Vec<(String, String)>>;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    serve(tokio::net::TcpListener::bind(address).await?, headers_of_calls).await
}

/// Returns the headers of calls that are children of the request's span.
pub fn headers_of_calls(received: &HeaderMap, calls: usize) -> Vec<Vec<(String, String)>> {
    // Without a caller, the request's span is the first of a new trace.
    let request =
        TraceContext::from_headers(received).map_or_else(|_| TraceContext::extract(received), |caller| caller.child());
    let headers = |_| request.child().to_headers().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    (0..calls).map(headers).collect()
}

/// Answers the suite's requests.
pub async fn serve(listener: tokio::net::TcpListener, headers_of_calls: HeadersOfCalls) -> std::io::Result<()> {
    println!("Listening on http://{}/test", listener.local_addr()?);
    let client: Posts = Client::builder(TokioExecutor::new()).build_http();
    let answer = move |headers: HeaderMap, Json(calls): Json<Vec<Call>>| async move {
        for (call, headers) in calls.iter().zip(headers_of_calls(&headers, calls.len())) {
            send(&client, call, headers).await.map_err(|error| (StatusCode::BAD_GATEWAY, error.to_string()))?;
        }
        Ok::<_, (StatusCode, String)>(Json(Value::Null))
    };
    axum::serve(listener, Router::new().route("/test", post(answer))).await
}

async fn send(
    client: &Posts,
    call: &Call,
    headers: Vec<(String, String)>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let post = Request::post(&call.url).header("content-type", "application/json");
    let post = headers.into_iter().fold(post, |post, (name, value)| post.header(name, value));
    client.request(post.body(Full::from(call.arguments.to_string()))?).await?;
    Ok(())
}
