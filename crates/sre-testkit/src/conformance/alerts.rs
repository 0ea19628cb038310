use std::sync::Arc;
use std::time::Duration;

use sre_core::{
    Alert, AlertId, AlertQuery, AlertStore, DeliveryRecord, DeliveryState, NewAlert, Retention, Severity, Timestamp,
};

/// Opens one more handle of the store under test.
type Open<'a> = &'a (dyn Fn() -> Arc<dyn AlertStore> + Sync);

/// Tests an alert store. `open` returns handles of one store that may be used at the same time; a case ends with every alert deleted:
///
/// - alerts are found by each filter, newest first, with the results of their deliveries;
/// - released deliveries are adopted once, oldest first, and those of another owner are not while its lease holds;
/// - an incident is open until it is resolved, and an acknowledgement holds until its severity rises;
/// - silences are kept until they are deleted;
/// - what is older than the retention is deleted, except for open incidents and unfinished deliveries;
/// - handles may write at the same time.
///
/// # Panics
/// Panics if the store does not conform.
pub fn alert_store(open: Open<'_>) {
    for case in [filters, results, adoption, incidents, silences, retention, concurrent_writers] {
        case(open);
        clear(&*handle(open));
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(1_790_000_000 + seconds)
}

/// Opens a handle, whose lease holds.
fn handle(open: Open<'_>) -> Arc<dyn AlertStore> {
    let store = open();
    store.renew_lease(at(0)).expect("the store works");
    store
}

/// Resolves every incident, ends every delivery, and deletes everything.
fn clear(store: &dyn AlertStore) {
    for incident in store.open_incidents().expect("the store works") {
        let resolved = Alert { severity: Severity::Resolved, ..incident.alert };
        store.append(&[NewAlert::new(Arc::new(resolved), at(100))]).expect("the store works");
    }
    let nothing = Retention { age: Duration::ZERO, size: u64::MAX };
    // The first call gives up unfinished deliveries, the second deletes their alerts.
    for _ in 0..2 {
        store.prune(&nothing, at(1_000_000)).expect("the store works");
    }
    assert_eq!(store.count().expect("the store works"), 0, "nothing is left");
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

fn filters(open: Open<'_>) {
    let store = handle(open);
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

fn results(open: Open<'_>) {
    let store = handle(open);
    let ids = store.append(&[new(alert("a", Severity::Warning, "x"), &["slack"], at(0))]).unwrap();
    let mut failed = result(ids[0], "slack", DeliveryState::Failed);
    (failed.error, failed.status) = (Some("answered 400: no".into()), Some(400));
    let escalated = result(ids[0], "boss", DeliveryState::Delivered);
    // The result of an alert that is not in the store is ignored.
    store
        .record(&[failed.clone(), escalated.clone(), result(AlertId(u64::MAX >> 1), "slack", DeliveryState::Failed)])
        .unwrap();
    let record = store.query(&AlertQuery::default()).unwrap().remove(0);
    assert_eq!(record.deliveries, [escalated, failed]);
}

fn incidents(open: Open<'_>) {
    let store = handle(open);
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
    let found = store.open_incidents().unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((&*found[0].alert.dedup_key, found[0].alert.severity), ("old", Severity::Warning));
    let channels: Vec<&str> = found[0].deliveries.iter().map(|delivery| &*delivery.channel).collect();
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

fn retention(open: Open<'_>) {
    let store = handle(open);
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
    let found = store.open_incidents().unwrap();
    assert_eq!(found.iter().map(|record| &*record.alert.dedup_key).collect::<Vec<_>>(), ["open"]);
    store
        .record(&[
            result(ids[1], "slack", DeliveryState::Delivered),
            result(ids[2], "slack", DeliveryState::Failed),
            result(ids[5], "slack", DeliveryState::Delivered),
        ])
        .unwrap();
    let day = Retention { age: Duration::from_secs(86_400), size: u64::MAX };
    assert_eq!(store.prune(&day, at(60)).unwrap(), 0);
    assert_eq!(store.prune(&day, at(100_000)).unwrap(), 3, "both of `closed`, and `once`");
    let left = store.query(&AlertQuery::default()).unwrap();
    let keys: Vec<&str> = left.iter().map(|record| &*record.alert.dedup_key).collect();
    assert_eq!(keys, ["waiting", "waiting", "open"], "an incident is not open again without its resolution");
    let delivery = &left[1].deliveries[0];
    assert_eq!(
        (delivery.state, delivery.error.as_deref()),
        (DeliveryState::Failed, Some("not delivered within the retention time"))
    );
}

fn concurrent_writers(open: Open<'_>) {
    std::thread::scope(|scope| {
        for writer in 0..4 {
            scope.spawn(move || {
                let store = handle(open);
                for number in 0..50 {
                    let key = format!("{writer}/{number}");
                    store.append(&[new(alert(&key, Severity::Info, "x"), &["slack"], at(number))]).unwrap();
                }
            });
        }
    });
    assert_eq!(handle(open).count().unwrap(), 200);
    assert_eq!(handle(open).adopt("slack", 1_000, at(10_000)).unwrap().len(), 200);
}

fn adoption(open: Open<'_>) {
    let (mine, other) = (handle(open), handle(open));
    let batch = [0, 1, 2].map(|number| new(alert(&number.to_string(), Severity::Warning, "x"), &["slack"], at(number)));
    let ids = mine.append(&batch).unwrap();
    assert!(other.adopt("slack", 10, at(1)).unwrap().is_empty(), "its owner holds its lease");
    let released: Vec<_> = ids.iter().rev().map(|id| result(*id, "slack", DeliveryState::Released)).collect();
    mine.record(&released).unwrap();
    let adopt = |channel: &str, limit| -> Vec<AlertId> {
        let adopted = other.adopt(channel, limit, at(1)).unwrap();
        assert!(adopted.iter().all(|record| record.deliveries.is_empty()));
        adopted.into_iter().map(|record| record.id).collect()
    };
    assert_eq!((adopt("pager", 10), adopt("slack", 0)), (vec![], vec![]));
    assert_eq!(
        (adopt("slack", 2), adopt("slack", 2), adopt("slack", 2)),
        (ids[..2].to_vec(), ids[2..].to_vec(), vec![])
    );
}

fn silences(open: Open<'_>) {
    let (store, again) = (handle(open), handle(open));
    store.save_silence(7, Some("until noon")).unwrap();
    store.save_silence(3, Some("for ann")).unwrap();
    store.save_silence(7, Some("until one")).unwrap();
    assert_eq!(again.silences().unwrap(), [(3, "for ann".to_owned()), (7, "until one".to_owned())]);
    [3, 7, 9].into_iter().for_each(|id| again.save_silence(id, None).unwrap());
    assert_eq!(store.silences().unwrap(), []);
}
