//! Reads JSON of a framework that may have another shape in another version.

use serde::Deserialize;

use super::text_only;

/// Reads a value; the default if there is none, or if it has another shape.
pub fn read<'a, T: Deserialize<'a> + Default>(json: Option<&'a str>) -> T {
    json.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
}

/// Returns the text of an error that is a text or an object with a `message`; otherwise its JSON.
pub fn error_text(json: Option<&str>) -> String {
    #[derive(Deserialize)]
    struct Message {
        #[serde(default, deserialize_with = "text_only::deserialize")]
        message: Option<String>,
    }
    let Some(json) = json else { return "failed".to_owned() };
    let message = match json.as_bytes().first() {
        Some(b'"') => serde_json::from_str(json).ok(),
        Some(b'{') => serde_json::from_str(json).ok().and_then(|error: Message| error.message),
        _ => None,
    };
    message.unwrap_or_else(|| json.to_owned())
}
