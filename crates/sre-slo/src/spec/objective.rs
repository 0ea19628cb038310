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
        calendar: fields.take("calendar").and_then(|node| calendar(node, file, errors)),
        time_slices: fields.take("time_slices").and_then(|node| time_slices(node, file, errors)),
        indicators: indicators(&mut fields, file, registry, errors),
        composite: fields.take("composite").and_then(|node| composite(node, file, errors)),
        good_when: fields.take("good_when").and_then(|node| good_when(node, file, errors)),
        error_budget_policy: fields.take("error_budget_policy").and_then(|node| budget_policy(node, file, errors)),
        labels: labels(&mut fields, file, errors),
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
    let mut read = |(index, node)| indicator(node, file, &format!("indicators[{index}]."), registry, errors);
    items.iter().enumerate().map(|item| read(item).unwrap_or_default()).collect()
}

fn labels(fields: &mut Fields<'_>, file: &str, errors: &mut DocumentErrors) -> BTreeMap<String, String> {
    let Some(node) = fields.take("labels") else { return BTreeMap::new() };
    let Kind::Map(entries) = &node.kind else {
        errors.extend([fields.error("labels", node, "a mapping of names to strings")]);
        return BTreeMap::new();
    };
    let text = |(key, node): &(Key, Node)| match &node.kind {
        Kind::Scalar(_) if node.is_null() => Ok((key.name.clone(), String::new())),
        Kind::Scalar(value) if !value.is_f64() => Ok((key.name.clone(), node.found())),
        _ => Err(ConfigError::Field {
            file: file.to_owned(),
            line: node.line,
            field: format!("labels.{}", key.name),
            found: node.found(),
            expected: "a text, with quotes around a decimal fraction".to_owned(),
        }),
    };
    entries.iter().filter_map(|entry| errors.ok(text(entry))).collect()
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

fn indicator(
    node: &Node,
    file: &str,
    path: &str,
    registry: &SliRegistry,
    errors: &mut DocumentErrors,
) -> Option<IndicatorSpec> {
    let mut fields = errors.ok(Fields::new(node, file, path))?;
    let missing = || {
        ConfigError::document(file, node.line, format!("`{path}type`: found nothing, expected the indicator's type"))
    };
    let kind = errors.ok(fields.text("type").and_then(|kind| kind.ok_or_else(missing)))?;
    let informational = errors.keep(fields.flag("informational")).unwrap_or_default();
    // The name of an indicator of another system is a parameter.
    let name = if kind == EXTERNAL { None } else { errors.keep(fields.text("name")) };
    let own: &[&str] = if kind == EXTERNAL { &["type", "informational"] } else { &["type", "name", "informational"] };
    let entries = fields.entries.iter().filter(|(key, node)| !own.contains(&&*key.name) && !node.is_null());
    let params: BTreeMap<String, Value> =
        entries.clone().map(|(key, node)| (key.name.clone(), node.to_value())).collect();
    let spec = IndicatorSpec { kind, name, informational, params };
    if !spec.is_external() {
        let line_of = |field: &str| node.entry(field).map_or(node.line, |(key, _)| key.line);
        errors.extend(registry.errors_of(&spec).into_iter().map(|error| {
            let (line, field) = (line_of(&error.field), format!("{path}{}", error.field));
            if error.is_unknown_field() {
                let of_type = error.expected.trim_start_matches("one of type, ");
                let expected = format!("type, name, informational, {of_type}");
                return ConfigError::UnknownField { file: file.to_owned(), line, field, expected };
            }
            let found = error.found.trim_matches('`').to_owned();
            ConfigError::Field { file: file.to_owned(), line, field, found, expected: error.expected }
        }));
    }
    Some(spec)
}

fn calendar(node: &Node, file: &str, errors: &mut DocumentErrors) -> Option<CalendarSpec> {
    let mut fields = errors.ok(Fields::new(node, file, "calendar."))?;
    let mut text = |name| errors.ok(fields.text(name));
    let (start, time_zone, period) = (text("start"), text("time_zone"), text("period"));
    errors.extend(fields.unknown());
    let spec = CalendarSpec {
        start: start?.unwrap_or_default(),
        time_zone: time_zone?.unwrap_or_else(|| "UTC".to_owned()),
        period: period?.unwrap_or_default(),
    };
    errors.keep(Calendar::try_from(&spec).map(|_| ()).map_err(|error| ConfigError::Field {
        file: file.to_owned(),
        line: node.entry(error.field).map_or(node.line, |(key, _)| key.line),
        field: format!("calendar.{}", error.field),
        found: error.found,
        expected: error.expected.to_owned(),
    }));
    Some(spec)
}

fn time_slices(node: &Node, file: &str, errors: &mut DocumentErrors) -> Option<TimeSlices> {
    let mut fields = errors.ok(Fields::new(node, file, "time_slices."))?;
    let window = errors.keep(fields.window("window"));
    let target = errors.keep(target(&mut fields));
    errors.extend(fields.unknown());
    required(node, &["window", "target"], file, "time_slices", errors);
    Some(TimeSlices { window: window?, target: target? })
}

/// Records an error if one of two required fields is missing.
fn required(node: &Node, names: &[&str; 2], file: &str, place: &str, errors: &mut DocumentErrors) {
    if names.iter().any(|name| node.entry(name).is_none_or(|(_, node)| node.is_null())) {
        let message = format!("`{place}`: expected `{}` and `{}`", names[0], names[1]);
        errors.extend([ConfigError::document(file, node.line, message)]);
    }
}

/// Reads the items of a list, if it is present. Each is read with its path, such as `composite.objectives[0].`.
fn list<T>(
    fields: &mut Fields<'_>,
    (mapping, name): (&str, &'static str),
    errors: &mut DocumentErrors,
    read: impl Fn(&Node, &str, &mut DocumentErrors) -> Option<T>,
) -> Vec<T> {
    let Some(node) = fields.take(name) else { return Vec::new() };
    let items = errors.keep(fields.items(name, node)).iter().enumerate();
    items.filter_map(|(index, node)| read(node, &format!("{mapping}.{name}[{index}]."), errors)).collect()
}

fn composite(node: &Node, file: &str, errors: &mut DocumentErrors) -> Option<CompositeSpec> {
    let mut fields = errors.ok(Fields::new(node, file, "composite."))?;
    let objectives = list(&mut fields, ("composite", "objectives"), errors, |node, path, errors| {
        Some(component(node, file, path, errors).unwrap_or_default())
    });
    let method = errors.keep(fields.read("method", "weighted or worst", |value| value.as_str()?.parse().ok()));
    errors.extend(fields.unknown());
    Some(CompositeSpec { objectives, method: method.unwrap_or_default() })
}

fn component(node: &Node, file: &str, path: &str, errors: &mut DocumentErrors) -> Option<ComponentSpec> {
    let mut fields = errors.ok(Fields::new(node, file, path))?;
    let missing =
        || ConfigError::document(file, node.line, format!("`{path}name`: found nothing, expected an objective"));
    let name = errors.keep(fields.text("name").and_then(|name| name.ok_or_else(missing)));
    let weight = errors.keep(fields.read("weight", "a number above 0", |value| {
        value.as_f64().filter(|weight| *weight > 0.0 && weight.is_finite())
    }));
    errors.extend(fields.unknown());
    Some(ComponentSpec { name, weight: weight.unwrap_or(1.0) })
}

fn good_when(node: &Node, file: &str, errors: &mut DocumentErrors) -> Option<GoodWhen> {
    let mut fields = errors.ok(Fields::new(node, file, "good_when."))?;
    let kinds = "task_finished, step_finished, llm_call, tool_call, policy_check, evaluation or http_request";
    let good_when = GoodWhen {
        event: errors
            .keep(fields.read("event", kinds, |value| {
                value.as_str()?.parse().ok().filter(|kind: &EventKind| kind.has_outcome())
            }))
            .unwrap_or(EventKind::TaskFinished),
        success: errors.keep(fields.flag("success")),
        max_duration_ms: errors.keep(fields.read("max_duration_ms", "milliseconds, at least 0", |value| {
            value.as_f64().filter(|ms| (0.0..f64::INFINITY).contains(ms))
        })),
        max_cost_usd: errors.keep(fields.read("max_cost_usd", "an amount of dollars, at least 0", |value| {
            serde_json::from_value(value.clone()).ok().filter(|amount: &Usd| !amount.is_negative())
        })),
    };
    errors.extend(fields.unknown());
    Some(good_when)
}

fn budget_policy(node: &Node, file: &str, errors: &mut DocumentErrors) -> Option<BudgetPolicySpec> {
    let mut fields = errors.ok(Fields::new(node, file, "error_budget_policy."))?;
    let whole = "a whole number";
    let policy = BudgetPolicySpec {
        thresholds: list(&mut fields, ("error_budget_policy", "thresholds"), errors, |node, path, errors| {
            threshold(node, file, path, errors)
        }),
        policy: errors.keep(fields.read("policy", "sre-workbook", |value| {
            value.as_str().filter(|name| BurnPolicy::named(name).is_some()).map(str::to_owned)
        })),
        significance: errors.keep(fields.read("significance", "a probability above 0 and below 1", |value| {
            value.as_f64().filter(|share| *share > 0.0 && *share < 1.0)
        })),
        min_bad: errors.keep(
            fields.read("min_bad", "a whole number above 0", |value| value.as_u64().filter(|number| *number > 0)),
        ),
        min_events: errors.keep(fields.read("min_events", whole, Value::as_u64)),
        expected_events: errors.keep(fields.read("expected_events", whole, Value::as_u64)),
        exhaustion_action: errors.keep(fields.read(
            "exhaustion_action",
            "alert, freeze_deployments, circuit_break or throttle",
            |value| value.as_str()?.parse::<ExhaustionAction>().ok(),
        )),
    };
    errors.extend(fields.unknown());
    if policy.policy.is_some() && !policy.thresholds.is_empty() {
        let message = "`error_budget_policy`: found both `policy` and `thresholds`, expected one of them".to_owned();
        errors.extend([ConfigError::document(file, node.line, message)]);
    }
    Some(policy)
}

fn target(fields: &mut Fields<'_>) -> Result<Option<SloTarget>, ConfigError> {
    fields.read("target", "a ratio such as 0.95, or a percentage such as 95 or `95%`", |value| {
        serde_json::from_value(value.clone()).ok()
    })
}

fn threshold(node: &Node, file: &str, path: &str, errors: &mut DocumentErrors) -> Option<BurnThreshold> {
    let mut fields = errors.ok(Fields::new(node, file, path))?;
    let rate = errors
        .keep(fields.read("rate", "a burn rate above 0", |value| {
            value.as_f64().filter(|rate| *rate > 0.0 && rate.is_finite())
        }));
    let severity = errors.keep(fields.read("severity", "info, warning or critical", |value| {
        value.as_str()?.parse().ok().filter(|severity| *severity != Severity::Resolved)
    }));
    let window = errors.keep(fields.window("window")).unwrap_or(Window::HOUR);
    errors.extend(fields.unknown());
    required(node, &["rate", "severity"], file, path.trim_end_matches('.'), errors);
    Some(BurnThreshold { rate: rate?, severity: severity?, window })
}
