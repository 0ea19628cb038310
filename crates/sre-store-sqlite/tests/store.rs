//! The store against the contract of its trait, on real files.

use std::path::Path;
use std::sync::Arc;

use sre_core::{
    Alert, AlertId, AlertQuery, AlertStore, DeliveryRecord, DeliveryState, NewAlert, Retention, Severity, StoreError,
    Timestamp,
};
use sre_store_sqlite::SqliteAlertStore;

fn open(folder: &Path) -> SqliteAlertStore {
    SqliteAlertStore::open(folder.join("alerts.db")).unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(1_790_000_000 + seconds)
}

fn alert(key: &str, severity: Severity, agent: &str) -> Alert {
    Alert {
        severity,
        dedup_key: key.into(),
        agent_id: agent.into(),
        slo_name: "answers".into(),
        ..Alert::new(format!("{key} is {severity}"), "ünïcode \u{1F525} and \"quotes\"")
    }
}

fn new(alert: Alert, channels: &[&str], at: Timestamp) -> NewAlert {
    let mut new = NewAlert::new(Arc::new(alert), at);
    new.deliveries = channels.iter().map(|name| ((*name).into(), DeliveryState::Pending)).collect();
    new
}

fn result(alert: AlertId, channel: &str, state: DeliveryState) -> DeliveryRecord {
    let mut record = DeliveryRecord::new(alert, channel, state, at(9));
    (record.attempts, record.status) = (2, Some(200));
    record
}

#[test]
fn only_released_deliveries_and_those_of_ended_leases_are_adopted() {
    let folder = tempfile::tempdir().unwrap();
    let (mine, other) = (open(folder.path()), open(folder.path()));
    let ids = mine
        .append(&[
            new(alert("a", Severity::Warning, "x"), &["slack"], at(0)),
            new(alert("b", Severity::Warning, "x"), &["pd"], at(1)),
        ])
        .unwrap();
    assert!(other.adopt("slack", 10, at(9)).unwrap().is_empty(), "its owner holds its lease");
    mine.record(&[result(ids[1], "pd", DeliveryState::Released)]).unwrap();
    assert_eq!(other.adopt("pd", 10, at(9)).unwrap().len(), 1, "released by its owner");
    assert!(other.adopt("pd", 10, at(9)).unwrap().is_empty(), "adopted once");
    drop(mine);
    assert!(other.adopt("slack", 0, at(9)).unwrap().is_empty());
    let adopted = other.adopt("slack", 10, at(9)).unwrap();
    assert_eq!((adopted[0].id, adopted[0].at, &*adopted[0].alert.dedup_key), (ids[0], at(0), "a"));
    other.record(&[result(ids[0], "slack", DeliveryState::Delivered)]).unwrap();
    drop(other);
    assert!(open(folder.path()).adopt("slack", 10, at(9)).unwrap().is_empty(), "delivered");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("owner")), "{left:?}");
}

#[test]
fn retention_by_size_deletes_the_oldest_and_shrinks_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let pairs = (0..2_000).flat_map(|number| {
        let key = number.to_string();
        [
            new(alert(&key, Severity::Warning, "x"), &[], at(number)),
            new(alert(&key, Severity::Resolved, "x"), &[], at(number)),
        ]
    });
    store.append(&pairs.collect::<Vec<_>>()).unwrap();
    let size = 256 * 1024;
    let deleted = store.prune(&Retention { size, ..Retention::default() }, at(2_000)).unwrap();
    let left = store.query(&AlertQuery::default()).unwrap();
    assert_eq!(left.len() as u64 + deleted, 4_000);
    assert!(left.len() > 100 && left[0].at == at(1_999), "the newest stay: {}", left.len());
    drop(store);
    let bytes = std::fs::metadata(folder.path().join("alerts.db")).unwrap().len();
    assert!(bytes <= size + 64 * 1024, "{bytes}");
}

#[test]
fn an_unusable_file_is_an_error_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let error = |name: &str| SqliteAlertStore::open(folder.path().join(name)).unwrap_err().to_string();
    std::fs::write(folder.path().join("text.db"), "not a database at all, but longer than a header".repeat(20))
        .unwrap();
    assert!(error("text.db").contains("text.db: damaged or in another format"), "{}", error("text.db"));
    assert!(error("text.db").contains("move it away"));
    assert!(
        error("no/such/folder.db").contains("unavailable: unable to open database file"),
        "{}",
        error("no/such/folder.db")
    );

    let newer = folder.path().join("newer.db");
    drop(SqliteAlertStore::open(&newer).unwrap());
    rusqlite::Connection::open(&newer).unwrap().pragma_update(None, "user_version", 7).unwrap();
    assert!(error("newer.db").contains("has schema version 7, expected at most 3"));

    // A page in the middle that is overwritten.
    let damaged = folder.path().join("damaged.db");
    let store = SqliteAlertStore::open(&damaged).unwrap();
    let many: Vec<_> = (0..500).map(|n| new(alert(&n.to_string(), Severity::Warning, "x"), &["a"], at(n))).collect();
    store.append(&many).unwrap();
    drop(store);
    let mut bytes = std::fs::read(&damaged).unwrap();
    bytes[8_192..24_576].fill(0xAB);
    std::fs::write(&damaged, bytes).unwrap();
    assert!(matches!(SqliteAlertStore::open(&damaged), Err(StoreError::Corrupt { .. })), "{}", error("damaged.db"));
}

#[test]
fn it_conforms() {
    let folder = tempfile::tempdir().unwrap();
    sre_testkit::conformance::alert_store(&|| Arc::new(open(folder.path())));
}

#[test]
fn a_batch_is_written_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let rows = rusqlite::Connection::open(folder.path().join("alerts.db")).unwrap();
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON alerts WHEN NEW.dedup_key = '3'
                  BEGIN SELECT RAISE(ABORT, 'refused'); END";
    rows.execute_batch(refuse).unwrap();
    let batch: Vec<_> = (0..5).map(|n| new(alert(&n.to_string(), Severity::Warning, "x"), &["slack"], at(n))).collect();
    let error = store.append(&batch).unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
    assert_eq!(store.count().unwrap(), 0, "the three before it are not kept either");
    rows.execute_batch("DROP TRIGGER refuse").unwrap();
    assert_eq!((store.append(&batch).unwrap().len(), store.count().unwrap()), (5, 5));
    // Results are recorded in the same way.
    rows.execute_batch(
        "CREATE TRIGGER refuse BEFORE UPDATE ON deliveries WHEN NEW.alert = 4 BEGIN SELECT RAISE(ABORT, 'refused'); END",
    )
    .unwrap();
    let ids: Vec<AlertId> = store.query(&AlertQuery::default()).unwrap().iter().map(|record| record.id).collect();
    let results: Vec<_> = ids.iter().map(|id| result(*id, "slack", DeliveryState::Delivered)).collect();
    assert!(store.record(&results).is_err());
    let left = store.query(&AlertQuery::default()).unwrap();
    assert!(left.iter().all(|record| record.deliveries[0].state == DeliveryState::Pending), "{left:?}");
}
