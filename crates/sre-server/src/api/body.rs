use std::io::Read;
use std::sync::Arc;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use flate2::bufread::GzDecoder;
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::ApiError;
use crate::app::AppState;

/// A request's body, complete and decompressed, with the permit for its memory until it is dropped.
pub(crate) struct BufferedBody {
    pub(crate) bytes: Bytes,
    _permit: OwnedSemaphorePermit,
}

/// Reads a body within the limits of its size, its time, and the memory of all bodies.
pub(super) async fn read_body(state: &AppState, headers: &HeaderMap, body: Body) -> Result<BufferedBody, ApiError> {
    let server_limits = &state.config.server_limits;
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
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > server_limits.max_body) {
        return Err(too_large(server_limits.max_body));
    }
    let mut permit = MemoryPermit::new(state.body_memory.clone());
    let reading = collect(body, server_limits.max_body, &mut permit);
    let sent = tokio::time::timeout(server_limits.client_timeout, reading).await.map_err(|_| {
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time (`client_timeout`)")
    })??;
    if !is_gzip {
        return Ok(BufferedBody { bytes: sent, _permit: permit.held });
    }
    let max_body = server_limits.max_body;
    off_the_runtime(sent.len(), move || {
        let bytes = decompress(&sent, max_body, &mut permit)?;
        Ok(BufferedBody { bytes, _permit: permit.held })
    })
    .await
}

/// Runs work on a body of `bytes`; if that is large, on a thread where it does not block other requests.
pub(crate) async fn off_the_runtime<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    const LARGE: usize = 64 << 10;
    if bytes < LARGE {
        return work();
    }
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// Takes the memory for a body that was read elsewhere.
#[cfg(feature = "grpc")]
pub(super) fn with_permit(state: &AppState, bytes: Bytes) -> Result<BufferedBody, ApiError> {
    let mut permit = MemoryPermit::new(state.body_memory.clone());
    permit.acquire(bytes.len())?;
    Ok(BufferedBody { bytes, _permit: permit.held })
}

async fn collect(mut body: Body, max_body: usize, permit: &mut MemoryPermit) -> Result<Bytes, ApiError> {
    let mut collected = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ApiError::bad_request(format!("cannot read the body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if collected.len() + data.len() > max_body {
            return Err(too_large(max_body));
        }
        permit.acquire(data.len())?;
        collected.extend_from_slice(&data);
    }
    Ok(collected.freeze())
}

fn decompress(sent: &[u8], max_body: usize, permit: &mut MemoryPermit) -> Result<Bytes, ApiError> {
    let mut decoder = GzDecoder::new(sent);
    let mut decompressed = Vec::new();
    let mut part = vec![0; 64 << 10];
    loop {
        let length =
            decoder.read(&mut part).map_err(|error| ApiError::bad_request(format!("invalid gzip: {error}")))?;
        if length == 0 {
            return Ok(decompressed.into());
        }
        if decompressed.len() + length > max_body {
            return Err(too_large(max_body));
        }
        permit.acquire(length)?;
        decompressed.extend_from_slice(&part[..length]);
    }
}

fn too_large(max_body: usize) -> ApiError {
    let message = format!("found more than {max_body} bytes, expected a smaller body (`max_body`)");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
}

/// Acquires memory in steps while a body arrives, so that a body is refused before it exceeds the memory of all bodies.
struct MemoryPermit {
    memory: Arc<Semaphore>,
    held: OwnedSemaphorePermit,
    /// Acquired bytes that are not used yet.
    unused: usize,
}

const STEP: usize = 64 << 10;

impl MemoryPermit {
    fn new(memory: Arc<Semaphore>) -> Self {
        let held = memory.clone().try_acquire_many_owned(0).expect("zero permits are always available");
        Self { memory, held, unused: 0 }
    }

    fn acquire(&mut self, bytes: usize) -> Result<(), ApiError> {
        if bytes > self.unused {
            let wanted = (bytes - self.unused).div_ceil(STEP) * STEP;
            let permits = u32::try_from(wanted >> 10).unwrap_or(u32::MAX);
            let more = self.memory.clone().try_acquire_many_owned(permits).map_err(|_| ApiError::busy())?;
            self.held.merge(more);
            self.unused += wanted;
        }
        self.unused -= bytes;
        Ok(())
    }
}
