//! The ledger stores, and what a guard keeps in them over a restart.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use pollster::block_on;
use sre_core::{CostScope, LedgerStore, ManualClock, MemoryLedger, Usd};
use sre_cost::{CostAlertKind, CostGuard, Denied, Limits, ScopeLimits, Spend};
use sre_store_sqlite::{SqliteAlertStore, SqliteLedger};
use sre_testkit::conformance;

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
        let budget = after.budget("a");
        assert_eq!((budget.spent_today_usd, budget.reserved_usd, budget.tasks_today), (usd("5.5"), usd("4"), 1));
        assert_eq!(after.budget("b").spent_today_usd, usd("2.5"));
        assert_eq!((after.org_spent_month(), after.org_remaining_month()), (usd("9"), usd("16")));
        assert!(after.charge(&on_model(usd("1.1"))).is_err(), "one dollar of three is spent, and one reserved");
        assert!(after.charge(&on_model(usd("0.5"))).is_ok());
        assert!(after.check_and_charge("a", usd("0.6")).is_err(), "reservations are kept");
        assert!(after.charge(&spend("c", usd("2.6"))).is_err(), "the team's budget is kept");
        assert_eq!(after.check_and_charge("a", usd("0.1")).unwrap(), [], "alerts from before are not sent again");
        clock.advance(Duration::from_secs(15 * 60));
        assert_eq!(after.budget("a").reserved_usd, Usd::ZERO, "and expires");
        after.reset_daily(Some("a"));
        drop(after);
    }
}

#[test]
fn a_clock_set_after_the_store_keeps_the_store() {
    let store: Arc<dyn LedgerStore> = Arc::new(MemoryLedger::default());
    let clock = Arc::new(ManualClock::new(NOON.parse().unwrap()));
    guard(&clock, store.clone()).check_and_charge("a", usd("3")).unwrap();
    let guard = CostGuard::with_limits(limits()).unwrap().with_store(store).unwrap().with_clock(clock);
    assert_eq!(guard.budget("a").spent_today_usd, usd("3"));
    assert_eq!(guard.failures(), (0, 0));
}

#[test]
fn every_store_conforms() {
    let folder = tempfile::tempdir().unwrap();
    for [store, again] in ledgers(folder.path()) {
        let handles = std::sync::atomic::AtomicUsize::default();
        let open = || {
            let is_even = handles.fetch_add(1, std::sync::atomic::Ordering::Relaxed).is_multiple_of(2);
            if is_even { store.clone() } else { again.clone() }
        };
        conformance::ledger_store(&open);
    }
}

