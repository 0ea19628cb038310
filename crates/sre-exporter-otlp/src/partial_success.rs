/// The exporter's name.
pub(crate) const NAME: &str = "otlp";

/// Maximum length of a backend's reason, in characters.
const REASON_CHARS: usize = 100;

/// Records that a backend rejected, and the reason.
pub(crate) struct Refused {
    pub(crate) count: u64,
    pub(crate) reason: String,
}

impl Refused {
    pub(crate) fn new(count: i64, reason: &str) -> Self {
        let reason: String = reason.chars().take(REASON_CHARS).collect();
        let reason = if reason.is_empty() { "no reason given".to_owned() } else { reason };
        Self { count: u64::try_from(count).unwrap_or(0), reason }
    }
}
