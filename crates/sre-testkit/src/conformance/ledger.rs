use std::sync::Arc;
use std::time::Duration;

use pollster::block_on;
use sre_core::{
    BudgetLimit, CostScope, LedgerEntry, LedgerReservation, LedgerStore, ReserveOutcome, StoreError, Timestamp, Usd,
};

/// Opens one more handle of the store under test.
type Open<'a> = &'a (dyn Fn() -> Arc<dyn LedgerStore> + Sync);

/// Tests a ledger store. `open` returns handles of one store, empty at first, that may be used at the same time:
///
/// - totals are kept by day and month, seen by every handle, reset by agent and pruned;
/// - a reservation counts until it is settled, released or expired, toward each budget that it names;
/// - a denial names the first limit exceeded and what is left, and reserves nothing;
/// - concurrent reservations never exceed a limit together, and leave nothing of it unused.
///
/// # Panics
/// Panics if the store does not conform.
pub fn ledger_store(open: Open<'_>) {
    block_on(totals(open)).expect("the store works");
    block_on(reservations(open)).expect("the store works");
    concurrent_reservations(open);
}

/// The start of a day, numbered from one in the past.
fn day(number: u64) -> Timestamp {
    Timestamp::from_secs(1_790_000_000).saturating_add(Duration::from_secs(number * 86_400))
}

fn usd(dollars: i64) -> Usd {
    Usd::from_nanos(dollars * 1_000_000_000)
}

fn reservation(id: u64, agent: &str, dollars: i64, expires: Timestamp) -> LedgerReservation {
    let mut reservation = LedgerReservation::new(id, agent, usd(dollars), expires);
    reservation.shared = vec!["team x".to_owned()];
    reservation.model = Some("m".to_owned());
    reservation
}

fn entry(on: Timestamp, dollars: i64) -> LedgerEntry {
    let mut entry = LedgerEntry::new(on, on, day(0), "a", usd(dollars));
    entry.shared = vec!["team x".to_owned()];
    entry.model = Some("m".to_owned());
    (entry.task, entry.is_new_task) = ("t".to_owned(), true);
    entry
}

async fn totals(open: Open<'_>) -> Result<(), StoreError> {
    let (store, again) = (open(), open());
    let held = reservation(7, "a", 1, day(1));
    assert_eq!(store.reserve(&held, &[], day(0)).await?, ReserveOutcome::Reserved);
    for (on, dollars) in [(day(0), 5), (day(1), 6), (day(1), -2)] {
        store.record(&entry(on, dollars), None).await?;
    }
    let totals = again.totals(day(1), day(0)).await?;
    assert_eq!(totals.agents, [("a".to_owned(), usd(4), 2)]);
    assert_eq!(totals.shared, [("team x".to_owned(), usd(4))]);
    assert_eq!(totals.models, [("a".to_owned(), "m".to_owned(), usd(4))]);
    assert_eq!((totals.org, totals.reservations), (usd(9), vec![held]));

    store.record(&entry(day(1), 0), Some(7)).await?;
    store.reset_day(Some("b"), day(1)).await?;
    assert_eq!(again.totals(day(1), day(0)).await?.agents[0].1, usd(4), "the day of another agent was reset");
    store.reset_day(None, day(1)).await?;
    let totals = again.totals(day(1), day(0)).await?;
    assert_eq!((totals.agents, totals.models, totals.org), (vec![], vec![], usd(9)), "the month is kept");
    assert_eq!(totals.reservations, [], "the reservation was settled");

    store.prune(day(1), day(1)).await?;
    assert_eq!(again.totals(day(0), day(0)).await?.agents, []);
    assert_eq!(again.totals(day(1), day(0)).await?.org, Usd::ZERO);
    Ok(())
}

