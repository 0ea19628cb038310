use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use sre_core::{Timestamp, Usd};

use crate::price::{ModelPrice, PriceBook};

/// Why a file of prices or limits was not loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is not valid JSON.
    #[error("{file}:{}: {source}", source.line())]
    Json {
        /// The file.
        file: String,
        /// The cause, with its line.
        source: serde_json::Error,
    },
    /// A price is invalid.
    #[error("{file}: `{field}`: found {found}, expected {expected}")]
    Price {
        /// The file.
        file: String,
        /// The model and field.
        field: String,
        /// The value.
        found: String,
        /// The valid values.
        expected: &'static str,
    },
    /// A YAML file is invalid.
    #[cfg(feature = "config")]
    #[error(transparent)]
    Config(#[from] sre_core::yaml::ConfigError),
}

impl PriceBook {
    /// Reads a file: LiteLLM's price map if its name ends in `.json`, else YAML (with feature `config`).
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let text = std::fs::read_to_string(path).map_err(|source| FileError::Io { path: path.to_owned(), source })?;
        let file = path.display().to_string();
        #[cfg(feature = "config")]
        if path.extension().is_none_or(|ending| ending != "json") {
            return Ok(Self::from_yaml(&text, &file)?);
        }
        Self::from_litellm(&text, &file)
    }

    /// Reads LiteLLM's price map: an object with an entry per model, of which `input_cost_per_token`,
    /// `output_cost_per_token`, `cache_read_input_token_cost`, `cache_creation_input_token_cost` and their forms with `_above_200k_tokens` are read. Entries
    /// without any of these (images, audio) are skipped. `file` is the name used in errors.
    pub fn from_litellm(text: &str, file: &str) -> Result<Self, FileError> {
        let models: Map<String, Value> =
            serde_json::from_str(text).map_err(|source| FileError::Json { file: file.to_owned(), source })?;
        let mut book = Self::default();
        for (model, entry) in &models {
            // An entry of this name documents the format.
            if model == "sample_spec" {
                continue;
            }
            let Value::Object(entry) = entry else {
                let found = kind_of(entry).to_owned();
                let expected = "an object with the model's prices";
                return Err(FileError::Price { file: file.to_owned(), field: model.clone(), found, expected });
            };
            let price = price_of(entry, model, file)?;
            if price != ModelPrice::default() {
                book.add(model.as_str(), Timestamp::default(), price);
            }
        }
        Ok(book)
    }
}

fn price_of(entry: &Map<String, Value>, model: &str, file: &str) -> Result<ModelPrice, FileError> {
    let mut price = ModelPrice::default();
    let mut above: BTreeMap<u64, ModelPrice> = BTreeMap::new();
    for (field, value) in entry.iter().filter(|(_, value)| !value.is_null()) {
        let (base, tier) = match field.split_once("_above_") {
            Some((base, tier)) => match tier.strip_suffix("k_tokens").and_then(|count| count.parse::<u64>().ok()) {
                Some(thousands) => (base, Some(thousands.saturating_mul(1_000))),
                None => continue,
            },
            None => (field.as_str(), None),
        };
        let set: fn(&mut ModelPrice) -> &mut Option<Usd> = match base {
            "input_cost_per_token" => |price| &mut price.input,
            "output_cost_per_token" => |price| &mut price.output,
            "cache_read_input_token_cost" => |price| &mut price.cached_input,
            "cache_creation_input_token_cost" => |price| &mut price.cache_write,
            _ => continue,
        };
        let per_million = per_million(value).ok_or_else(|| FileError::Price {
            file: file.to_owned(),
            field: format!("{model}.{field}"),
            found: value.to_string(),
            expected: "dollars per token, at least 0",
        })?;
        let price = tier.map_or(&mut price, |tokens| above.entry(tokens).or_default());
        *set(price) = Some(per_million);
    }
    // A tier inherits the prices that it does not set.
    for tier in above.values_mut() {
        tier.input = tier.input.or(price.input);
        tier.output = tier.output.or(price.output);
        tier.cached_input = tier.cached_input.or(price.cached_input);
        tier.cache_write = tier.cache_write.or(price.cache_write);
    }
    price.above = above;
    Ok(price)
}

/// Converts dollars per token to dollars per million. Exact, as it shifts the decimal text instead of multiplying floats.
fn per_million(per_token: &Value) -> Option<Usd> {
    let number = match per_token {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    let price: Usd = format!("{number}e6").parse().ok()?;
    (!price.is_negative()).then_some(price)
}

const fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Tokens;

    fn usd(text: &str) -> Option<Usd> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn litellms_map_is_read_exactly() {
        let map = r#"{
            "sample_spec": {"input_cost_per_token": "what a token costs"},
            "gpt-4o-mini": {"input_cost_per_token": 1.5e-07, "output_cost_per_token": 6e-07,
                            "cache_read_input_token_cost": 7.5e-08,
                            "cache_creation_input_token_cost": 2e-07, "max_tokens": 16384, "litellm_provider": "openai"},
            "gemini-2.5-pro": {"input_cost_per_token": 1.25e-06, "input_cost_per_token_above_200k_tokens": 2.5e-06,
                               "output_cost_per_token": 1e-05, "output_cost_per_token_above_200k_tokens": 1.5e-05},
            "cheap": {"input_cost_per_token": "1e-10", "output_cost_per_token": 0},
            "dall-e": {"output_cost_per_image": 0.04},
            "embedding": {"input_cost_per_token": 2e-08, "output_cost_per_token": null}
        }"#;
        let book = PriceBook::from_litellm(map, "prices.json").unwrap();
        let price = |model| book.price(None, model, Timestamp::from_secs(1)).unwrap();
        assert_eq!(book.len(), 4);
        let mini = price("gpt-4o-mini");
        assert_eq!((mini.input, mini.output), (usd("0.15"), usd("0.6")));
        assert_eq!((mini.cached_input, mini.cache_write), (usd("0.075"), usd("0.2")));
        assert_eq!(price("cheap").input, usd("0.0001"));
        assert_eq!(price("embedding").output, None);
        let long = Tokens::new(200_001, 1_000);
        assert_eq!(price("gemini-2.5-pro").cost(long), usd("0.5150025"));
    }

    #[test]
    fn an_invalid_price_is_named() {
        for (map, expected) in [
            (
                r#"{"a": {"input_cost_per_token": -1}}"#,
                "f: `a.input_cost_per_token`: found -1, expected dollars per token",
            ),
            (r#"{"a": {"output_cost_per_token": "NaN"}}"#, "f: `a.output_cost_per_token`: found \"NaN\""),
            (r#"{"a": {"output_cost_per_token": "inf"}}"#, "f: `a.output_cost_per_token`: found \"inf\""),
            (r#"{"a": {"output_cost_per_token": 1e300}}"#, "f: `a.output_cost_per_token`: found 1e+300"),
            (r#"{"a": {"output_cost_per_token": []}}"#, "f: `a.output_cost_per_token`: found []"),
            (r#"{"a": 5}"#, "f: `a`: found a number, expected an object with the model's prices"),
            ("{\n\"a\" 5}", "f:2: expected `:`"),
            ("[]", "f:1: invalid type"),
        ] {
            let error = PriceBook::from_litellm(map, "f").unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in r#"[{}\[\]":,a-z_0-9.e-]{0,60}"#, number in any::<f64>()) {
            let _ = PriceBook::from_litellm(&text, "f");
            let _ = PriceBook::from_litellm(&format!(r#"{{"m": {{"input_cost_per_token": {number:?}}}}}"#), "f");
        }
    }
}
