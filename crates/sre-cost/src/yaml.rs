//! Limits and prices from YAML files, as `docs/guards.md` shows them.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::tz::TimeZone;
use serde_json::Value;
use sre_core::Timestamp;
use sre_core::yaml::{ConfigError, Fields, Kind, Node, document, set};

use crate::limits::{Limits, ScopeLimits};
use crate::price::{ModelPrice, PriceBook};
use crate::price_file::FileError;

/// The JSON Schema of a limits file, for editors.
pub const LIMITS_SCHEMA: &str = include_str!("limits.schema.json");

impl Limits {
    /// Reads a YAML file of limits.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let text = std::fs::read_to_string(path).map_err(|source| FileError::Io { path: path.to_owned(), source })?;
        Ok(Self::parse(&text, &path.display().to_string())?)
    }

    /// Reads YAML; `file` is the name used in errors.
    ///
    /// ```
    /// use sre_cost::Limits;
    /// let limits = Limits::parse("per_task: 0.50\nteams: {search: {daily: 40}}", "limits.yaml").unwrap();
    /// assert_eq!(limits.per_task.to_string(), "0.5");
    /// let error = Limits::parse("kill_at: 95", "limits.yaml").unwrap_err();
    /// assert_eq!(error.to_string(), "limits.yaml:1: `kill_at: 95`: expected a share above 0 and at most 1");
    /// ```
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        let document = document(text, file, "limits")?;
        let mut fields = Fields::new(&document, file, "")?;
        let mut limits = Self::default();
        set(&mut limits.per_task, fields.usd("per_task")?);
        set(&mut limits.per_agent_daily, fields.usd("per_agent_daily")?);
        set(&mut limits.org_monthly, fields.usd("org_monthly")?);
        set(&mut limits.alert_thresholds, shares(&mut fields, "alert_thresholds")?);
        set(&mut limits.throttle_at, fields.number("throttle_at")?);
        set(&mut limits.kill_at, fields.number("kill_at")?);
        set(&mut limits.throttle_every, fields.duration("throttle_every")?);
        set(&mut limits.auto_throttle, fields.flag("auto_throttle")?);
        set(&mut limits.anomaly_detection, fields.flag("anomaly_detection")?);
        set(&mut limits.reservation_timeout, fields.duration("reservation_timeout")?);
        let zone = |value: &Value| TimeZone::get(value.as_str()?).ok();
        set(&mut limits.time_zone, fields.read("time_zone", "a time zone such as Europe/Berlin", zone)?);
        limits.agents = scopes(&mut fields, "agents", file)?;
        limits.teams = scopes(&mut fields, "teams", file)?;
        limits.models = scopes(&mut fields, "models", file)?;
        set(&mut limits.max_agents, fields.count("max_agents")?);
        set(&mut limits.max_tasks, fields.count("max_tasks")?);
        fields.finish()?;
        limits
            .validate()
            .map_err(|error| ConfigError::invalid(file, &document, "", &error.field, error.found, error.expected))?;
        Ok(limits)
    }
}

impl PriceBook {
    /// Reads YAML: under `prices` a list of models, each with `model`, `input` and `output` in dollars per million tokens, and
    /// optionally `cached_input`, `cache_write`, `provider`, and `from`, the day or time from which the price applies. `file` is the name
    /// used in errors.
    ///
    /// ```
    /// use sre_cost::PriceBook;
    /// let text = "prices:\n  - {model: gpt-5, input: 1.25, output: 10}\n  - {model: gpt-5, from: 2026-12-01, input: 1, output: 8}\n";
    /// let book = PriceBook::from_yaml(text, "prices.yaml").unwrap();
    /// let price = |day: &str| book.price(None, "gpt-5", day.parse().unwrap()).unwrap().output.unwrap().to_string();
    /// assert_eq!((price("2026-11-30T23:59:59Z"), price("2026-12-01T00:00:00Z")), ("10".into(), "8".into()));
    /// ```
    pub fn from_yaml(text: &str, file: &str) -> Result<Self, ConfigError> {
        let document = document(text, file, "`prices`")?;
        let mut fields = Fields::new(&document, file, "")?;
        let mut book = Self::default();
        if let Some(list) = fields.take("prices") {
            for (index, node) in fields.items("prices", list)?.iter().enumerate() {
                let path = format!("prices[{index}].");
                let mut of_model = Fields::new(node, file, &path)?;
                let Some(model) = of_model.text("model")? else {
                    return Err(ConfigError::document(
                        file,
                        node.line,
                        format!("{path}model: found nothing, expected a name"),
                    ));
                };
                let name = of_model.text("provider")?.map_or(model.clone(), |provider| format!("{provider}/{model}"));
                let from = of_model.read("from", "a day such as 2026-08-01, or a time", moment)?.unwrap_or_default();
                let price = ModelPrice {
                    input: of_model.usd("input")?,
                    cached_input: of_model.usd("cached_input")?,
                    cache_write: of_model.usd("cache_write")?,
                    output: of_model.usd("output")?,
                    ..ModelPrice::default()
                };
                of_model.finish()?;
                book.add(name, from, price);
            }
        }
        fields.finish()?;
        Ok(book)
    }
}

