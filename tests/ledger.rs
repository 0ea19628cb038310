//! The ledger stores, and what a guard keeps in them over a restart.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sre_core::{LedgerEntry, LedgerHold, LedgerStore, ManualClock, MemoryLedger, Timestamp, Usd};
use sre_cost::{CostAlertKind, CostGuard, Limits, ScopeLimits, Spend};
use sre_store_sqlite::{SqliteAlertStore, SqliteLedger};

fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

/// Opens each store twice: before and after a restart.
fn ledgers(folder: &Path) -> Vec<[Arc<dyn LedgerStore>; 2]> {
    let memory = Arc::new(MemoryLedger::default());
    let file = || Arc::new(SqliteLedger::open(folder.join("ledger.db")).unwrap());
    vec![[memory.clone(), memory], [file(), file()]]
}

fn limits() -> Limits {
    let on_model = ScopeLimits { per_agent_daily: Some(usd("3")), ..ScopeLimits::default() };
    let daily = ScopeLimits { daily: Some(usd("12")), ..ScopeLimits::default() };
    Limits {
        per_agent_daily: usd("10"),
        per_task: usd("10"),
        org_monthly: usd("30"),
        teams: [("search".to_owned(), daily)].into(),
        models: [("m".to_owned(), on_model)].into(),
        anomaly_detection: false,
        ..Limits::default()
    }
}

fn guard(clock: &Arc<ManualClock>, store: Arc<dyn LedgerStore>) -> CostGuard {
    CostGuard::with_limits(limits()).unwrap().with_clock(clock.clone()).with_store(store).unwrap()
}

#[test]
fn a_restart_keeps_the_day_the_month_and_the_reservations() {
    let folder = tempfile::tempdir().unwrap();
    for [store, again] in ledgers(folder.path()) {
        let clock = Arc::new(ManualClock::new("2026-11-23T12:00:00Z".parse().unwrap()));
        let before = guard(&clock, store);
        let spend = |agent, amount| Spend { agent, team: Some("search"), task: Some("t"), amount, ..Spend::default() };
        let alerts = before.record(&spend("a", usd("5.5"))).unwrap();
        assert_eq!(alerts[0].kind, CostAlertKind::Threshold { threshold: 0.5 });
        before.check_and_charge("b", usd("1")).unwrap();
        before.reserve("b", usd("2")).unwrap().commit(usd("1.5")).unwrap();
        let on_model = |amount| Spend { agent: "d", model: Some("m"), amount, ..Spend::default() };
        before.record(&on_model(usd("1"))).unwrap();
        std::mem::forget(before.reserve_for(&on_model(usd("1"))).unwrap());
        drop(before.reserve("b", usd("2")).unwrap());
        // The process dies between a reservation and its commit.
        std::mem::forget(before.reserve_for(&spend("a", usd("4"))).unwrap());
        drop(before);

        let after = guard(&clock, again);
        let budget = after.get_budget("a");
        assert_eq!((budget.spent_today_usd, budget.reserved_usd, budget.tasks_today), (usd("5.5"), usd("4"), 1));
        assert_eq!(after.get_budget("b").spent_today_usd, usd("2.5"));
        assert_eq!((after.org_spent_month(), after.org_remaining_month()), (usd("9"), usd("16")));
        assert!(after.charge(&on_model(usd("1.1"))).is_err(), "one dollar of three is spent, and one reserved");
        assert!(after.charge(&on_model(usd("0.5"))).is_ok());
        assert!(after.check_and_charge("a", usd("0.6")).is_err(), "reservations are kept");
        assert!(after.charge(&spend("c", usd("2.6"))).is_err(), "the team's budget is kept");
        assert_eq!(after.check_and_charge("a", usd("0.1")).unwrap(), [], "alerts from before are not sent again");
        clock.advance(Duration::from_secs(15 * 60));
        assert_eq!(after.get_budget("a").reserved_usd, Usd::ZERO, "and expires");
        after.reset_daily(Some("a"));
        drop(after);
    }
}

const NOON: &str = "2026-11-23T12:00:00Z";

/// The process that the next test kills: this test binary. It charges, with one reservation open, until it dies.
#[test]
fn child() {
    let Ok(file) = std::env::var("SRE_LEDGER_TEST") else { return };
    let clock = Arc::new(ManualClock::new(NOON.parse().unwrap()));
    let guard = guard(&clock, Arc::new(SqliteLedger::open(file).unwrap()));
    let _reservation = guard.reserve("a", usd("2")).unwrap();
    for number in 0.. {
        let reservation = guard.reserve("a", usd("0.0002")).unwrap();
        reservation.commit(usd("0.0001")).unwrap();
        println!("spent {number}");
    }
}

