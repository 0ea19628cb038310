use std::io::{self, Read};

use axum::body::Body;
use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;

use super::error::ApiError;
use crate::app::AppState;
use crate::body_memory::MemoryPermit;

/// A request's body, complete and decompressed, with the permit for its memory.
pub(crate) struct BufferedBody {
    pub(crate) bytes: Bytes,
    pub(crate) permit: MemoryPermit,
}

/// Reads a body within the limits of its size, its time, and the memory of all bodies.
pub(super) async fn read_body(state: &AppState, headers: &HeaderMap, body: Body) -> Result<BufferedBody, ApiError> {
    let max_body = state.config.server_limits.max_body;
    let encoding =
        headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("?").to_ascii_lowercase());
    let is_gzip = match encoding.as_deref() {
        None | Some("" | "identity") => false,
        Some("gzip" | "x-gzip") => true,
        Some(other) => {
            let message = format!("found `Content-Encoding: {other}`, expected gzip or none");
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
    };
    let sent = receive(state, headers, body, max_body).await?;
    if is_gzip { decompress(sent, max_body).await } else { Ok(sent) }
}

/// Reads a body as it was sent, of at most `max_body` bytes.
pub(super) async fn receive(
    state: &AppState,
    headers: &HeaderMap,
    body: Body,
    max_body: usize,
) -> Result<BufferedBody, ApiError> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > max_body) {
        return Err(too_large(max_body));
    }
    let reading = collect(state, body, announced.unwrap_or_default(), max_body);
    tokio::time::timeout(state.config.server_limits.client_timeout, reading)
        .await
        .map_err(|_| ApiError::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time (`client_timeout`)"))?
}

/// Runs work on a body of `bytes`; if that is large, on a thread where it does not block other requests.
pub(crate) async fn off_the_runtime<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    const LARGE: usize = 64 << 10;
    if bytes < LARGE {
        return work();
    }
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

async fn collect(
    state: &AppState,
    mut body: Body,
    announced: usize,
    max_body: usize,
) -> Result<BufferedBody, ApiError> {
    let (mut permit, arrival) = (state.body_memory.permit(), state.body_memory.arrival());
    let mut collected = permit.buffer(announced, max_body).map_err(out_of_memory)?;
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            () = arrival.revoked() => {
                let message = "the body stalled while others needed its memory (`max_in_flight`)";
                return Err(ApiError { message: message.to_owned(), ..ApiError::busy() });
            }
        };
        let Some(frame) = frame else { return Ok(BufferedBody { bytes: collected.into_bytes(), permit }) };
        let frame = frame.map_err(|error| ApiError::bad_request(format!("cannot read the body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if collected.len() + data.len() > max_body {
            return Err(too_large(max_body));
        }
        permit.acquire(data.len()).await?;
        collected.append(&data).map_err(out_of_memory)?;
        arrival.received(collected.len());
    }
}

fn out_of_memory(error: io::Error) -> ApiError {
    ApiError { message: format!("no memory for the body: {error}"), ..ApiError::busy() }
}

/// Decompresses all members of a gzip file.
pub(super) async fn decompress(sent: BufferedBody, max_body: usize) -> Result<BufferedBody, ApiError> {
    let runtime = tokio::runtime::Handle::current();
    // A small body may become a large one.
    let work = move || {
        let BufferedBody { bytes: sent, mut permit } = sent;
        // The size that a file of one member has by its last bytes (RFC 1952), within the best possible ratio.
        let expected = sent.last_chunk().map_or(0, |size| u32::from_le_bytes(*size) as usize);
        let expected = expected.min(sent.len().saturating_mul(1_032));
        let mut decoder = MultiGzDecoder::new(&*sent);
        let mut decompressed = permit.buffer(expected, max_body).map_err(out_of_memory)?;
        let mut part = vec![0; 64 << 10];
        loop {
            let length =
                decoder.read(&mut part).map_err(|error| ApiError::bad_request(format!("invalid gzip: {error}")))?;
            if length == 0 {
                drop(sent);
                permit.shrink_to(decompressed.len());
                return Ok(BufferedBody { bytes: decompressed.into_bytes(), permit });
            }
            if decompressed.len() + length > max_body {
                return Err(too_large(max_body));
            }
            runtime.block_on(permit.acquire(length))?;
            decompressed.append(&part[..length]).map_err(out_of_memory)?;
        }
    };
    off_the_runtime(usize::MAX, work).await
}

fn too_large(max_body: usize) -> ApiError {
    let message = format!("found more than {max_body} bytes, expected a smaller body (`max_body`)");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
}
