use std::collections::BTreeMap;

use serde_json::Value;
use sre_core::yaml::{ConfigError, Fields, Key, Kind, Node};
use sre_core::{EventKind, Severity, Usd, Window};

use super::error::DocumentErrors;
use super::origin::OpenSloOrigin;
use super::{BudgetPolicySpec, EXTERNAL, IndicatorSpec, SloSpec};
use crate::{
    BurnPolicy, BurnThreshold, Calendar, CalendarSpec, ComponentSpec, CompositeSpec, ExhaustionAction, GoodWhen,
    SliRegistry, SloTarget, TimeSlices,
};

/// Reads an objective, and records its errors. Returns what is valid of it, `None` without a name.
pub(super) fn slo(node: &Node, file: &str, registry: &SliRegistry, errors: &mut DocumentErrors) -> Option<SloSpec> {
    let mut fields = match Fields::new(node, file, "") {
        Ok(fields) => fields,
        Err(error) => {
            errors.extend([error]);
            return None;
        }
    };
    let missing = || ConfigError::document(file, node.line, "found no `name`, expected one");
    let name = fields.text("name").and_then(|name| name.filter(|name| !name.trim().is_empty()).ok_or_else(missing));
    let spec = SloSpec {
        name: errors.keep(name),
        description: errors.keep(fields.text("description")),
        service: errors.keep(fields.text("service")),
        target: errors.keep(target(&mut fields)),
        window: errors.keep(fields.window("window")),
        calendar: errors.keep(fields.take("calendar").map(|node| calendar(node, file)).transpose()),
        time_slices: errors.keep(fields.take("time_slices").map(|node| time_slices(node, file)).transpose()),
        indicators: indicators(&mut fields, file, registry, errors),
        composite: errors.keep(fields.take("composite").map(|node| composite(node, file)).transpose()),
        good_when: errors.keep(fields.take("good_when").map(|node| good_when(node, file)).transpose()),
        error_budget_policy: errors
            .keep(fields.take("error_budget_policy").map(|node| budget_policy(node, file)).transpose()),
        labels: errors.keep(fields.labels()),
        inherits_from: errors.keep(fields.text("inherits_from")),
        openslo: errors.keep(fields.take("openslo").map(|node| origin(node, file)).transpose()),
    };
    errors.extend(fields.unknown());
    errors.keep(spec.check_names().map_err(|error| ConfigError::document(file, node.line, error.to_string())));
    (!spec.name.is_empty()).then_some(spec)
}

/// Reads the fields of this crate's format from an OpenSLO metric source of type `agent-sre`.
pub(super) fn own_fields(
    value: &Value,
    file: &str,
    line: u64,
    registry: &SliRegistry,
) -> Result<SloSpec, DocumentErrors> {
    let mut node = from_value(value, line);
    if let Kind::Map(entries) = &mut node.kind {
        let name = Node::new(line, Kind::Scalar("imported".into()));
        entries.push((Key::new(line, "name".to_owned()), name));
    }
    let mut errors = DocumentErrors::default();
    match slo(&node, file, registry, &mut errors) {
        Some(spec) if errors.is_empty() => Ok(spec),
        _ => Err(errors),
    }
}

fn indicators(
    fields: &mut Fields<'_>,
    file: &str,
    registry: &SliRegistry,
    errors: &mut DocumentErrors,
) -> Vec<IndicatorSpec> {
    let Some(node) = fields.take("indicators") else { return Vec::new() };
    let items = errors.keep(fields.items("indicators", node));
    let read = |(index, node)| indicator(node, file, &format!("indicators[{index}]."), registry);
    items.iter().enumerate().map(|item| errors.keep(read(item))).collect()
}

fn from_value(value: &Value, line: u64) -> Node {
    let kind = match value {
        Value::Array(items) => Kind::List(items.iter().map(|item| from_value(item, line)).collect()),
        Value::Object(fields) => Kind::Map(
            fields.iter().map(|(name, value)| (Key::new(line, name.clone()), from_value(value, line))).collect(),
        ),
        scalar => Kind::Scalar(scalar.clone()),
    };
    Node::new(line, kind)
}