async fn reservations(open: Open<'_>) -> Result<(), StoreError> {
    let (store, today, month) = (open(), day(10), day(9));
    let now = today.saturating_add(Duration::from_secs(60));
    let later = now.saturating_add(Duration::from_secs(60));
    let on_model = CostScope::AgentOnModel { agent: "a".to_owned(), model: "m".to_owned() };
    let scopes = [(CostScope::Agent("a".to_owned()), today), (on_model, today), (CostScope::Org, month)];
    let mut of_a = entry(today, 3);
    of_a.month = month;
    store.record(&of_a, None).await?;
    assert_eq!(store.reserve(&reservation(1, "a", 4, later), &[], now).await?, ReserveOutcome::Reserved);

    // Three dollars are spent and four reserved, from each of the budgets.
    let team = (CostScope::Team("x".to_owned()), today);
    for (scope, period) in scopes.iter().cloned().chain([team]) {
        let limit = |dollars| [BudgetLimit::new(scope.clone(), period, usd(dollars))];
        let denied = |left, limit| ReserveOutcome::Denied { scope: scope.clone(), left: usd(left), limit: usd(limit) };
        let next = reservation(2, "a", 2, later);
        assert_eq!(store.reserve(&next, &limit(8), now).await?, denied(1, 8), "{scope}");
        assert_eq!(store.reserve(&next, &limit(5), now).await?, denied(0, 5), "{scope}: nothing below zero");
        assert_eq!(store.reserve(&next, &limit(9), now).await?, ReserveOutcome::Reserved, "{scope}: to the limit");
        store.release(2).await?;
        store.release(2).await?;
        assert_eq!(store.reserve(&next, &limit(5), later).await?, ReserveOutcome::Reserved, "{scope}: one expired");
        store.release(2).await?;
    }
    let limits =
        [(CostScope::Org, month, 100), (CostScope::Agent("a".to_owned()), today, 8), (CostScope::Org, month, 1)]
            .map(|(scope, period, dollars)| BudgetLimit::new(scope, period, usd(dollars)));
    let outcome = store.reserve(&reservation(2, "a", 2, later), &limits, now).await?;
    assert!(matches!(outcome, ReserveOutcome::Denied { scope: CostScope::Agent(_), .. }), "the first one exceeded");
    let ids: Vec<u64> = store.totals(today, month).await?.reservations.iter().map(|open| open.id).collect();
    assert_eq!(ids, [1], "a denial reserves nothing");

    // Budgets of others, and of another day, are not affected.
    for (scope, period) in [
        (CostScope::Agent("b".to_owned()), today),
        (CostScope::Team("y".to_owned()), today),
        (CostScope::Model("m".to_owned()), today),
    ] {
        let limits = [BudgetLimit::new(scope, period, usd(1))];
        assert_eq!(store.reserve(&reservation(2, "b", 1, later), &limits, now).await?, ReserveOutcome::Reserved);
        store.release(2).await?;
    }
    let limits = [BudgetLimit::new(CostScope::Agent("a".to_owned()), day(11), usd(5))];
    assert_eq!(store.reserve(&reservation(2, "a", 1, later), &limits, now).await?, ReserveOutcome::Reserved);

    // A settled reservation is replaced by what was spent.
    store.record(&of_a, Some(1)).await?;
    store.release(2).await?;
    let limits = [BudgetLimit::new(CostScope::Agent("a".to_owned()), today, usd(7))];
    assert_eq!(store.reserve(&reservation(3, "a", 1, later), &limits, now).await?, ReserveOutcome::Reserved);
    store.release(3).await
}

/// Each of 8 threads reserves a dollar 40 times, for an agent of its own, against a limit of 100 for all.
fn concurrent_reservations(open: Open<'_>) {
    let (today, expires) = (day(20), day(21));
    let limits = [BudgetLimit::new(CostScope::Org, today, usd(100))];
    let try_reserve = |thread: u64| {
        let (store, agent) = (open(), format!("agent-{thread}"));
        let reserve = |number: &u64| {
            let next = reservation(1_000 * (thread + 1) + number, &agent, 1, expires);
            let outcome = block_on(store.reserve(&next, &limits, today)).expect("the store works");
            outcome == ReserveOutcome::Reserved
        };
        (0..40).filter(reserve).count()
    };
    let reserved: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|thread| scope.spawn(move || try_reserve(thread))).collect();
        threads.into_iter().map(|thread| thread.join().expect("the store works")).sum()
    });
    let open: Usd = block_on(open().totals(today, today))
        .expect("the store works")
        .reservations
        .iter()
        .map(|reservation| reservation.amount)
        .sum();
    assert_eq!((reserved, open), (100, usd(100)), "reserved up to the limit, and not beyond");
}
