//! What an exporter costs the intake whose backend accepts connections and never answers.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use serde_json::{Value, json};

use super::{SPANS, Service, Template, figure, load, write_settings};

/// Number of measurements with and without the exporter, in turns.
const ROUNDS: usize = 3;
/// Spans a second that are offered: less than the service takes in without an exporter, since on two cores whatever runs beside
/// it costs throughput at its limit.
const OFFERED: usize = 60_000;

pub(super) fn measure(template: &Template, time: Duration) -> Vec<Value> {
    let backend = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", backend.local_addr().expect("an address"));
    // Accepted connections are kept open, and never read.
    std::thread::spawn(move || backend.incoming().collect::<Vec<_>>());
    let exporter = format!("exporters: [{{type: otlp, url: '{url}', interval: 1s}}]\n");
    let (mut without, mut with) = ([0.0; ROUNDS], [0.0; ROUNDS]);
    for round in 0..ROUNDS {
        for (rates, settings) in [(&mut without, ""), (&mut with, exporter.as_str())] {
            rates[round] = rate(template, settings, time);
        }
    }
    eprintln!(
        "of {OFFERED} spans a second, without an exporter: {without:.0?}, with one whose backend never answers: {with:.0?}"
    );
    let share = median(with) / median(without) * 100.0;
    let what = format!("intake of {OFFERED} spans/s with an exporter whose backend never answers, of that without");
    vec![figure(what, share, "%", json!({"at_least": 95}))]
}

/// Returns the spans a second that a service with these settings takes in durably.
fn rate(template: &Template, settings: &str, time: Duration) -> f64 {
    let folder = tempfile::tempdir().expect("a folder");
    write_settings(folder.path(), settings);
    let service = Service::start(folder.path());
    let next = Arc::new(AtomicU64::new(1));
    let rate = Some(OFFERED as f64 / SPANS as f64);
    load(&service.address, template, &next, Duration::from_secs(3), rate);
    let loaded = load(&service.address, template, &next, time, rate);
    service.kill();
    assert_eq!(loaded.refused, 0, "nothing is refused");
    loaded.rate()
}

fn median(mut rates: [f64; ROUNDS]) -> f64 {
    rates.sort_unstable_by(f64::total_cmp);
    rates[ROUNDS / 2]
}
