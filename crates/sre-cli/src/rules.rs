use std::collections::BTreeMap;

use agent_sre::slo::{SliRegistry, Slo, SloSpec};
use agent_sre::{Severity, Timestamp};
use serde::Serialize;

/// A file of alerting rules for Prometheus.
#[derive(Serialize)]
pub(crate) struct RuleFile {
    groups: Vec<Group>,
}

#[derive(Serialize)]
struct Group {
    name: String,
    rules: Vec<Rule>,
}

#[derive(Serialize)]
struct Rule {
    alert: String,
    expr: String,
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pending_for: Option<&'static str>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<&'static str, String>,
}

/// Returns alerting rules on the metrics of `sre serve`: for each objective its burn alerts, the exhaustion of its budget and the
/// indicators that miss their targets, and for the service itself the failures that keep it from alerting.
///
/// The rules use the alert state that the service computes instead of recomputing burn rates: the service counts every event and
/// has the calendars and minimum numbers of events, where Prometheus would have to estimate from samples.
pub(crate) fn rules(specs: &[SloSpec]) -> anyhow::Result<RuleFile> {
    let mut groups = vec![service_rules()];
    for spec in specs {
        let slo = Slo::from_specs(spec, specs, "", &SliRegistry::default())?;
        let (mut rules, subject) = (Vec::new(), subject(spec));
        for threshold in &slo.budget().config().policy.thresholds {
            let (severity, long, short) = (threshold.severity, threshold.window, threshold.short_window());
            let name = if severity == Severity::Critical { "SreErrorBudgetBurnFast" } else { "SreErrorBudgetBurn" };
            let matchers = format!(
                "slo={:?},severity={:?},long_window={:?},threshold={:?}",
                spec.name,
                severity.as_str(),
                long.to_string(),
                threshold.rate.to_string()
            );
            let summary = format!("{subject}: burn rate of at least {} over {long} and over {short}", threshold.rate);
            let mut rule = rule(name, format!("sre_slo_alert_firing{{{matchers}}} == 1"), spec, severity, summary);
            // Rules of the same name must differ in a label.
            rule.labels.insert("long_window".to_owned(), long.to_string());
            rules.push(rule);
        }
        let expr = format!("sre_slo_status{{slo={:?},status=\"exhausted\"}} == 1", spec.name);
        let summary = format!("{subject}: error budget exhausted");
        rules.push(rule("SreErrorBudgetExhausted", expr, spec, Severity::Critical, summary));
        // An indicator that shares the objective's budget has no status of its own, so nothing is alerted twice.
        let has_own_status = slo.snapshot_at(Timestamp::default()).indicators.iter().any(|own| own.status.is_some());
        for severity in [Severity::Critical, Severity::Warning].into_iter().filter(|_| has_own_status) {
            let expr = format!("sre_indicator_status{{slo={:?},status={:?}}} == 1", spec.name, severity.as_str());
            let summary = format!("{subject}: {{{{ $labels.indicator }}}} misses its target");
            rules.push(rule("SreIndicatorMissesTarget", expr, spec, severity, summary));
        }
        groups.push(Group { name: format!("sre-slo-{}", spec.name), rules });
    }
    Ok(RuleFile { groups })
}

/// Returns the objective and its agent, if it is that of one: a composite may be over all agents.
fn subject(spec: &SloSpec) -> String {
    let is_over_all = spec.composite.is_some() && spec.service().is_none();
    if is_over_all { spec.name.clone() } else { format!("{} of {{{{ $labels.agent }}}}", spec.name) }
}

fn rule(alert: &str, expr: String, spec: &SloSpec, severity: Severity, summary: String) -> Rule {
    let mut labels: BTreeMap<String, String> = spec
        .labels
        .iter()
        .filter(|(name, _)| is_label(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    labels.insert("severity".to_owned(), severity.as_str().to_owned());
    let description = spec.description.clone().map(|description| ("description", description));
    let annotations = [("summary", summary)].into_iter().chain(description).collect();
    Rule { alert: alert.to_owned(), expr, pending_for: None, labels, annotations }
}

/// Returns true if `name` is a valid label name for Prometheus.
fn is_label(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn service_rules() -> Group {
    let rule = |alert: &str, expr: &str, pending_for, severity: Severity, summary: &str| Rule {
        alert: alert.to_owned(),
        expr: expr.to_owned(),
        pending_for,
        labels: BTreeMap::from([("severity".to_owned(), severity.as_str().to_owned())]),
        annotations: BTreeMap::from([("summary", summary.to_owned())]),
    };
    let rules = vec![
        rule(
            "SreServiceDown",
            "absent(sre_config_last_reload_successful)",
            Some("5m"),
            Severity::Critical,
            "sre serve is down or not scraped: agents are not monitored",
        ),
        rule(
            "SreJournalWriteFailed",
            "increase(sre_server_journal_failures_total[5m]) > 0",
            None,
            Severity::Critical,
            "Journal writes of sre serve fail, so it rejects events; see /readyz for the cause",
        ),
        rule(
            "SreSignalsLost",
            "increase(sre_signal_handler_dropped_total[5m]) > 0 or increase(sre_signal_handler_panics_total[5m]) > 0 \
             or increase(sre_cost_dropped_signals_total[5m]) > 0",
            None,
            Severity::Critical,
            "sre serve loses signals, or a signal handler panics, so alerts may be missing; see the log",
        ),
        rule(
            "SreConfigReloadFailed",
            "sre_config_last_reload_successful == 0",
            Some("5m"),
            Severity::Warning,
            "Config reload of sre serve failed, so it keeps the previous configuration; see its log for file and line",
        ),
        rule(
            "SreOverloaded",
            "increase(sre_server_refused_requests_total[5m]) > 0",
            Some("10m"),
            Severity::Warning,
            "sre serve rejects requests because of load; clients retry",
        ),
    ];
    Group { name: "sre-server".to_owned(), rules }
}
