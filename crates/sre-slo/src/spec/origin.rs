use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The OpenSLO documents that an objective was imported from, preserved for export.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OpenSloOrigin {
    /// The document of kind `SLO`.
    pub document: Value,
    /// Index of the objective in the document.
    pub objective: usize,
    /// The SLI, AlertPolicy and AlertCondition documents that it refers to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub referenced: Vec<Value>,
}

impl OpenSloOrigin {
    /// Describes the parts of the document that are not evaluated as specified, if any.
    pub(crate) fn not_evaluable(&self) -> Option<String> {
        let spec = &self.document["spec"];
        let mut parts = Vec::new();
        let method = spec["budgetingMethod"].as_str().unwrap_or("Occurrences");
        if !matches!(method, "Occurrences" | "Timeslices") {
            parts.push(format!("budgeting method `{method}` (events are counted instead)"));
        }
        if spec["timeWindow"].as_array().is_some_and(|windows| windows.len() > 1) {
            parts.push("more than one time window (the first is used)".to_owned());
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}