/// Guards that share a store have only their own charges since they started, but their reservations fit together.
#[test]
fn a_store_denies_what_exceeds_a_limit_together_with_another_guard() {
    let folder = tempfile::tempdir().unwrap();
    for stores in ledgers(folder.path()) {
        let clock = Arc::new(ManualClock::new(NOON.parse().unwrap()));
        let [one, other] = stores.map(|store| guard(&clock, store));
        one.check_and_charge("a", usd("3")).unwrap();
        let reservation = one.reserve("a", usd("4")).unwrap();
        let denied = other.reserve("a", usd("3.5")).unwrap_err();
        let (scope, left, limit, amount) = (CostScope::Agent("a".into()), usd("3"), usd("10"), usd("3.5"));
        assert_eq!(denied, Denied::Budget { scope, left, limit, amount });
        assert_eq!(other.budget("a").reserved_usd, Usd::ZERO, "nothing stays reserved");
        reservation.commit(usd("2")).unwrap();
        assert!(other.reserve("a", usd("3.5")).is_ok(), "five dollars are spent now");

        // The other budgets are shared too.
        let on_model = |agent, amount| Spend { team: Some("search"), model: Some("m"), ..Spend::new(agent, amount) };
        let _of_team = one.reserve_for(&on_model("b", usd("2.5"))).unwrap();
        let denied = other.reserve_for(&on_model("b", usd("1"))).unwrap_err().to_string();
        assert_eq!(denied, "agent b on model m: budget exceeded: $1 requested, $0.5 of $3 left");
        let _more_of_team = one.reserve_for(&Spend { team: Some("search"), ..Spend::new("c", usd("9")) }).unwrap();
        let denied = other.reserve_for(&on_model("d", usd("1"))).unwrap_err().to_string();
        assert_eq!(denied, "team search: budget exceeded: $1 requested, $0.5 of $12 left");
        let _of_org = one.reserve("e", usd("10")).unwrap();
        let denied = other.reserve("f", usd("4")).unwrap_err().to_string();
        assert_eq!(denied, "organisation: budget exceeded: $4 requested, $3.5 of $30 left");
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

/// Starts a test of this binary as a process of its own, on a ledger file.
fn start(test: &str, file: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env("SRE_LEDGER_TEST", file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The processes that compete for a budget in the next test: each reserves until it is denied.
#[test]
fn competitor() {
    let Ok(file) = std::env::var("SRE_LEDGER_TEST") else { return };
    let clock = Arc::new(ManualClock::new(NOON.parse().unwrap()));
    let guard = guard(&clock, Arc::new(SqliteLedger::open(file).unwrap()));
    println!("ready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    loop {
        match guard.reserve("a", usd("0.1")) {
            Ok(reservation) => std::mem::forget(reservation),
            Err(Denied::Budget { scope: CostScope::Agent(_), .. }) => break,
            Err(denied) => panic!("{denied}"),
        }
        println!("reserved");
    }
    assert_eq!(guard.failures(), (0, 0));
}

#[test]
fn processes_reserve_up_to_a_limit_together_and_not_beyond() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.db");
    drop(SqliteLedger::open(&file).unwrap());
    let mut children: Vec<_> = (0..4).map(|_| start("competitor", &file)).collect();
    let mut outputs: Vec<_> =
        children.iter_mut().map(|child| BufReader::new(child.stdout.take().unwrap()).lines()).collect();
    for output in &mut outputs {
        assert!(output.any(|line| line.unwrap().ends_with("ready")));
    }
    for child in &mut children {
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    }
    let reserved: usize =
        outputs.into_iter().map(|output| output.map_while(Result::ok).filter(|line| line == "reserved").count()).sum();
    assert_eq!(reserved, 100, "ten dollars, ten cents each");
    assert!(children.iter_mut().all(|child| child.wait().unwrap().success()));
    let month = "2026-11-01T00:00:00Z".parse().unwrap();
    let totals = block_on(SqliteLedger::open(&file).unwrap().totals(month, month)).unwrap();
    assert_eq!(totals.reservations.len(), 100);
}

#[test]
fn a_killed_process_leaves_its_charges_and_reservations_that_expire() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.db");
    let mut charged = 0;
    for kills in 1..=5u64 {
        let mut child = start("child", &file);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        charged += lines.filter(|line| line.starts_with("spent")).take(20 + kills as usize * 7).count();
        child.kill().unwrap();
        child.wait().unwrap();
        let clock = Arc::new(ManualClock::new(NOON.parse().unwrap()));
        let after = guard(&clock, Arc::new(SqliteLedger::open(&file).unwrap()));
        // It may have charged more than it printed before it died.
        let budget = after.budget("a");
        let spent = budget.spent_today_usd.nanos() / 100_000;
        assert!(spent >= charged as i64, "printed {charged}, found {spent}");
        charged = usize::try_from(spent).unwrap();
        assert!(budget.reserved_usd >= usd("2"), "{budget:?}");
        clock.advance(Duration::from_secs(16 * 60));
        assert_eq!(after.budget("a").reserved_usd, Usd::ZERO);
        // Makes room for the next process.
        let sql = "DELETE FROM reservations";
        rusqlite::Connection::open(&file).unwrap().execute(sql, []).unwrap();
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
    assert!(error.ends_with("is a SQLite file of another application: name another file"), "{error}");
}
