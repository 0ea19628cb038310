use serde_json::{Map, Value};

use crate::context::{HeaderError, NAMES, TraceContext};

/// Returns the trace headers in a map: `params._meta` of an MCP request
/// ([SEP-414](https://modelcontextprotocol.io/community/seps/414-request-meta)), or the metadata of an A2A message.
///
/// ```
/// use serde_json::json;
/// use sre_trace::{TraceContext, meta_headers};
/// let caller = TraceContext::root();
/// let mut request = json!({"method": "tools/call", "params": {"name": "search", "_meta": {}}});
/// caller.write_meta(request["params"]["_meta"].as_object_mut().unwrap());
/// let received = request["params"]["_meta"].as_object().unwrap();
/// assert_eq!(TraceContext::from_headers(meta_headers(received)).unwrap().span_id, caller.span_id);
/// ```
pub fn meta_headers(meta: &Map<String, Value>) -> impl Iterator<Item = (&'static str, &str)> {
    NAMES.into_iter().filter_map(|name| Some((name, meta.get(name)?.as_str()?)))
}

impl TraceContext {
    /// Reads the caller's context from the metadata of a message.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no valid `traceparent`.
    pub fn from_meta(meta: &Map<String, Value>) -> Result<Self, HeaderError> {
        Self::from_headers(meta_headers(meta))
    }

    /// Writes this span's context into the metadata of a message that it sends. What another span has written is replaced.
    pub fn write_meta(&self, meta: &mut Map<String, Value>) {
        NAMES.into_iter().for_each(|name| _ = meta.remove(name));
        meta.extend(self.to_headers().into_iter().map(|(name, value)| (name.to_owned(), Value::String(value))));
    }
}