fn origin(node: &Node, file: &str) -> Result<OpenSloOrigin, ConfigError> {
    serde_json::from_value(node.to_value()).map_err(|error| ConfigError::Field {
        file: file.to_owned(),
        line: node.line,
        field: "openslo".to_owned(),
        found: node.found(),
        expected: format!("the output of `sre slo convert` ({error})"),
    })
}

fn indicator(node: &Node, file: &str, path: &str, registry: &SliRegistry) -> Result<IndicatorSpec, ConfigError> {
    let mut fields = Fields::new(node, file, path)?;
    let Some(kind) = fields.text("type")? else {
        let message = format!("`{path}type`: found nothing, expected the indicator's type");
        return Err(ConfigError::document(file, node.line, message));
    };
    let informational = fields.flag("informational")?.unwrap_or_default();
    // The name of an indicator of another system is a parameter.
    let name = if kind == EXTERNAL { None } else { fields.text("name")? };
    let own: &[&str] = if kind == EXTERNAL { &["type", "informational"] } else { &["type", "name", "informational"] };
    let entries = fields.entries.iter().filter(|(key, node)| !own.contains(&&*key.name) && !node.is_null());
    let params: BTreeMap<String, Value> =
        entries.clone().map(|(key, node)| (key.name.clone(), node.to_value())).collect();
    let line_of =
        |field: &str| fields.entries.iter().find(|(key, _)| key.name == field).map_or(node.line, |(key, _)| key.line);
    let spec = IndicatorSpec { kind, name, informational, params };
    if spec.is_external() {
        return Ok(spec);
    }
    match registry.create(&spec) {
        Ok(_) => Ok(spec),
        Err(error) if error.found == "an unknown field" => Err(ConfigError::UnknownField {
            file: file.to_owned(),
            line: line_of(&error.field),
            field: format!("{path}{}", error.field),
            expected: error.expected.trim_start_matches("one of ").to_owned(),
        }),
        Err(error) => Err(ConfigError::Field {
            file: file.to_owned(),
            line: line_of(&error.field),
            field: format!("{path}{}", error.field),
            found: error.found.trim_matches('`').to_owned(),
            expected: error.expected,
        }),
    }
}

fn calendar(node: &Node, file: &str) -> Result<CalendarSpec, ConfigError> {
    let mut fields = Fields::new(node, file, "calendar.")?;
    let spec = CalendarSpec {
        start: fields.text("start")?.unwrap_or_default(),
        time_zone: fields.text("time_zone")?.unwrap_or_else(|| "UTC".to_owned()),
        period: fields.text("period")?.unwrap_or_default(),
    };
    fields.finish()?;
    Calendar::try_from(&spec).map(|_| ()).map_err(|error| ConfigError::Field {
        file: file.to_owned(),
        line: node.entry(error.field).map_or(node.line, |(key, _)| key.line),
        field: format!("calendar.{}", error.field),
        found: error.found,
        expected: error.expected.to_owned(),
    })?;
    Ok(spec)
}

fn time_slices(node: &Node, file: &str) -> Result<TimeSlices, ConfigError> {
    let mut fields = Fields::new(node, file, "time_slices.")?;
    let window = fields.window("window")?;
    let target = target(&mut fields)?;
    fields.finish()?;
    match (window, target) {
        (Some(window), Some(target)) => Ok(TimeSlices { window, target }),
        _ => Err(ConfigError::document(file, node.line, "`time_slices`: expected `window` and `target`".to_owned())),
    }
}

fn composite(node: &Node, file: &str) -> Result<CompositeSpec, ConfigError> {
    let mut fields = Fields::new(node, file, "composite.")?;
    let objectives = match fields.take("objectives") {
        Some(node) => fields
            .items("objectives", node)?
            .iter()
            .enumerate()
            .map(|(index, node)| component(node, file, &format!("composite.objectives[{index}].")))
            .collect::<Result<_, _>>()?,
        None => Vec::new(),
    };
    let method = fields.read("method", "weighted or worst", |value| value.as_str()?.parse().ok())?;
    fields.finish()?;
    Ok(CompositeSpec { objectives, method: method.unwrap_or_default() })
}

