//! Reads the settings of breakers from a YAML file, described in `docs/guards.md`.

use std::path::Path;

use sre_core::yaml::{ConfigError, Fields, Node, document, set};

use crate::{BreakerConfig, DetectorConfig, InvalidConfig, Mitigation, SlidingWindow, WindowSize};

/// The JSON Schema of the breakers file.
pub const SCHEMA: &str = include_str!("breakers.schema.json");

/// An error from loading a breakers file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// The content is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The path.
        path: std::path::PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

impl DetectorConfig {
    /// Reads the configuration from a file.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read or its content is invalid.
    pub fn load(path: &Path) -> Result<Self, SpecError> {
        let text = std::fs::read_to_string(path).map_err(|source| SpecError::Io { path: path.to_owned(), source })?;
        Ok(Self::parse(&text, &path.display().to_string())?)
    }

    /// Reads the configuration from YAML text; `file` is its name in error messages. Settings at the top level apply to every
    /// breaker; `agents`, `tools` and `models` override them.
    ///
    /// # Errors
    ///
    /// Returns an error with the line and the field that is invalid.
    ///
    /// ```
    /// use sre_cascade::DetectorConfig;
    /// let config = DetectorConfig::parse("failure_threshold: 3\nmodels: {recovery_timeout: 10s}", "breakers.yaml").unwrap();
    /// assert_eq!(config.model.failure_threshold, 3);
    /// let error = DetectorConfig::parse("tools:\n  failure_threshold: 0", "breakers.yaml").unwrap_err();
    /// assert_eq!(error.to_string(), "breakers.yaml:2: `tools.failure_threshold: 0`: expected 1 to 1,000,000");
    /// ```
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        let document = document(text, file, "the settings of breakers")?;
        let mut fields = Fields::new(&document, file, "")?;
        let every = breaker(&mut fields, &document, file, "", &BreakerConfig::default())?;
        let mut of_kind = |name: &'static str| match fields.take(name) {
            Some(node) => {
                let path = format!("{name}.");
                let mut fields = Fields::new(node, file, &path)?;
                let config = breaker(&mut fields, node, file, &path, &every)?;
                fields.finish()?;
                Ok(config)
            }
            None => Ok(every.clone()),
        };
        let mut config =
            Self { agent: of_kind("agents")?, tool: of_kind("tools")?, model: of_kind("models")?, ..Self::default() };
        if let Some(node) = fields.take("cascade") {
            cascade(&mut config, node, file)?;
        }
        fields.finish()?;
        Ok(config)
    }
}

/// Takes the settings of a breaker from `fields`, with defaults from `base`.
fn breaker(
    fields: &mut Fields<'_>,
    node: &Node,
    file: &str,
    path: &str,
    base: &BreakerConfig,
) -> Result<BreakerConfig, ConfigError> {
    let mut config = base.clone();
    set(&mut config.failure_threshold, fields.count("failure_threshold")?);
    set(&mut config.recovery_timeout, fields.duration("recovery_timeout")?);
    set(&mut config.recovery_multiplier, fields.number("recovery_multiplier")?);
    // Raising `recovery_timeout` above the default maximum raises the maximum too.
    config.max_recovery_timeout = config.max_recovery_timeout.max(config.recovery_timeout);
    set(&mut config.max_recovery_timeout, fields.duration("max_recovery_timeout")?);
    set(&mut config.recovery_jitter, fields.number("recovery_jitter")?);
    set(&mut config.half_open_max_calls, fields.count("half_open_max_calls")?);
    config.half_open_timeout = fields.duration("half_open_timeout")?.or(config.half_open_timeout);
    set(&mut config.count_rate_limits, fields.flag("count_rate_limits")?);
    if let Some(node) = fields.take("window") {
        config.window = Some(window(node, file, &format!("{path}window."))?);
    }
    checked(config.validate(), node, file, path)?;
    Ok(config)
}

fn window(node: &Node, file: &str, path: &str) -> Result<SlidingWindow, ConfigError> {
    let mut fields = Fields::new(node, file, path)?;
    let mut window = SlidingWindow::default();
    let (calls, time) = (fields.count("calls")?, fields.duration("time")?);
    window.size = match (calls, time) {
        (Some(calls), None) => WindowSize::Calls(calls),
        (None, Some(time)) => WindowSize::Time(time),
        _ => {
            let message = format!("{}: expected either `calls` or `time`", path.trim_end_matches('.'));
            return Err(ConfigError::document(file, node.line, message));
        }
    };
    set(&mut window.minimum_calls, fields.count("minimum_calls")?);
    set(&mut window.failure_rate, fields.number("failure_rate")?);
    set(&mut window.slow_call_rate, fields.number("slow_call_rate")?);
    window.slow_call = fields.duration("slow_call")?;
    fields.finish()?;
    checked(window.validate(), node, file, path)?;
    Ok(window)
}

