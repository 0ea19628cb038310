use std::collections::BTreeMap;

/// The exporting process, described by OpenTelemetry's resource attributes (`service.name` and so on).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resource {
    /// Attributes by name.
    pub attributes: BTreeMap<String, String>,
}

impl Resource {
    /// Creates a resource with that `service.name`.
    pub fn new(service_name: impl Into<String>) -> Self {
        Self { attributes: BTreeMap::from([("service.name".to_owned(), service_name.into())]) }
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.insert(name.into(), value.into());
        self
    }

    /// Returns the `service.name`.
    pub fn service_name(&self) -> &str {
        self.attributes.get("service.name").map_or("unknown_service", String::as_str)
    }
}