fn scopes(
    fields: &mut Fields<'_>,
    name: &'static str,
    file: &str,
) -> Result<BTreeMap<String, ScopeLimits>, ConfigError> {
    let Some(node) = fields.take(name) else { return Ok(BTreeMap::new()) };
    let Kind::Map(entries) = &node.kind else { return Err(fields.error(name, node, "a mapping of names to limits")) };
    let scope = |node: &Node, path: &str| {
        let mut fields = Fields::new(node, file, path)?;
        // An agent has no `daily`: it is not listed for agents, but where it is written, validation names what to use instead.
        let has_daily = name != "agents" || node.entry("daily").is_some();
        let scope = ScopeLimits {
            per_task: fields.usd("per_task")?,
            per_agent_daily: fields.usd("per_agent_daily")?,
            daily: if has_daily { fields.usd("daily")? } else { None },
            alert_thresholds: shares(&mut fields, "alert_thresholds")?,
            throttle_at: fields.number("throttle_at")?,
            kill_at: fields.number("kill_at")?,
        };
        fields.finish()?;
        Ok(scope)
    };
    entries.iter().map(|(key, node)| Ok((key.name.clone(), scope(node, &format!("{name}.{}.", key.name))?))).collect()
}

fn shares(fields: &mut Fields<'_>, name: &'static str) -> Result<Option<Vec<f64>>, ConfigError> {
    let Some(node) = fields.take(name) else { return Ok(None) };
    let items = fields.items(name, node)?;
    let share = |item: &Node| match &item.kind {
        Kind::Scalar(value) => value.as_f64().ok_or_else(|| fields.error(name, item, "a number")),
        _ => Err(fields.error(name, item, "a number")),
    };
    items.iter().map(share).collect::<Result<_, _>>().map(Some)
}

