//! A data folder that is damaged, or deleted while the service runs.

mod common;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use agent_sre::sqlite::SqliteJournal;
use agent_sre::{Clock, JournalEntry, JournalStore, SystemClock};
use common::{Service, config, finished};
use http::StatusCode;
use serde_json::{Value, json};

/// Writes a journal into a data folder: a snapshot of `covered` entries, and these after it.
fn store(data: &Path, covered: usize, formats: &[&str]) {
    fs::create_dir_all(data).unwrap();
    let journal = SqliteJournal::open(data.join(SqliteJournal::DEFAULT_FILE), 1 << 30).unwrap();
    for (number, format) in formats.iter().enumerate() {
        let line = finished(&format!("agent-{number}"), number, true);
        let last = journal.append(&[JournalEntry::new(SystemClock.now(), format, None, line.as_bytes())]).unwrap();
        if number + 1 == covered {
            journal.put_snapshot(last, b"a state that no version wrote").unwrap();
        }
    }
}

fn copy_as_after_a_kill(data: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for name in ["journal.db", "journal.db-wal"] {
        fs::copy(data.join(name), to.join(name)).unwrap();
    }
}

fn damage(path: &Path, text: &str, with: &str) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.windows(text.len()).position(|found| found == text.as_bytes()).unwrap();
    bytes[at..][..with.len()].copy_from_slice(with.as_bytes());
    fs::write(path, bytes).unwrap();
}

async fn damaged_parts(service: &Service) -> String {
    let metrics = service.get_raw("/metrics").await;
    let text = String::from_utf8_lossy(metrics.body()).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("sre_server_journal_damaged_total "));
    line.unwrap().to_owned()
}

#[tokio::test]
async fn entries_that_cannot_be_read_are_counted_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    store(&data, 0, &["sre", "sre", "fax", "sre"]);
    damage(&data.join(SqliteJournal::DEFAULT_FILE), "agent-1", "agent-9");
    let service = Service::start(config(folder.path())).await;
    let agents = service.get("/v1/agents").await;
    let names: Vec<&Value> = agents["agents"].as_array().unwrap().iter().map(|agent| &agent["agent"]).collect();
    assert_eq!(names, [&json!("agent-0"), &json!("agent-3")]);
    assert_eq!(damaged_parts(&service).await, "2");
    let warning = "parts of the journal could not be read at the start (the log names them)";
    assert_eq!(service.get("/readyz").await, json!({"ready": true, "warnings": [warning]}));
    for (number, text) in [(2, "agent-9"), (3, "fax")] {
        let kept = fs::read_to_string(data.join(format!("journal.damaged-entry-{number}"))).unwrap();
        assert!(kept.contains(text), "{kept}");
    }
    service.server.stop().await;
}

#[tokio::test]
async fn a_damaged_snapshot_is_kept_and_what_came_after_it_counts() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    store(&data, 2, &["sre"; 5]);
    damage(&data.join(SqliteJournal::DEFAULT_FILE), "a state that", "A state that");
    let service = Service::start(config(folder.path())).await;
    assert_eq!(service.totals().await["tasks"], 3);
    assert_eq!(damaged_parts(&service).await, "1");
    assert!(data.join("journal.damaged-snapshot-2").exists());
    service.events(&finished("a", 9, true)).await;
    service.server.stop().await;
    let service = Service::start(config(folder.path())).await;
    assert_eq!((service.totals().await["tasks"].clone(), damaged_parts(&service).await), (json!(4), "0".to_owned()));
    service.server.stop().await;
}

