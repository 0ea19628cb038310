//! Faults of the disk, and kills.

use std::fs;
use std::time::{Duration, Instant};

use http::StatusCode;
use rusqlite::Connection;

use crate::attacked::{Attacked, MIB};
use crate::bodies::gzip;
use crate::normal_client::{NormalClient, finished, now};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_data_folder_loses_nothing_that_was_acknowledged() {
    let mut service = Attacked::start("").await;
    let client = NormalClient::start_beside(&service).await;
    let data = service.folder().join("data");
    // At once, since the service creates files in a folder that still exists.
    let deleted = service.folder().join("deleted");
    fs::rename(&data, &deleted).unwrap();
    fs::remove_dir_all(deleted).unwrap();
    while !data.join("journal.db").exists() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    service.until_ready().await;
    let refused = client.finishes_with_refusals(&mut service, &[StatusCode::SERVICE_UNAVAILABLE]).await;
    assert!(refused > 0, "requests that could not be stored were refused");
    let counted = service.counted;
    service.restart();
    service.until_ready().await;
    service.until_tasks("normal", counted, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_changes_no_count() {
    let mut service = Attacked::start("task_timeout: 1s\n").await;
    let client = NormalClient::start_beside(&service).await;
    let old = now() - 3.0 * 3_600.0;
    let of_tasks = |kind: &str| {
        let success = if kind == "task_finished" { ",\"success\":true" } else { "" };
        let line = |task| {
            format!("{{\"event\":\"{kind}\",\"time\":{old:.3},\"agent\":\"late\",\"task\":\"{task}\"{success}}}\n")
        };
        (0..10).map(line).collect::<String>()
    };
    assert_eq!(service.post("/v1/events/sre", "", of_tasks("task_started")).await, StatusCode::OK);
    service.until_tasks("late", 10, 10).await;
    // They have timed out already.
    assert_eq!(service.post("/v1/events/sre", "", of_tasks("task_finished")).await, StatusCode::OK);
    client.finishes_within_bounds(&mut service).await;
    for _ in 0..3 {
        service.restart();
        service.until_ready().await;
        service.until_tasks("late", 10, 10).await;
        service.until_tasks("normal", service.counted, 0).await;
        let client = NormalClient::start_beside(&service).await;
        client.finishes_within_bounds(&mut service).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_at_the_start_and_later_is_waited_for() {
    let mut service = Attacked::start("").await;
    let client = NormalClient::start_beside(&service).await;
    client.finishes_within_bounds(&mut service).await;
    service.restart_on_full_disk().await;
    // It answers, and does not end.
    for _ in 0..3 {
        assert_eq!(service.get("/readyz").await.expect("an answer").0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(service.post("/v1/events/sre", "", "").await, StatusCode::SERVICE_UNAVAILABLE);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    service.fill_disk(false);
    service.until_ready().await;
    service.until_tasks("normal", service.counted, 0).await;
    let client = NormalClient::start_beside(&service).await;
    service.fill_disk(true);
    tokio::time::sleep(Duration::from_secs(1)).await;
    service.fill_disk(false);
    service.until_ready().await;
    let refused = client.finishes_with_refusals(&mut service, &[StatusCode::SERVICE_UNAVAILABLE]).await;
    assert!(refused > 0, "nothing was refused while the disk was full");
    service.restart();
    service.until_ready().await;
    service.until_tasks("normal", service.counted, 0).await;
}

/// Long names fill the journal, whose file stays within its bound. It is free again a moment later, and nothing that was acknowledged is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_journal_is_freed_by_a_snapshot_and_its_file_is_bounded() {
    const MAX_JOURNAL: usize = 40 * MIB;
    let mut service = Attacked::start(&format!("max_journal: {MAX_JOURNAL}\n")).await;
    let client = NormalClient::start_beside(&service).await.with_max_delay(Duration::from_secs(1));
    let (mut accepted, mut refused) = (0, 0);
    let start = format!(r#"{{"event":"llm_call","time":{:.3},"agent":"attacker","success":true,"model":""#, now());
    let start = gzip((start + &"m".repeat(15 * MIB)).as_bytes());
    for number in 0..12 {
        let body = [start.clone(), gzip(format!("{number}\"}}").as_bytes())].concat();
        match service.post("/v1/events/sre", "", body).await {
            StatusCode::OK => accepted += 1,
            StatusCode::SERVICE_UNAVAILABLE => {
                refused += 1;
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            other => panic!("{other}"),
        }
        let size = fs::metadata(service.folder().join("data/journal.db")).unwrap().len();
        assert!(size <= MAX_JOURNAL as u64, "{size}");
    }
    assert!(accepted > 2 && refused > 0, "{accepted} accepted, {refused} refused");
    let begun = Instant::now();
    while service.post("/v1/events/sre", "", finished("other")).await != StatusCode::OK {
        assert!(begun.elapsed() < Duration::from_secs(30), "the journal stays full");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    client.finishes_with_refusals(&mut service, &[StatusCode::SERVICE_UNAVAILABLE]).await;
    let counted = service.counted;
    service.restart();
    service.until_ready().await;
    service.until_tasks("normal", counted, 0).await;
    assert_eq!(service.agent("attacker").await["llm_calls"], accepted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_entries_are_counted_and_the_others_count() {
    let mut service = Attacked::start("").await;
    // After the first snapshot, the next one is a minute away.
    while service.metric("sre_server_journal_entries_total ").await < 1.0
        || service.metric("sre_server_journal_unsaved_entries ").await > 0.0
    {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let client = NormalClient::start_beside(&service).await;
    for number in 0..3 {
        assert_eq!(service.post("/v1/events/sre", "", finished(&format!("other-{number}"))).await, StatusCode::OK);
    }
    client.finishes_within_bounds(&mut service).await;
    service.kill();
    let path = service.folder().join("data/journal.db");
    let journal = Connection::open(&path).unwrap();
    journal.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(journal);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(7).position(|found| found == b"other-1").expect("an entry");
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    service.start_again();
    service.until_ready().await;
    assert_eq!(service.metric("sre_server_journal_damaged_total ").await, 1.0);
    let kept = fs::read_dir(service.folder().join("data")).unwrap().map(|file| file.unwrap().file_name());
    assert!(kept.into_iter().any(|name| name.to_string_lossy().starts_with("journal.damaged-entry-")));
    let tasks = [service.agent("other-0").await, service.agent("other-1").await, service.agent("other-2").await];
    assert_eq!(tasks.map(|agent| agent["tasks"].as_u64()), [Some(1), None, Some(1)]);
    service.until_tasks("normal", service.counted, 0).await;
    let client = NormalClient::start_beside(&service).await;
    client.finishes_within_bounds(&mut service).await;
}
