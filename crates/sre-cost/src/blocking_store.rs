use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use pollster::block_on;
use sre_core::{
    BudgetLimit, LedgerEntry, LedgerReservation, LedgerStore, LedgerTotals, ReserveOutcome, StoreError, Timestamp,
};

use crate::period::Period;

/// A ledger store, called from synchronous code: each call blocks until the store's future is ready. Failed writes are counted.
pub(crate) struct BlockingStore {
    store: Arc<dyn LedgerStore>,
    failures: AtomicU64,
    /// The day on which the store was last pruned.
    pruned_on: AtomicI64,
}

/// How long the store keeps single amounts.
const RETENTION: Duration = Duration::from_secs(35 * 86_400);

impl BlockingStore {
    pub(crate) fn new(store: Arc<dyn LedgerStore>) -> Self {
        Self { store, failures: AtomicU64::new(0), pruned_on: AtomicI64::new(0) }
    }

    pub(crate) fn totals(&self, period: Period) -> Result<LedgerTotals, StoreError> {
        block_on(self.store.totals(period.day, period.month))
    }

    /// Returns the totals, or counts a failure.
    pub(crate) fn totals_or_count(&self, period: Period) -> Option<LedgerTotals> {
        self.count(self.totals(period))
    }

    pub(crate) fn record(&self, entry: &LedgerEntry, settles: Option<u64>) {
        self.count(block_on(self.store.record(entry, settles)));
    }

    /// Reserves in the store. If the store fails, the decision of the guard stands.
    pub(crate) fn reserve(
        &self,
        reservation: &LedgerReservation,
        limits: &[BudgetLimit],
        now: Timestamp,
    ) -> ReserveOutcome {
        let outcome = block_on(self.store.reserve(reservation, limits, now));
        self.count(outcome).unwrap_or(ReserveOutcome::Reserved)
    }

    pub(crate) fn release(&self, id: u64) {
        self.count(block_on(self.store.release(id)));
    }

    pub(crate) fn reset_day(&self, agent: Option<&str>, day: Timestamp) {
        self.count(block_on(self.store.reset_day(agent, day)));
    }

    /// Removes old amounts and totals, once per day.
    pub(crate) fn prune(&self, now: Timestamp, period: Period) {
        let day = period.day.as_nanos();
        if self.pruned_on.swap(day, Ordering::Relaxed) != day {
            self.count(block_on(self.store.prune(now.saturating_sub(RETENTION), period.month)));
        }
    }

    /// Returns how many writes failed.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn count<T>(&self, result: Result<T, StoreError>) -> Option<T> {
        if result.is_err() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        result.ok()
    }
}
