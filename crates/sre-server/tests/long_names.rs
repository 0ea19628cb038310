//! Names of any length: they are shortened, memory and state stay bounded, and nobody else is affected.
//!
//! A process of its own, because it measures its memory.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::{Duration, Instant};

use agent_sre::sqlite::SqliteJournal;
use agent_sre::{Clock, JournalStore, ModelTotals, StateWriter, SystemClock};
use common::{Service, config, finished};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::StatusCode;
use serde_json::{Value, json};

/// A name that fills a request.
const LONG: usize = 15 << 20;
/// Requests with such names: their sum is above the maximum size of a value in SQLite.
const REQUESTS: usize = 80;
/// The version of the state's format.
const STATE_VERSION: u32 = 2;

fn long_name(number: usize) -> String {
    format!("{}{number}", "m".repeat(LONG))
}

fn models(costs: &Value) -> BTreeMap<String, Value> {
    costs["models"].as_object().unwrap().iter().map(|(name, model)| (name.clone(), model["calls"].clone())).collect()
}

/// Returns the largest resident memory that the process ever had, in bytes; `None` on systems other than Linux.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?;
    Some(kib.parse::<u64>().ok()? << 10)
}

async fn metric(service: &Service, name: &str) -> f64 {
    let text = service.get_raw("/metrics").await;
    let text = String::from_utf8(text.body().to_vec()).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}"));
    line.trim().parse().unwrap()
}

#[tokio::test]
async fn long_names_are_shortened_and_harm_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(config(folder.path())).await;
    let before = peak_memory();
    for number in 0..REQUESTS {
        let now = SystemClock.now().as_unix_seconds();
        let line = format!(
            r#"{{"event":"llm_call","time":{now},"agent":"hostile","model":"{}","input_tokens":1}}"#,
            long_name(number)
        );
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(line.as_bytes()).unwrap();
        let request = service.request("/v1/events/sre", "application/x-ndjson").header("content-encoding", "gzip");
        drop(line);
        let sent = service.send(request, gzip.finish().unwrap()).await;
        // A journal that is full until the next snapshot is no loss: clients retry.
        assert!(matches!(sent.status(), StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE), "{sent:?}");
        service.events(&finished("innocent", number, true)).await;
    }
    let costs = service.get("/v1/costs").await;
    let names = models(&costs);
    assert!(names.keys().all(|name| name.len() <= 256 && name.starts_with("mmm")));
    assert!(names.len() >= REQUESTS * 9 / 10, "long names that differ stay different: {}", names.len());
    let begun = Instant::now();
    while metric(&service, "sre_adapter_shortened_strings_total{adapter=\"sre\"}").await < names.len() as f64 {
        assert!(begun.elapsed() < Duration::from_secs(30), "each is counted, after a second");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // The request, its copies on the way, and the batches that wait.
    let growth = peak_memory().zip(before).map_or(0, |(peak, before)| peak - before);
    assert!(growth < 512 << 20, "{} MiB", growth >> 20);
    assert_eq!(service.get("/readyz").await, json!({"ready": true}));
    assert_eq!(metric(&service, "sre_server_snapshot_failures_total").await, 0.0);
    service.server.stop().await;

    let service = Service::start(config(folder.path())).await;
    assert_eq!(models(&service.get("/v1/costs").await), names);
    service.events(&finished("innocent", REQUESTS, true)).await;
    assert_eq!(service.totals().await["tasks"], REQUESTS + 1);
    assert_eq!(service.get("/readyz").await, json!({"ready": true}));
    service.server.stop().await;
    let journal = SqliteJournal::open(folder.path().join("data/journal.db"), 1 << 30).unwrap();
    let (_, state) = journal.snapshot().unwrap().unwrap();
    assert!(state.len() < 1 << 20, "{} bytes", state.len());
}

/// What a version without limits has saved: its names are shortened, and their counts are kept.
#[tokio::test]
async fn a_stored_snapshot_with_long_names_is_healed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    let path = folder.path().join("data").join(SqliteJournal::DEFAULT_FILE);
    {
        let mut calls = ModelTotals::default();
        calls.calls = 7;
        let names: BTreeMap<String, ModelTotals> =
            (0..8).map(|number| (format!("{}{number}", "m".repeat(1 << 20)), calls.clone())).collect();
        let mut state = StateWriter::default();
        state.put(&STATE_VERSION);
        state.section("agents", |state| state.section("models", |state| state.put(&names)));
        let journal = SqliteJournal::open(&path, 1 << 30).unwrap();
        journal.put_snapshot(0, &state.finish().unwrap()).unwrap();
    }
    let service = Service::start(config(folder.path())).await;
    let found = models(&service.get("/v1/costs").await);
    assert_eq!(found.len(), 8);
    assert!(found.iter().all(|(name, calls)| name.len() <= 256 && *calls == 7), "{found:?}");
    service.events(&finished("innocent", 1, true)).await;
    service.server.stop().await;
    let journal = SqliteJournal::open(&path, 1 << 30).unwrap();
    assert!(journal.snapshot().unwrap().unwrap().1.len() < 100_000);
    let names: BTreeSet<String> = found.into_keys().collect();
    drop(journal);
    let service = Service::start(config(folder.path())).await;
    assert_eq!(models(&service.get("/v1/costs").await).into_keys().collect::<BTreeSet<_>>(), names);
    tokio::time::timeout(Duration::from_secs(30), service.server.stop()).await.unwrap();
}
