//! Snapshots rendered for Prometheus.
use std::io::Write;
use std::process::Stdio;

use sre_core::{
    AlertsSnapshot, BurnRate, ChannelSnapshot, Collect, IndicatorSnapshot, SliReading, SliSpec, SloSnapshot, Snapshot,
    Status, Timestamp, Unit, Window,
};
use sre_exporter_prometheus::PrometheusExporter;
use sre_testkit::outside;

struct Snapshots(Vec<Snapshot>);

impl Collect for Snapshots {
    fn snapshots(&self, _now: Timestamp) -> Vec<Snapshot> {
        self.0.clone()
    }
}

fn objective() -> SloSnapshot {
    let mut slo = SloSnapshot::new("answers", "support", Window::MONTH);
    (slo.status, slo.target, slo.sli) = (Status::Exhausted, Some(1.0), Some(0.9));
    (slo.good, slo.bad, slo.dropped) = (9, 1, 3);
    (slo.error_budget.total, slo.error_budget.consumed) = (Some(0.0), Some(f64::INFINITY));
    slo.burn_rates = vec![BurnRate::new(Window::HOUR, Some(f64::INFINITY), 9, 1)];
    let mut reading = SliReading::default();
    (reading.value, reading.samples) = (Some(1500.0), 10);
    let spec = SliSpec::at_most("response_latency", 2000.0, Unit::Milliseconds, Window::HOUR).unwrap();
    slo.indicators = vec![IndicatorSnapshot::new(&spec, reading)];
    slo
}

