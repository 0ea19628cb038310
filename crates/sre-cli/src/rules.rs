use std::collections::BTreeMap;

use agent_sre::Severity;
use agent_sre::slo::{SliRegistry, Slo, SloSpec};
use serde::Serialize;

/// A file of rules, as Prometheus reads it.
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
    lasting: Option<&'static str>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<&'static str, String>,
}

/// Alert rules over what `sre serve` exposes: for each objective its burn alerts and its budget's end, and for the service
/// itself what keeps it from telling.
///
/// The windows, the least number of events and the calendar are the service's: it counts every event, where Prometheus would
/// have to estimate from samples. So a rule asks what the service has found, and Prometheus says it to whom it always does.
pub(crate) fn rules(specs: &[SloSpec]) -> anyhow::Result<RuleFile> {
    let mut groups = vec![of_service()];
    for spec in specs {
        let slo = Slo::from_spec(spec, "", &SliRegistry::default())?;
        let mut rules = Vec::new();
        for threshold in &slo.budget().config().policy.0 {
            let (severity, long, short) = (threshold.severity, threshold.window, threshold.short_window());
            let name = if severity == Severity::Critical { "SreBudgetBurnsFast" } else { "SreBudgetBurns" };
            let matchers = format!(
                "slo={:?},severity={:?},long_window={:?},threshold={:?}",
                spec.name,
                severity.as_str(),
                long.to_string(),
                threshold.rate.to_string()
            );
            let summary = format!(
                "{} of {{{{ $labels.agent }}}} burns its error budget at {} times or more of what it may, over {long} and over {short}",
                spec.name, threshold.rate
            );
            let mut rule = rule(name, format!("sre_slo_alert_firing{{{matchers}}} == 1"), spec, severity, summary);
            // Two of one name must differ by more than what they ask.
            rule.labels.insert("long_window".to_owned(), long.to_string());
            rules.push(rule);
        }
        let expr = format!("sre_slo_status{{slo={:?},status=\"exhausted\"}} == 1", spec.name);
        let summary = format!("{} of {{{{ $labels.agent }}}} has spent its error budget", spec.name);
        rules.push(rule("SreBudgetSpent", expr, spec, Severity::Critical, summary));
        groups.push(Group { name: format!("sre-slo-{}", spec.name), rules });
    }
    Ok(RuleFile { groups })
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
    Rule { alert: alert.to_owned(), expr, lasting: None, labels, annotations }
}

/// Whether Prometheus takes it as a label's name.
fn is_label(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn of_service() -> Group {
    let rule = |alert: &str, expr: &str, lasting, severity: Severity, summary: &str| Rule {
        alert: alert.to_owned(),
        expr: expr.to_owned(),
        lasting,
        labels: BTreeMap::from([("severity".to_owned(), severity.as_str().to_owned())]),
        annotations: BTreeMap::from([("summary", summary.to_owned())]),
    };
    let rules = vec![
        rule(
            "SreServiceSilent",
            "absent(sre_server_up_seconds)",
            Some("5m"),
            Severity::Critical,
            "Nobody watches the agents: sre serve is not there, or is not scraped",
        ),
        rule(
            "SreJournalFails",
            "increase(sre_server_journal_failures_total[5m]) > 0",
            None,
            Severity::Critical,
            "What agents send cannot be kept: /readyz of sre serve says why",
        ),
        rule(
            "SreFilesWrong",
            "sre_server_files_wrong == 1",
            Some("5m"),
            Severity::Warning,
            "The files of sre serve cannot be used, those from before are: /readyz says which line",
        ),
        rule(
            "SreOverloaded",
            "increase(sre_server_refused_total[5m]) > 0",
            Some("10m"),
            Severity::Warning,
            "Agents send more than sre serve may hold, and are told to try again",
        ),
    ];
    Group { name: "sre-server".to_owned(), rules }
}