fn moment(value: &Value) -> Option<Timestamp> {
    let text = value.as_str()?;
    text.parse().or_else(|_| format!("{text}T00:00:00Z").parse()).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use sre_core::Usd;

    use super::*;

    const EVERYTHING: &str = r#"
per_task: "0.50"
per_agent_daily: 20
org_monthly: 300.5
alert_thresholds: [0.6, 1]
throttle_at: 0.7
kill_at: 0.9
throttle_every: 1m
auto_throttle: false
anomaly_detection: false
reservation_timeout: 2m
time_zone: Europe/Berlin
agents: {planner: {per_task: 1, per_agent_daily: 50, throttle_at: 0.5}}
teams: {search: {daily: 70, kill_at: 0.8, alert_thresholds: [0.9]}}
models: {gpt-5: {daily: 30}}
max_agents: 10
max_tasks: 20
"#;

    #[test]
    fn every_limit_can_be_written() {
        let usd = |text: &str| text.parse::<Usd>().unwrap();
        let limits = Limits::parse(EVERYTHING, "f").unwrap();
        let planner = ScopeLimits {
            per_task: Some(usd("1")),
            per_agent_daily: Some(usd("50")),
            throttle_at: Some(0.5),
            ..ScopeLimits::default()
        };
        let search = ScopeLimits {
            daily: Some(usd("70")),
            kill_at: Some(0.8),
            alert_thresholds: Some(vec![0.9]),
            ..ScopeLimits::default()
        };
        let expected = Limits {
            per_task: usd("0.5"),
            per_agent_daily: usd("20"),
            org_monthly: usd("300.5"),
            alert_thresholds: vec![0.6, 1.0],
            throttle_at: 0.7,
            kill_at: 0.9,
            throttle_every: Duration::from_secs(60),
            auto_throttle: false,
            anomaly_detection: false,
            reservation_timeout: Duration::from_secs(120),
            time_zone: TimeZone::get("Europe/Berlin").unwrap(),
            agents: [("planner".to_owned(), planner)].into(),
            teams: [("search".to_owned(), search)].into(),
            models: [("gpt-5".to_owned(), ScopeLimits { daily: Some(usd("30")), ..ScopeLimits::default() })].into(),
            max_agents: 10,
            max_tasks: 20,
        };
        assert_eq!(limits, expected);
        // JSON is YAML, and has the form of the file.
        for limits in [limits, Limits::default()] {
            assert_eq!(Limits::parse(&serde_json::to_string(&limits).unwrap(), "f").unwrap(), limits);
        }
    }

    #[test]
    fn an_invalid_value_is_named_with_its_line() {
        for (text, expected) in [
            ("per_day: 1", "f:1: `per_day`: unknown field, expected one of per_task"),
            ("\nper_task: -1", "f:2: `per_task: -1`: expected an amount of dollars"),
            ("per_task: much", "f:1: `per_task: much`: expected an amount of dollars"),
            ("per_task: 1e300", "f:1: `per_task: 1e+300`: expected an amount of dollars"),
            ("org_monthly: 2000000000", "f:1: `org_monthly: 2000000000`: expected dollars, from 0 to a billion"),
            ("alert_thresholds: [0.5,\n  95]", "f:1: `alert_thresholds: a list`: expected a share"),
            ("alert_thresholds: [x]", "f:1: `alert_thresholds: x`: expected a number"),
            ("teams:\n  a.b:\n    kill_at: 2", "f:3: `teams.a.b.kill_at: 2`: expected a share"),
            (
                "models:\n  gpt-5: {throttle_at: 0.5}",
                "f:2: `models.gpt-5.throttle_at: 0.5`: expected `per_agent_daily` beside it",
            ),
            ("agents: [a]", "f:1: `agents: a list`: expected a mapping of names to limits"),
            ("time_zone: Mars", "f:1: `time_zone: Mars`: expected a time zone"),
            ("", "f:1: found 0 documents, expected one with limits"),
        ] {
            let error = Limits::parse(text, "f").unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        for (text, expected) in [
            ("prices: [{input: 1}]", "f:1: prices[0].model: found nothing"),
            ("prices:\n  - {model: a, input: -1}", "f:2: `prices[0].input: -1`: expected an amount of dollars"),
            ("prices: [{model: a, from: soon}]", "f:1: `prices[0].from: soon`: expected a day"),
            ("prices: [{model: a, costs: 1}]", "f:1: `prices[0].costs`: unknown field"),
        ] {
            let error = PriceBook::from_yaml(text, "f").unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn the_schema_and_the_parser_agree() {
        let read = |text: &str| Limits::parse(text, "f").map(drop).map_err(|error| error.to_string());
        sre_testkit::conformance::schema(LIMITS_SCHEMA, &[EVERYTHING], &[], &read);
        let validator = jsonschema::validator_for(&serde_json::from_str(LIMITS_SCHEMA).unwrap()).unwrap();
        for (text, valid) in [
            ("{models: {m: {per_task: 5, per_agent_daily: 1, kill_at: 1}}}", true),
            ("{models: {m: {kill_at: 1}}}", false),
        ] {
            assert_eq!(validator.is_valid(&serde_saphyr::from_str(text).unwrap()), valid, "{text}");
            assert_eq!(read(text).is_ok(), valid, "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "(per_task|teams|prices|models|kill_at|[a-z{}:\\[\\]0-9. \n-]){0,20}") {
            let _ = Limits::parse(&text, "f");
            let _ = PriceBook::from_yaml(&text, "f");
        }
    }
}