fn component(node: &Node, file: &str, path: &str) -> Result<ComponentSpec, ConfigError> {
    let mut fields = Fields::new(node, file, path)?;
    let name = fields.text("name")?;
    let weight = fields.read("weight", "a number above 0", |value| {
        value.as_f64().filter(|weight| *weight > 0.0 && weight.is_finite())
    })?;
    fields.finish()?;
    let Some(name) = name else {
        return Err(ConfigError::document(
            file,
            node.line,
            format!("`{path}name`: found nothing, expected an objective"),
        ));
    };
    Ok(ComponentSpec { name, weight: weight.unwrap_or(1.0) })
}

fn good_when(node: &Node, file: &str) -> Result<GoodWhen, ConfigError> {
    let mut fields = Fields::new(node, file, "good_when.")?;
    let kinds = "task_finished, step_finished, llm_call, tool_call, policy_check, evaluation or http_request";
    let good_when = GoodWhen {
        event: fields
            .read("event", kinds, |value| value.as_str()?.parse().ok().filter(|kind: &EventKind| kind.has_outcome()))?
            .unwrap_or(EventKind::TaskFinished),
        success: fields.flag("success")?,
        max_duration_ms: fields.read("max_duration_ms", "milliseconds, at least 0", |value| {
            value.as_f64().filter(|ms| (0.0..f64::INFINITY).contains(ms))
        })?,
        max_cost_usd: fields.read("max_cost_usd", "an amount of dollars, at least 0", |value| {
            serde_json::from_value(value.clone()).ok().filter(|amount: &Usd| !amount.is_negative())
        })?,
    };
    fields.finish()?;
    Ok(good_when)
}

fn budget_policy(node: &Node, file: &str) -> Result<BudgetPolicySpec, ConfigError> {
    let mut fields = Fields::new(node, file, "error_budget_policy.")?;
    let whole = "a whole number";
    let policy = BudgetPolicySpec {
        thresholds: match fields.take("thresholds") {
            Some(node) => fields
                .items("thresholds", node)?
                .iter()
                .enumerate()
                .map(|(index, node)| threshold(node, file, &format!("error_budget_policy.thresholds[{index}].")))
                .collect::<Result<_, _>>()?,
            None => Vec::new(),
        },
        policy: fields.read("policy", "sre-workbook", |value| {
            value.as_str().filter(|name| BurnPolicy::named(name).is_some()).map(str::to_owned)
        })?,
        significance: fields.read("significance", "a probability above 0 and below 1", |value| {
            value.as_f64().filter(|share| *share > 0.0 && *share < 1.0)
        })?,
        min_bad: fields.read("min_bad", whole, Value::as_u64)?,
        min_events: fields.read("min_events", whole, Value::as_u64)?,
        expected_events: fields.read("expected_events", whole, Value::as_u64)?,
        exhaustion_action: fields.read(
            "exhaustion_action",
            "alert, freeze_deployments, circuit_break or throttle",
            |value| value.as_str()?.parse::<ExhaustionAction>().ok(),
        )?,
    };
    fields.finish()?;
    if policy.policy.is_some() && !policy.thresholds.is_empty() {
        let message = "`error_budget_policy`: found both `policy` and `thresholds`, expected one of them".to_owned();
        return Err(ConfigError::document(file, node.line, message));
    }
    Ok(policy)
}

fn target(fields: &mut Fields<'_>) -> Result<Option<SloTarget>, ConfigError> {
    fields.read("target", "a ratio such as 0.95, or a percentage such as 95 or `95%`", |value| {
        serde_json::from_value(value.clone()).ok()
    })
}

fn threshold(node: &Node, file: &str, path: &str) -> Result<BurnThreshold, ConfigError> {
    let mut fields = Fields::new(node, file, path)?;
    let rate = fields
        .read("rate", "a burn rate above 0", |value| value.as_f64().filter(|rate| *rate > 0.0 && rate.is_finite()))?;
    let severity = fields.read("severity", "info, warning or critical", |value| {
        value.as_str()?.parse().ok().filter(|severity| *severity != Severity::Resolved)
    })?;
    let window = fields.window("window")?.unwrap_or(Window::HOUR);
    fields.finish()?;
    match (rate, severity) {
        (Some(rate), Some(severity)) => Ok(BurnThreshold { rate, severity, window }),
        _ => {
            let message = format!("`{}`: expected `rate` and `severity`", path.trim_end_matches('.'));
            Err(ConfigError::document(file, node.line, message))
        }
    }
}
