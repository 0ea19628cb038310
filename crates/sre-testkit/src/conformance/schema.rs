use std::collections::BTreeSet;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{ValidationError, Validator};
use serde_json::{Value, json};
use sre_core::Window;

/// Tests that the JSON Schema of a settings file agrees with its reader. `examples` are valid documents that together
/// use every mapping of the file; `open` are the places, as JSON pointers, below which a schema cannot fully describe
/// the fields; `read` returns the reader's error.
///
/// - both accept the examples;
/// - in each mapping, the schema describes the fields that the reader's error for an unknown field lists, and no others;
/// - both accept, or both reject, a list or mapping in place of a value, and other numbers, booleans and durations.
///
/// # Panics
/// Panics if schema and reader differ.
pub fn schema(schema: &str, examples: &[&str], open: &[&str], read: &dyn Fn(&str) -> Result<(), String>) {
    let schema: Value = serde_json::from_str(schema).expect("a schema is JSON");
    let validator = jsonschema::validator_for(&schema).expect("a valid schema");
    for example in examples {
        let example: Value = serde_saphyr::from_str(example).expect("an example is YAML");
        let pair = Pair { schema: &schema, validator: &validator, open, read, example: &example };
        pair.assert_agree(&example, true, "the example");
        pair.check("", &example);
    }
}

struct Pair<'a> {
    schema: &'a Value,
    validator: &'a Validator,
    open: &'a [&'a str],
    read: &'a dyn Fn(&str) -> Result<(), String>,
    example: &'a Value,
}

impl Pair<'_> {
    /// Checks the value at `pointer` and everything inside it.
    fn check(&self, pointer: &str, value: &Value) {
        match value {
            Value::Object(fields) => {
                if !self.open.iter().any(|open| pointer.starts_with(open)) {
                    self.check_fields(pointer);
                }
                for (name, value) in fields {
                    let pointer = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
                    self.check(&pointer, value);
                    self.check_variants(&pointer, value);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.check(&format!("{pointer}/{index}"), item);
                }
            }
            _ => {}
        }
    }

    fn check_fields(&self, pointer: &str) {
        const UNKNOWN: &str = "an_unknown_field";
        let mut changed = self.example.clone();
        changed.pointer_mut(pointer).expect("a place in the example")[UNKNOWN] = json!({});
        let Err(error) = self.read(&changed) else { return self.assert_agree(&changed, true, pointer) };
        let Some((_, taken)) = error.split_once("unknown field, expected one of ") else {
            // A mapping with arbitrary names, whose values are checked separately.
            return;
        };
        let taken: BTreeSet<&str> = taken.split(", ").collect();
        let found = self.validator.iter_errors(&changed).find_map(|error| closed_mapping(&error));
        let described = found.and_then(|place| self.schema.pointer(&format!("{place}/properties")));
        let Some(described) = described.and_then(Value::as_object) else {
            panic!("{pointer}: the schema accepts an unknown field, expected an error as the reader's: {error}");
        };
        let described: BTreeSet<&str> = described.keys().map(String::as_str).collect();
        assert_eq!(described, taken, "{pointer}: fields that the schema describes, and fields that the reader takes");
    }

    fn check_variants(&self, pointer: &str, value: &Value) {
        // The reader accepts a number as text, which a schema need not describe.
        let scalars = match value {
            Value::Number(_) => {
                vec![json!(-1), json!(0), json!(0.5), json!(1), json!(1_000_000_000_000_u64), json!(true), json!("x")]
            }
            Value::Bool(_) => vec![json!(true), json!(false), json!(1), json!("x")],
            Value::String(text) if text.parse::<Window>().is_ok() => {
                ["0ms", "0s0m", "1.5h", "5", "-5m", "5 m"].map(Value::from).to_vec()
            }
            _ => Vec::new(),
        };
        for variant in [json!([]), json!({})].into_iter().chain(scalars) {
            let mut changed = self.example.clone();
            changed.pointer_mut(pointer).expect("a place in the example").clone_from(&variant);
            let is_read = self.read(&changed).is_ok();
            self.assert_agree(&changed, is_read, &format!("{pointer}: {variant}"));
        }
        if value.as_str().is_some_and(|text| text.parse::<Window>().is_ok()) {
            self.check_durations(pointer);
        }
    }

    /// Checks durations in several forms. Where the reader has a range, it may reject one that the schema accepts.
    fn check_durations(&self, pointer: &str) {
        for duration in ["250ms", "90s", "1h30m", "0h05m", "2d"] {
            let mut changed = self.example.clone();
            changed.pointer_mut(pointer).expect("a place in the example").clone_from(&json!(duration));
            if self.read(&changed).is_ok() {
                self.assert_agree(&changed, true, &format!("{pointer}: {duration}"));
            }
        }
    }

    fn read(&self, document: &Value) -> Result<(), String> {
        (self.read)(&document.to_string())
    }

    fn assert_agree(&self, document: &Value, accepted: bool, what: &str) {
        let by_schema: Vec<String> = self.validator.iter_errors(document).map(|error| error.to_string()).collect();
        let by_reader = self.read(document);
        assert!(
            by_schema.is_empty() == accepted && by_reader.is_ok() == accepted,
            "{what}: the schema says {by_schema:?}, the reader {by_reader:?}"
        );
    }
}

/// Returns the place of the mapping that rejected an unknown field; among alternatives, the one without other errors.
fn closed_mapping(error: &ValidationError<'_>) -> Option<String> {
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { .. } => {
            error.schema_path().as_str().strip_suffix("/additionalProperties").map(str::to_owned)
        }
        ValidationErrorKind::OneOfNotValid { context } | ValidationErrorKind::AnyOf { context } => {
            let mut alternatives = context.iter().filter(|errors| errors.len() == 1);
            alternatives.find_map(|errors| closed_mapping(&errors[0]))
        }
        _ => None,
    }
}
