use std::collections::BTreeMap;

/// The process that exports, as OpenTelemetry's resource attributes describe it (`service.name` and so on).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Attributes by name.
    pub attributes: BTreeMap<String, String>,
}

impl Resource {
    /// Returns a resource of that `service.name`.
    pub fn new(service_name: impl Into<String>) -> Self {
        Self { attributes: BTreeMap::from([("service.name".to_owned(), service_name.into())]) }
    }

    /// Returns the resource with one more attribute.
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
