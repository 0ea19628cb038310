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

/// A request's body, whole and decompressed, with the room that it takes until it is dropped.
pub(crate) struct BufferedBody {
    pub(crate) bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

/// Reads a body within the server_limits of size, time and of what all bodies may hold together.
pub(crate) async fn whole(context: &AppState, headers: &HeaderMap, body: Body) -> Result<BufferedBody, ApiError> {
    let server_limits = &context.config.server_limits;
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
    let mut room = MemoryPermit::new(context.body_memory.clone());
    let reading = collect(body, server_limits.max_body, &mut room);
    let sent = tokio::time::timeout(server_limits.client_timeout, reading)
        .await
        .map_err(|_| ApiError::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"))??;
    if !is_gzip {
        return Ok(BufferedBody { bytes: sent, _room: room.held });
    }
    let most = server_limits.max_body;
    off_the_runtime(sent.len(), move || {
        let bytes = decompress(&sent, most, &mut room)?;
        Ok(BufferedBody { bytes, _room: room.held })
    })
    .await
}

/// Works on a body; on a large one where that keeps nobody waiting.
pub(crate) async fn off_the_runtime<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    const LARGE: usize = 64 << 10;
    if bytes < LARGE {
        return work();
    }
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// A body that was read elsewhere, with the room that it takes.
#[cfg(feature = "grpc")]
pub(crate) fn with_permit(context: &AppState, bytes: Bytes) -> Result<BufferedBody, ApiError> {
    let mut room = MemoryPermit::new(context.body_memory.clone());
    room.take(bytes.len())?;
    Ok(BufferedBody { bytes, _room: room.held })
}

async fn collect(mut body: Body, most: usize, room: &mut MemoryPermit) -> Result<Bytes, ApiError> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ApiError::bad_request(format!("the body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > most {
            return Err(too_large(most));
        }
        room.take(data.len())?;
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

fn decompress(sent: &[u8], most: usize, room: &mut MemoryPermit) -> Result<Bytes, ApiError> {
    let mut decoder = GzDecoder::new(sent);
    let mut whole = Vec::new();
    let mut part = vec![0; 64 << 10];
    loop {
        let length =
            decoder.read(&mut part).map_err(|error| ApiError::bad_request(format!("found no gzip: {error}")))?;
        if length == 0 {
            return Ok(whole.into());
        }
        if whole.len() + length > most {
            return Err(too_large(most));
        }
        room.take(length)?;
        whole.extend_from_slice(&part[..length]);
    }
}

fn too_large(most: usize) -> ApiError {
    let message = format!("found more than {most} bytes, expected a smaller body (`max_body`)");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
}

/// Takes room in steps, so that a body is refused before it has filled the memory.
struct MemoryPermit {
    of: Arc<Semaphore>,
    held: OwnedSemaphorePermit,
    /// Bytes for which there is room already.
    left: usize,
}

const STEP: usize = 64 << 10;

impl MemoryPermit {
    fn new(of: Arc<Semaphore>) -> Self {
        let held =
            of.clone().try_acquire_many_owned(0).expect("no permits are always to be had, as it is never closed");
        Self { of, held, left: 0 }
    }

    fn take(&mut self, bytes: usize) -> Result<(), ApiError> {
        if bytes > self.left {
            let wanted = (bytes - self.left).div_ceil(STEP) * STEP;
            let permits = u32::try_from(wanted >> 10).unwrap_or(u32::MAX);
            let more = self.of.clone().try_acquire_many_owned(permits).map_err(|_| ApiError::busy())?;
            self.held.merge(more);
            self.left += wanted;
        }
        self.left -= bytes;
        Ok(())
    }
}
