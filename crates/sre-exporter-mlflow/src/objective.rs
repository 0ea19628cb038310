use std::hash::{DefaultHasher, Hash, Hasher};

use sre_core::private::unique_name;
use sre_core::{SloSnapshot, Status, Timestamp, stable_id};

use crate::log_batch::{Entry, Key, Metric};
use crate::names::key_part;

/// The tag by which the run of an objective is found again.
pub(crate) const KEY_TAG: &str = "sre.objective_id";

/// Returns the params of an objective's run. MLflow's params never change: with other ones, an objective is another run.
pub(crate) fn params(slo: &SloSnapshot) -> Vec<Entry> {
    let mut params = vec![Entry::new("objective", &slo.name)];
    if !slo.agent.is_empty() {
        params.push(Entry::new("agent", &slo.agent));
    }
    params.push(Entry::new("window", &slo.window.to_string()));
    let ratios = [("target", slo.target), ("error_budget", slo.error_budget.total)];
    for (key, ratio) in ratios {
        params.extend(ratio.map(|ratio| Entry::new(key, &ratio.to_string())));
    }
    for (name, indicator) in indicator_names(slo).iter().zip(&slo.indicators) {
        params.push(Entry::new(format!("indicator/{name}/target"), &indicator.target.to_string()));
        params.push(Entry::new(format!("indicator/{name}/window"), &indicator.window.to_string()));
    }
    params
}

/// Returns a hash of what [`params`] are made of, by which this process finds the run again.
pub(crate) fn fingerprint(slo: &SloSnapshot) -> u64 {
    let bits = |ratio: Option<f64>| ratio.map(f64::to_bits);
    let mut hasher = DefaultHasher::new();
    (&slo.name, &slo.agent, slo.window, bits(slo.target), bits(slo.error_budget.total)).hash(&mut hasher);
    for indicator in &slo.indicators {
        (&indicator.name, indicator.target.to_bits(), indicator.window).hash(&mut hasher);
    }
    hasher.finish()
}

/// Returns the value of [`KEY_TAG`] for these params. It is the same in every process and version.
pub(crate) fn key(params: &[Entry]) -> String {
    let texts: Vec<&str> = params.iter().flat_map(|param| [param.key.as_str(), param.value.as_str()]).collect();
    stable_id(&texts).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the name of an objective's run.
pub(crate) fn run_name(slo: &SloSnapshot) -> String {
    let name = if slo.agent.is_empty() { slo.name.clone() } else { format!("{} / {}", slo.name, slo.agent) };
    crate::names::value(&name)
}

/// Returns the tags of an objective's run, of which `sre.status` changes.
pub(crate) fn tags(slo: &SloSnapshot) -> Vec<Entry> {
    let mut tags = vec![Entry::new("sre.status", slo.status.as_str()), Entry::new("mlflow.source.name", "agent-sre")];
    if !slo.description.is_empty() {
        tags.push(Entry::new("mlflow.note.content", &slo.description));
    }
    tags.extend(slo.labels.iter().map(|(name, value)| Entry::new(format!("sre.label.{}", key_part(name)), value)));
    tags
}

/// Returns the state of an objective as points of metrics. `indicators` are the names of its indicators in keys. The step is the
/// number of seconds since the run began.
pub(crate) fn metrics<'a>(
    slo: &SloSnapshot,
    indicators: &'a [String],
    begun: Timestamp,
    at: Timestamp,
) -> Vec<Metric<'a>> {
    let timestamp = millis(at).max(0);
    let step = i64::try_from(at.since(begun).as_secs()).unwrap_or(i64::MAX);
    let budget = &slo.error_budget;
    let numbers = [
        ("sli", slo.sli),
        ("error_budget_remaining", budget.remaining),
        ("error_budget_consumed", budget.consumed),
        ("error_budget_exhausts_in_s", budget.spent_in_s),
        ("good", Some(slo.good as f64)),
        ("bad", Some(slo.bad as f64)),
        ("alerts_firing", Some(slo.alerts.iter().filter(|alert| alert.firing).count() as f64)),
        ("status", level(slo.status)),
    ];
    let numbers = numbers.into_iter().map(|(name, value)| (Key::Name(name), value));
    let burn_rates = slo.burn_rates.iter().map(|burn| (Key::BurnRate(burn.window), burn.rate));
    let indicators = indicators.iter().zip(&slo.indicators).flat_map(|(name, indicator)| {
        [(Key::Indicator(name, "value"), indicator.value), (Key::Indicator(name, "compliance"), indicator.compliance)]
    });
    let finite = |(key, value): (Key<'a>, Option<f64>)| {
        let value = value.filter(|value| value.is_finite())?;
        Some(Metric { key, value, timestamp, step })
    };
    numbers.chain(burn_rates).chain(indicators).filter_map(finite).collect()
}