#[test]
fn units_are_base_units_and_what_does_not_exist_has_no_sample() {
    let mut exporter = PrometheusExporter::new();
    exporter.collect(&Snapshots(vec![Snapshot::Slo(Box::new(objective()))]), Timestamp::default()).unwrap();
    let text = exporter.render();
    let (agent, slo) = ("agent=\"support\"", "slo=\"answers\"");
    for line in [
        format!("sre_indicator_value_seconds{{{agent},indicator=\"response_latency\",{slo}}} 1.5"),
        format!("sre_indicator_target_seconds{{{agent},indicator=\"response_latency\",{slo}}} 2"),
        format!("sre_slo_burn_rate{{{agent},{slo},window=\"1h\"}} +Inf"),
        format!("sre_slo_status{{{agent},{slo},status=\"exhausted\"}} 1"),
        format!("sre_slo_status{{{agent},{slo},status=\"healthy\"}} 0"),
        format!("sre_slo_window_seconds{{{agent},{slo}}} 2592000"),
        format!("sre_slo_dropped_events_total{{{agent},{slo}}} 3"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("exhausts_in") && !text.contains("compliance"));
}

#[test]
fn an_objective_exported_again_replaces_all_of_its_series() {
    let mut exporter = PrometheusExporter::new();
    let other = SloSnapshot::new("answers", "sales", Window::MONTH);
    exporter.set_gauge("queue_length", 3.0, &[("slo", "answers"), ("agent", "support")], "Queue.").unwrap();
    exporter.export_slo(&objective());
    exporter.export_slo(&other);
    assert!(exporter.render().contains("sre_slo_burn_rate{"));
    // Four hours later nothing burns any more, and the indicator is gone.
    let mut quiet = objective();
    quiet.burn_rates.clear();
    quiet.indicators.clear();
    exporter.export_slo(&quiet);
    let text = exporter.render();
    assert!(!text.contains("sre_slo_burn_rate") && !text.contains("sre_indicator"), "{text}");
    assert!(text.contains("queue_length{agent=\"support\",slo=\"answers\"} 3\n"), "what was set by hand stays");
    let mut fresh = PrometheusExporter::new();
    fresh.set_gauge("queue_length", 3.0, &[("slo", "answers"), ("agent", "support")], "Queue.").unwrap();
    [&quiet, &other].into_iter().for_each(|slo| fresh.export_slo(slo));
    assert_eq!(text, fresh.render());
    exporter.clear();
    assert_eq!(exporter.render(), "");
}

#[test]
fn a_collection_replaces_the_one_before() {
    let of = |slos: &[SloSnapshot]| Snapshots(slos.iter().map(|slo| Snapshot::Slo(Box::new(slo.clone()))).collect());
    let (burning, other) = (objective(), SloSnapshot::new("cheap", "support", Window::MONTH));
    let mut exporter = PrometheusExporter::new();
    let sources = [of(&[burning]), of(std::slice::from_ref(&other))];
    exporter.collect(&[&sources[0] as &dyn Collect, &sources[1]], Timestamp::default()).unwrap();
    assert!(exporter.render().contains("sre_slo_burn_rate{") && exporter.render().contains("slo=\"cheap\""));
    exporter.collect(&of(std::slice::from_ref(&other)), Timestamp::default()).unwrap();
    let mut fresh = PrometheusExporter::new();
    fresh.export_slo(&other);
    assert_eq!(exporter.render(), fresh.render());
}

#[test]
fn indicators_of_the_same_name_are_series_of_their_own() {
    let mut slo = objective();
    let indicator = |target, window, value| {
        let mut reading = SliReading::default();
        (reading.value, reading.samples) = (Some(value), 10);
        let spec = SliSpec::at_most("latency", target, Unit::Milliseconds, window).unwrap();
        let mut indicator = IndicatorSnapshot::new(&spec, reading);
        indicator.status = Some(Status::Warning);
        indicator.burn_rates = vec![BurnRate::new(Window::HOUR, Some(value), 9, 1)];
        indicator
    };
    slo.indicators = vec![
        indicator(2000.0, Window::HOUR, 1000.0),
        indicator(2000.0, Window::DAY, 2000.0),
        indicator(3000.0, Window::DAY, 3000.0),
        indicator(3000.0, Window::DAY, 4000.0),
    ];
    let mut exporter = PrometheusExporter::new();
    exporter.export_slo(&slo);
    let text = exporter.render();
    for (indicator, value) in [("latency", 1), ("latency_24h", 2), ("latency_24h_2", 3), ("latency_24h_3", 4)] {
        let labels = format!("agent=\"support\",indicator=\"{indicator}\",slo=\"answers\"");
        assert!(text.contains(&format!("sre_indicator_value_seconds{{{labels}}} {value}\n")), "{indicator}: {text}");
        assert!(text.contains(&format!("sre_indicator_burn_rate{{{labels},window=\"1h\"}} {value}000\n")), "{text}");
    }
    let series: Vec<&str> = text.lines().filter_map(|line| line.rsplit_once(' ').map(|(series, _)| series)).collect();
    let unique: std::collections::BTreeSet<_> = series.iter().collect();
    assert_eq!(series.len(), unique.len(), "no series appears twice");

    let test = "indicators_of_the_same_name_are_series_of_their_own";
    let Some(mut promtool) = outside::program("promtool", test) else { return };
    let piped = promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && message.is_empty(), "{message}");
}

#[test]
fn lost_alerts_are_exported() {
    let mut channel = ChannelSnapshot::new("oncall");
    (channel.queued, channel.failed, channel.dropped, channel.retries) = (3, 2, 1, 7);
    let mut alerts = AlertsSnapshot::default();
    (alerts.deduplicated, alerts.store_failures, alerts.channels) = (5, 1, vec![channel]);
    let mut exporter = PrometheusExporter::new();
    exporter.collect(&Snapshots(vec![Snapshot::Alerts(alerts)]), Timestamp::default()).unwrap();
    let text = exporter.render();
    for line in [
        "sre_alerts_total{outcome=\"deduplicated\"} 5",
        "sre_alert_queue_length{channel=\"oncall\"} 3",
        "sre_alert_deliveries_total{channel=\"oncall\",result=\"failed\"} 2",
        "sre_alert_deliveries_total{channel=\"oncall\",result=\"dropped\"} 1",
        "sre_alert_retries_total{channel=\"oncall\"} 7",
        "sre_alert_store_failures_total 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}