fn cascade(config: &mut DetectorConfig, node: &Node, file: &str) -> Result<(), ConfigError> {
    let mut fields = Fields::new(node, file, "cascade.")?;
    set(&mut config.cascade_threshold, fields.count("cascade_threshold")?);
    set(&mut config.path_threshold, fields.count("path_threshold")?);
    set(&mut config.path_failures, fields.count("path_failures")?);
    set(&mut config.window, fields.duration("window")?);
    if let Some(every) = fields.duration("limit_callers")? {
        config.mitigation = Mitigation::Limit(every);
    }
    if fields.flag("open_callers")? == Some(true) {
        if config.mitigation != Mitigation::None {
            let message = "cascade: expected either `limit_callers` or `open_callers`";
            return Err(ConfigError::document(file, node.line, message));
        }
        config.mitigation = Mitigation::Open;
    }
    fields.finish()?;
    checked(config.validate(), node, file, "cascade.")
}

/// Adds the position of the invalid field to an error.
fn checked(result: Result<(), InvalidConfig>, node: &Node, file: &str, path: &str) -> Result<(), ConfigError> {
    result.map_err(|error| ConfigError::invalid(file, node, path, error.field, error.found, error.expected))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const EVERYTHING: &str = "
failure_threshold: 3
recovery_timeout: 20m
tools:
  recovery_timeout: 1m
  recovery_multiplier: 2
  max_recovery_timeout: 10m
  recovery_jitter: 0.25
  half_open_max_calls: 4
  half_open_timeout: 5m
  count_rate_limits: false
  window: {time: 90s, minimum_calls: 10, failure_rate: 0.4, slow_call_rate: 0.9, slow_call: 2s}
models: {window: {calls: 50}}
cascade: {cascade_threshold: 5, path_threshold: 4, path_failures: 1, window: 1m, limit_callers: 10s}
";

    #[test]
    fn every_setting_is_read() {
        let config = DetectorConfig::parse(EVERYTHING, "breakers.yaml").unwrap();
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        assert_eq!(config.agent.recovery_timeout, minutes(20));
        assert_eq!((config.agent.max_recovery_timeout, config.agent.window), (minutes(20), None));
        let expected = BreakerConfig {
            failure_threshold: 3,
            recovery_timeout: minutes(1),
            recovery_multiplier: 2.0,
            max_recovery_timeout: minutes(10),
            recovery_jitter: 0.25,
            half_open_max_calls: 4,
            half_open_timeout: Some(minutes(5)),
            window: Some(SlidingWindow {
                size: WindowSize::Time(Duration::from_secs(90)),
                minimum_calls: 10,
                failure_rate: 0.4,
                slow_call_rate: 0.9,
                slow_call: Some(Duration::from_secs(2)),
            }),
            count_rate_limits: false,
            seed: None,
        };
        assert_eq!(config.tool, expected);
        // JSON is YAML, and has the form of the file.
        for config in [expected, config.model.clone()] {
            let json = serde_json::to_string(&config).unwrap();
            assert_eq!(DetectorConfig::parse(&json, "breakers.json").unwrap().agent, config);
        }
        assert_eq!(config.model.window.unwrap().size, WindowSize::Calls(50));
        assert_eq!((config.cascade_threshold, config.path_threshold, config.path_failures), (5, 4, 1));
        assert_eq!((config.window, config.mitigation), (minutes(1), Mitigation::Limit(Duration::from_secs(10))));
    }

    #[test]
    fn an_invalid_setting_is_named_with_its_line() {
        for (text, expected) in [
            ("a: 1", "f:1: `a`: unknown field, expected one of failure_threshold"),
            ("recovery_timeout: 30", "f:1: `recovery_timeout: 30`: expected a duration"),
            ("\nrecovery_jitter: 2", "f:2: `recovery_jitter: 2`: expected a ratio from 0 to 1"),
            ("recovery_jitter: .nan", "f:1: value `.nan` is not a finite number"),
            ("window: {calls: 1, time: 5m}", "f:1: window: expected either `calls` or `time`"),
            (
                "tools:\n  window:\n    calls: 9\n    failure_rate: 0",
                "f:4: `tools.window.failure_rate: 0`: expected a ratio",
            ),
            ("window: {time: 10ms}", "f:1: `window.time: 10ms`: expected 1s to 1d"),
            ("cascade: {path_threshold: 1}", "f:1: `cascade.path_threshold: 1`: expected 2 or more"),
            ("cascade: {limit_callers: 1s, open_callers: true}", "f:1: cascade: expected either"),
            ("[]", "f:1: the document: found a list, expected a mapping"),
            ("", "f:1: found 0 documents"),
        ] {
            let error = DetectorConfig::parse(text, "f").unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn the_schema_and_the_parser_agree() {
        let read = |text: &str| DetectorConfig::parse(text, "f").map(drop).map_err(|error| error.to_string());
        let opens = "cascade: {open_callers: true}\nwindow: {calls: 5, minimum_calls: 2}";
        sre_testkit::conformance::schema(SCHEMA, &[EVERYTHING, opens], &[], &read);
        let validator = jsonschema::validator_for(&serde_json::from_str(SCHEMA).unwrap()).unwrap();
        for text in ["{window: {minimum_calls: 5}}", "{window: {calls: 5, time: 1m}}"] {
            assert!(read(text).is_err() && !validator.is_valid(&serde_saphyr::from_str(text).unwrap()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "(failure_threshold|window|tools|cascade|[a-z{}:\\[\\]0-9. \n-]){0,20}") {
            let _ = DetectorConfig::parse(&text, "f");
        }
    }
}