#[tokio::test]
async fn damage_is_counted_also_where_it_cannot_be_kept() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    store(&data, 1, &["sre", "sre", "fax", "sre"]);
    damage(&data.join(SqliteJournal::DEFAULT_FILE), "a state that", "A state that");
    damage(&data.join(SqliteJournal::DEFAULT_FILE), "agent-1", "agent-9");
    // No file can be written in the place of a folder.
    for name in ["snapshot-1", "entry-2", "entry-3"] {
        fs::create_dir(data.join(format!("journal.damaged-{name}"))).unwrap();
    }
    let service = Service::start(config(folder.path())).await;
    assert_eq!((service.totals().await["tasks"].clone(), damaged_parts(&service).await), (json!(1), "3".to_owned()));
    let warning = "parts of the journal could not be read at the start (the log names them)";
    assert_eq!(service.get("/readyz").await["warnings"], json!([warning]));
    service.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_behind_a_damaged_place_of_the_write_ahead_log_are_missed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let service = Service::start(config(folder.path())).await;
    for number in 0..3 {
        service.events(&finished(&format!("agent-{number}"), number, true)).await;
    }
    let copied = tempfile::tempdir().unwrap();
    let copy = copied.path().join("data");
    copy_as_after_a_kill(&data, &copy);
    service.server.stop().await;
    damage(&copy.join("journal.db-wal"), "agent-1", "agent-9");
    let service = Service::start(config(copied.path())).await;
    let damaged: u64 = damaged_parts(&service).await.parse().unwrap();
    // And perhaps entries of the time.
    assert!(damaged >= 2, "{damaged}");
    assert_eq!(service.totals().await["tasks"], 1);
    let warning = "parts of the journal could not be read at the start (the log names them)";
    assert_eq!(service.get("/readyz").await["warnings"], json!([warning]));
    let names = fs::read_dir(copy).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.starts_with("journal.damaged-wal-")).count(), 1);
    service.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_data_folder_is_recreated() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let service = Service::start(config(folder.path())).await;
    service.events(&finished("a", 1, true)).await;
    fs::remove_dir_all(&data).unwrap();
    // Keeps the service from creating the folder.
    fs::write(&data, "").unwrap();
    let refused = service.post("/v1/events/sre", "text/plain", finished("a", 2, true)).await;
    let answer: Value = serde_json::from_slice(refused.body()).unwrap();
    assert_eq!(
        (refused.status(), &refused.headers()["retry-after"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"5".parse().unwrap())
    );
    assert_eq!(answer["error"], "journal write failed (deleted while in use); retry later");
    let ready = service.get_raw("/readyz").await;
    let answer: Value = serde_json::from_slice(ready.body()).unwrap();
    assert_eq!((ready.status(), &answer["ready"]), (StatusCode::SERVICE_UNAVAILABLE, &json!(false)));
    assert!(answer["reasons"][0].as_str().unwrap().contains("deleted while in use"), "{answer}");

    fs::remove_file(&data).unwrap();
    let begun = Instant::now();
    while service.get_raw("/readyz").await.status() != StatusCode::OK {
        assert!(begun.elapsed() < Duration::from_secs(30), "the journal is not recreated");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    service.events(&finished("a", 3, true)).await;
    assert_eq!(service.totals().await["tasks"], 2, "what was refused does not count");
    // The stores beside the journal are opened again.
    while !["alerts.db", "spool.db"].iter().all(|name| data.join(name).exists()) {
        assert!(begun.elapsed() < Duration::from_secs(60), "the store of alerts is still missing");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(service.get("/v1/alerts").await, json!({"alerts": []}));
    let copied = tempfile::tempdir().unwrap();
    copy_as_after_a_kill(&data, &copied.path().join("data"));
    let second = Service::start(config(copied.path())).await;
    assert_eq!(second.totals().await["tasks"], 2);
    second.server.stop().await;
    service.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_folder_that_is_deleted_while_idle_is_recreated() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let service = Service::start(config(folder.path())).await;
    service.events(&finished("a", 1, true)).await;
    fs::remove_dir_all(&data).unwrap();
    let begun = Instant::now();
    while !data.join("alerts.db").exists() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the folder is still missing");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    service.server.stop().await;
    let service = Service::start(config(folder.path())).await;
    assert_eq!(service.totals().await["tasks"], 1);
    service.server.stop().await;
}