#[test]
fn a_killed_process_leaves_its_charges_and_reservations_that_expire() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.db");
    let mut charged = 0;
    for kills in 1..=5u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env("SRE_LEDGER_TEST", &file)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        charged += lines.filter(|line| line.starts_with("spent")).take(20 + kills as usize * 7).count();
        child.kill().unwrap();
        child.wait().unwrap();
        let clock = Arc::new(ManualClock::new(NOON.parse().unwrap()));
        let after = guard(&clock, Arc::new(SqliteLedger::open(&file).unwrap()));
        // It may have charged more than it printed before it died.
        let budget = after.get_budget("a");
        let spent = budget.spent_today_usd.nanos() / 100_000;
        assert!(spent >= charged as i64, "printed {charged}, found {spent}");
        charged = usize::try_from(spent).unwrap();
        assert!(budget.reserved_usd >= usd("2"), "{budget:?}");
        clock.advance(Duration::from_secs(16 * 60));
        assert_eq!(after.get_budget("a").reserved_usd, Usd::ZERO);
        // Makes room for the next process.
        let sql = "DELETE FROM holds";
        rusqlite::Connection::open(&file).unwrap().execute(sql, []).unwrap();
    }
}

#[test]
fn days_and_months_are_kept_apart_and_pruned() {
    let folder = tempfile::tempdir().unwrap();
    for [store, again] in ledgers(folder.path()) {
        let day = |day: u64| Timestamp::from_secs(1_790_000_000).saturating_add(Duration::from_secs(day * 86_400));
        let entry = |on: Timestamp, amount: i64| LedgerEntry {
            time: on,
            day: on,
            month: day(0),
            agent: "a".into(),
            shared: vec!["team x".into()],
            model: Some("m".into()),
            task: "t".into(),
            is_new_task: true,
            amount: Usd::from_nanos(amount),
        };
        let hold = LedgerHold {
            number: 7,
            agent: "a".into(),
            shared: vec!["team x".into()],
            model: Some("m".into()),
            amount: usd("1"),
            expires: day(1),
        };
        store.hold(&hold).unwrap();
        store.enter(&entry(day(0), 5), None).unwrap();
        store.enter(&entry(day(1), 6), None).unwrap();
        store.enter(&entry(day(1), -2), None).unwrap();
        let books = again.books(day(1), day(0)).unwrap();
        assert_eq!(books.agents, [("a".to_owned(), Usd::from_nanos(4), 2)]);
        assert_eq!(books.shared, [("team x".to_owned(), Usd::from_nanos(4))]);
        assert_eq!(books.models, [("a".to_owned(), "m".to_owned(), Usd::from_nanos(4))]);
        assert_eq!((books.org.nanos(), books.holds), (9, vec![hold]));
        store.enter(&entry(day(1), 0), Some(7)).unwrap();
        store.reset_day(Some("b"), day(1)).unwrap();
        assert_eq!(again.books(day(1), day(0)).unwrap().agents[0].1.nanos(), 4);
        store.reset_day(None, day(1)).unwrap();
        let books = again.books(day(1), day(0)).unwrap();
        assert_eq!((books.agents, books.models, books.org.nanos(), books.holds), (vec![], vec![], 9, vec![]));
        store.prune(day(1), day(1)).unwrap();
        assert_eq!(again.books(day(0), day(0)).unwrap().agents, []);
        assert_eq!(again.books(day(1), day(0)).unwrap().org, Usd::ZERO);
    }
}

#[test]
fn a_guard_prunes_its_store() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.db");
    let clock = Arc::new(ManualClock::new(NOON.parse().unwrap()));
    let guard = guard(&clock, Arc::new(SqliteLedger::open(&file).unwrap()));
    guard.check_and_charge("a", usd("1")).unwrap();
    for _ in 0..40 {
        clock.advance(Duration::from_secs(86_400));
        guard.check_and_charge("a", usd("0.1")).unwrap();
    }
    let count = |table: &str| {
        let sql = format!("SELECT count(*) FROM {table}");
        rusqlite::Connection::open(&file).unwrap().query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    // Thirty-five days of amounts, and the days of this month.
    assert_eq!((count("amounts"), count("months")), (36, 1));
    assert!(count("agent_days") <= 31);
}

#[test]
fn a_file_of_another_kind_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.db");
    drop(SqliteAlertStore::open(&path).unwrap());
    let error = SqliteLedger::open(&path).unwrap_err().to_string();
    assert!(error.ends_with("is a SQLite file for something else: name another file"), "{error}");
}
