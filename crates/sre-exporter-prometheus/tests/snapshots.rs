//! Snapshots as Prometheus sees them.
use std::time::Duration;

use sre_core::{
    AlertsSnapshot, BurnRate, ChannelSnapshot, Collect, Direction, ErrorBudgetSnapshot, IndicatorSnapshot, SloSnapshot,
    Snapshot, Status, Timestamp, Unit, Window,
};
use sre_exporter_prometheus::PrometheusExporter;

struct Snapshots(Vec<Snapshot>);

impl Collect for Snapshots {
    fn snapshots(&self, _now: Timestamp) -> Vec<Snapshot> {
        self.0.clone()
    }
}

fn objective() -> SloSnapshot {
    SloSnapshot {
        name: "answers".into(),
        agent: "support".into(),
        status: Status::Exhausted,
        target: Some(1.0),
        window: Window::MONTH,
        good: 9,
        bad: 1,
        sli: Some(0.9),
        interval: None,
        error_budget: ErrorBudgetSnapshot { total: Some(0.0), consumed: Some(f64::INFINITY), ..Default::default() },
        burn_rates: vec![BurnRate { window: Window::HOUR, rate: Some(f64::INFINITY), good: 9, bad: 1 }],
        alerts: Vec::new(),
        indicators: vec![IndicatorSnapshot {
            name: "response_latency".into(),
            value: Some(1500.0),
            target: 2000.0,
            compliance: None,
            samples: 10,
            interval: None,
            maximum: None,
            percentiles: None,
            direction: Direction::AtMost,
            unit: Unit::Milliseconds,
            window: Window::try_from(Duration::from_secs(3600)).unwrap(),
            dropped: 0,
        }],
        not_evaluable: Vec::new(),
        labels: Default::default(),
        dropped: 3,
    }
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
    let channel = ChannelSnapshot {
        name: "oncall".into(),
        queued: 3,
        failed: 2,
        dropped: 1,
        retries: 7,
        last_error: "answered 400: no".into(),
        ..ChannelSnapshot::default()
    };
    let alerts = AlertsSnapshot { deduplicated: 5, store_failures: 1, channels: vec![channel], ..Default::default() };
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
