//! The store against the contract of its trait, on real files.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

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
fn every_filter_finds_the_matching_alerts() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let alerts = [
        new(alert("a", Severity::Warning, "support"), &["slack"], at(0)),
        new(alert("b", Severity::Critical, "planner"), &["slack", "pd"], at(10)),
        new(alert("a", Severity::Critical, "support"), &[], at(20)),
    ];
    let ids = store.append(&alerts).unwrap();
    assert!(ids.is_sorted() && ids.len() == 3);
    assert_eq!(store.count().unwrap(), 3);
    let find = |query: AlertQuery| -> Vec<AlertId> {
        store.query(&query).unwrap().into_iter().map(|record| record.id).collect()
    };
    let all = AlertQuery::default();
    assert_eq!(find(all.clone()), [ids[2], ids[1], ids[0]], "newest first");
    assert_eq!(find(AlertQuery { limit: Some(1), ..all.clone() }), [ids[2]]);
    assert_eq!(find(AlertQuery { agent_id: Some("support".into()), ..all.clone() }), [ids[2], ids[0]]);
    assert_eq!(find(AlertQuery { severity: Some(Severity::Critical), ..all.clone() }), [ids[2], ids[1]]);
    assert_eq!(find(AlertQuery { slo_name: Some("other".into()), ..all.clone() }), []);
    let key = store.query(&all).unwrap()[0].alert.key().into_owned();
    assert_eq!(find(AlertQuery { dedup_key: Some(key), limit: Some(1), ..all.clone() }), [ids[2]]);
    assert_eq!(find(AlertQuery { dedup_key: Some("unknown".into()), ..all.clone() }), []);
    assert_eq!(find(AlertQuery { since: Some(at(10)), until: Some(at(20)), ..all.clone() }), [ids[1]]);
    let record = &store.query(&AlertQuery { agent_id: Some("planner".into()), ..all }).unwrap()[0];
    assert_eq!((&record.alert, record.at), (&*alerts[1].alert, at(10)));
    assert_eq!(record.deliveries.len(), 2);
}

#[test]
fn delivery_results_are_kept_with_their_alert() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let ids = store.append(&[new(alert("a", Severity::Warning, "x"), &["slack"], at(0))]).unwrap();
    let mut failed = result(ids[0], "slack", DeliveryState::Failed);
    (failed.error, failed.status) = (Some("answered 400: no".into()), Some(400));
    let escalated = result(ids[0], "boss", DeliveryState::Delivered);
    // The result of an alert that is not in the store is ignored.
    store.record(&[failed.clone(), escalated.clone(), result(AlertId(99), "slack", DeliveryState::Failed)]).unwrap();
    let record = store.query(&AlertQuery::default()).unwrap().remove(0);
    assert_eq!(record.deliveries, [escalated, failed]);
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
fn an_incident_is_open_until_resolved_and_keeps_the_deliveries_of_all_its_alerts() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store
        .append(&[
            new(alert("old", Severity::Critical, "x"), &["pd"], at(0)),
            new(alert("old", Severity::Resolved, "x"), &["pd"], at(1)),
            new(alert("old", Severity::Critical, "x"), &["pd", "slack"], at(2)),
            new(alert("old", Severity::Warning, "x"), &["slack"], at(3)),
            new(alert("closed", Severity::Warning, "x"), &["slack"], at(4)),
            new(alert("closed", Severity::Resolved, "x"), &["slack"], at(5)),
        ])
        .unwrap();
    let open = store.open_incidents().unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!((&*open[0].alert.dedup_key, open[0].alert.severity), ("old", Severity::Warning));
    let channels: Vec<&str> = open[0].deliveries.iter().map(|delivery| &*delivery.channel).collect();
    assert_eq!(channels, ["pd", "slack"]);
    // An acknowledgement holds until the severity rises.
    assert!(!store.acknowledge("closed", "ann", at(6)).unwrap());
    assert!(store.acknowledge("old", "ann", at(6)).unwrap());
    assert_eq!(store.acknowledgement("old").unwrap().unwrap().by, "ann");
    assert_eq!(store.open_incidents().unwrap()[0].acknowledged.as_ref().unwrap().at, at(6));
    store.append(&[new(alert("old", Severity::Warning, "x"), &[], at(7))]).unwrap();
    assert!(store.acknowledgement("old").unwrap().is_some());
    store.append(&[new(alert("old", Severity::Critical, "x"), &[], at(8))]).unwrap();
    assert_eq!(store.acknowledgement("old").unwrap(), None);
}

#[test]
fn retention_keeps_open_incidents_and_unfinished_deliveries() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let ids = store
        .append(&[
            new(alert("open", Severity::Warning, "x"), &[], at(0)),
            new(alert("closed", Severity::Warning, "x"), &["slack"], at(0)),
            new(alert("closed", Severity::Resolved, "x"), &["slack"], at(1)),
            new(alert("waiting", Severity::Warning, "x"), &["slack"], at(1)),
            new(alert("waiting", Severity::Resolved, "x"), &[], at(2)),
            new(Alert { one_off: true, ..alert("once", Severity::Warning, "x") }, &["slack"], at(2)),
        ])
        .unwrap();
    let open = store.open_incidents().unwrap();
    assert_eq!(open.iter().map(|record| &*record.alert.dedup_key).collect::<Vec<_>>(), ["open"]);
    store
        .record(&[
            result(ids[1], "slack", DeliveryState::Delivered),
            result(ids[2], "slack", DeliveryState::Failed),
            result(ids[5], "slack", DeliveryState::Delivered),
        ])
        .unwrap();
    let day = Retention { age: Duration::from_secs(86_400), size: u64::MAX };
    assert_eq!(store.prune(&day, at(60)).unwrap(), 0);
    assert_eq!(store.prune(&day, at(100_000)).unwrap(), 4, "both of `closed`, the resolution of `waiting`, and `once`");
    let left = store.query(&AlertQuery::default()).unwrap();
    assert_eq!(left.iter().map(|record| &*record.alert.dedup_key).collect::<Vec<_>>(), ["waiting", "open"]);
    let delivery = &left[0].deliveries[0];
    assert_eq!(
        (delivery.state, delivery.error.as_deref()),
        (DeliveryState::Failed, Some("not delivered within the retention time"))
    );
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
fn several_handles_write_concurrently() {
    let folder = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let store = open(folder.path());
            scope.spawn(move || {
                for number in 0..50 {
                    let key = format!("{writer}/{number}");
                    store.append(&[new(alert(&key, Severity::Info, "x"), &["slack"], at(number))]).unwrap();
                }
            });
        }
    });
    assert_eq!(open(folder.path()).count().unwrap(), 200);
    assert_eq!(open(folder.path()).adopt("slack", 1_000, at(9)).unwrap().len(), 200);
}
