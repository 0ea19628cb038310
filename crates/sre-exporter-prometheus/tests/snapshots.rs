//! Snapshots rendered for Prometheus.
use sre_core::{
    AlertsSnapshot, BurnRate, ChannelSnapshot, Collect, IndicatorSnapshot, SliReading, SliSpec, SloSnapshot, Snapshot,
    Status, Timestamp, Unit, Window,
};
use sre_exporter_prometheus::PrometheusExporter;

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
        format!("sre_slo_dropped_events{{{agent},{slo}}} 3"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("exhausts_in") && !text.contains("compliance"));
}

#[test]
fn what_is_lost_of_alerts_is_seen() {
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
