/// The exporter's name.
pub(crate) const NAME: &str = "otlp";

/// Maximum length of a backend's reason, in characters.
pub(crate) const REASON_CHARS: usize = 100;

/// Records that a backend rejected, and the reason.
pub(crate) struct PartialRejection {
    pub(crate) count: u64,
    pub(crate) reason: String,
}

impl PartialRejection {
    pub(crate) fn new(count: i64, reason: String) -> Self {
        let reason = if reason.is_empty() { "no reason given".to_owned() } else { reason };
        Self { count: u64::try_from(count).unwrap_or(0), reason }
    }
}
