use std::io::Write;

use serde::Serialize;

/// Separates the parts. Its delimiter begins with a line break, which JSON escapes: no part can contain it.
const BOUNDARY: &str = "agent-sre-8f1c0d5e7a2b4c3d";

/// A body of `multipart/form-data` whose parts are JSON.
#[derive(Default)]
pub(crate) struct Multipart {
    body: Vec<u8>,
    json: Vec<u8>,
}

impl Multipart {
    /// Creates a body with room for that many bytes.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { body: Vec::with_capacity(bytes), json: Vec::new() }
    }

    /// Adds a part whose name is the concatenation of `name`. LangSmith requires the length of each.
    pub(crate) fn part(&mut self, name: &[&str], content: &impl Serialize) -> Result<(), serde_json::Error> {
        self.part_with(name, |json| serde_json::to_writer(json, content))
    }

    /// Adds a part whose content `write` appends.
    pub(crate) fn part_with(
        &mut self,
        name: &[&str],
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), serde_json::Error>,
    ) -> Result<(), serde_json::Error> {
        self.json.clear();
        write(&mut self.json)?;
        for text in ["--", BOUNDARY, "\r\nContent-Disposition: form-data; name=\""].iter().chain(name) {
            self.body.extend_from_slice(text.as_bytes());
        }
        let length = self.json.len();
        write!(self.body, "\"\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n")
            .map_err(serde_json::Error::io)?;
        self.body.extend_from_slice(&self.json);
        self.body.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Returns the value of the `content-type` header.
    pub(crate) fn content_type() -> String {
        format!("multipart/form-data; boundary={BOUNDARY}")
    }

    /// Returns the body.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
        self.body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_content_ends_a_part() {
        let mut form = Multipart::default();
        form.part(&["a"], &format!("\r\n--{BOUNDARY}--\r\n")).unwrap();
        let body = String::from_utf8(form.finish()).unwrap();
        assert_eq!(body.matches(&format!("\n--{BOUNDARY}")).count(), 1, "{body}");
        assert!(body.starts_with(&format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"a\"\r\n")), "{body}");
    }
}
