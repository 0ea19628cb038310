use std::io::{self, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::Response;
use http::header::CONTENT_ENCODING;
use http::request::Builder;

use super::{BackendApi, ExportError};
use crate::{HttpClient, Timestamp};

impl BackendApi {
    /// Finishes a request with a body in gzip, which is the concatenation of the parts, and sends it.
    pub async fn send_gzip(
        &self,
        request: Builder,
        parts: &[&[u8]],
        at: Timestamp,
        http: &dyn HttpClient,
    ) -> Result<Response<Bytes>, ExportError> {
        let body = gzip(parts).map_err(|error| self.invalid(error))?;
        self.send(request.header(CONTENT_ENCODING, "gzip"), body, at, http).await
    }
}

fn gzip(parts: &[&[u8]]) -> io::Result<Vec<u8>> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    // Records of a batch are alike: a quarter is more than most need.
    let mut encoder = GzEncoder::new(Vec::with_capacity(len / 4 + 256), Compression::fast());
    parts.iter().try_for_each(|part| encoder.write_all(part))?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn parts_are_one_body() {
        let mut text = String::new();
        GzDecoder::new(&*gzip(&[b"one ", b"", b"two"]).unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "one two");
    }
}