/// Returns milliseconds since 1970.
pub(crate) fn millis(time: Timestamp) -> i64 {
    time.as_nanos() / 1_000_000
}

/// Returns the status as a number, so that MLflow can draw it; without data there is none.
fn level(status: Status) -> Option<f64> {
    match status {
        Status::Healthy => Some(0.0),
        Status::Warning => Some(1.0),
        Status::Critical => Some(2.0),
        Status::Exhausted => Some(3.0),
        Status::Unknown => None,
    }
}

/// Returns the indicators' names as parts of keys, all different.
pub(crate) fn indicator_names(slo: &SloSnapshot) -> Vec<String> {
    slo.indicators.iter().fold(Vec::new(), |mut names, indicator| {
        names.push(unique_name(&key_part(&indicator.name), indicator.window, &names));
        names
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sre_core::{Direction, IndicatorSnapshot, SliReading, SliSpec};

    use super::*;

    fn slo() -> SloSnapshot {
        let slo = json!({
            "name": "answers", "agent": "support", "status": "warning", "target": 0.95, "window": "24h",
            "good": 97, "bad": 3, "sli": 0.97, "interval": [0.91, 0.99],
            "error_budget": {"total": 0.05, "consumed": 0.6, "remaining": 0.4, "spent_in_s": null},
            "burn_rates": [{"window": "1h", "rate": 2.5, "good": 9, "bad": 1}],
            "alerts": [], "indicators": [], "dropped": 0
        });
        serde_json::from_value(slo).unwrap()
    }

    #[test]
    fn a_run_belongs_to_an_objective_with_its_targets() {
        let assert_differ = |a: (String, u64), b: (String, u64)| assert!(a.0 != b.0 && a.1 != b.1);
        let key_of = |slo: &SloSnapshot| (key(&params(slo)), fingerprint(slo));
        let mut worse = slo();
        worse.error_budget.remaining = Some(-1.0);
        worse.status = Status::Exhausted;
        assert_eq!(key_of(&worse), key_of(&slo()), "the state is not part of the key");
        let mut stricter = slo();
        stricter.target = Some(0.99);
        assert_differ(key_of(&stricter), key_of(&slo()));
        let mut other = slo();
        other.agent = "billing".to_owned();
        assert_differ(key_of(&other), key_of(&slo()));
    }

    #[test]
    fn what_is_not_a_number_is_no_point() {
        let mut slo = slo();
        slo.burn_rates[0].rate = Some(f64::INFINITY);
        slo.sli = Some(f64::NAN);
        slo.status = Status::Unknown;
        let at = Timestamp::from_secs(1_790_000_090);
        let metrics = metrics(&slo, &[], Timestamp::from_secs(1_790_000_000), at);
        let keys: Vec<_> = metrics.iter().map(|metric| metric.key.to_string()).collect();
        assert_eq!(keys, ["error_budget_remaining", "error_budget_consumed", "good", "bad", "alerts_firing"]);
        assert!(metrics.iter().all(|metric| (metric.timestamp, metric.step) == (1_790_000_090_000, 90)));
    }

    #[test]
    fn indicators_of_one_name_have_a_key_each() {
        let indicator = |window: &str| {
            let spec = SliSpec::ratio_at_most("Fehler/ü", 0.02, window.parse().unwrap()).unwrap();
            assert_eq!(spec.direction, Direction::AtMost);
            IndicatorSnapshot::new(&spec, SliReading::default())
        };
        let mut slo = slo();
        slo.indicators = vec![indicator("1h"), indicator("24h")];
        assert_eq!(indicator_names(&slo), ["Fehler__", "Fehler___24h"]);
    }
}
