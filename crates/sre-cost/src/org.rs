use sre_core::Timestamp;

use crate::budget::{Budget, Threshold};

/// The organisation's monthly budget.
///
/// If every charge of every agent updated one budget, all threads would contend for it. So each shard of the ledger takes a
/// *lease*: a part of what is left, which it spends without asking. Leases never reach the next threshold or the limit. Near
/// those, all leases are revoked and each charge updates the budget itself, so that alerts and denials are exact.
#[derive(Debug)]
pub(crate) struct OrgBudget {
    pub(crate) budget: Budget,
    /// The amount in leases: unspent, or spent and not yet in `budget`.
    leased: i64,
    /// A lease takes at most what is left divided by this.
    lease_divisor: i64,
}

/// An amount that a shard may spend without updating the organisation's budget.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    left: i64,
    /// Spent from the lease, and not yet in the organisation's budget.
    spent: i64,
}

/// Why the organisation's budget did not take an amount.
#[derive(Debug)]
pub(crate) enum OrgError {
    LimitReached,
    /// The decision depends on what is spent of other leases: revoke all of them and try again.
    LeasesOutstanding,
}

/// No lease is granted if it is too small for this many charges like the last one.
const MIN_CHARGES: i64 = 4;

impl Lease {
    /// Spends from the lease. Returns false if it is too small.
    #[inline]
    pub(crate) fn try_spend(&mut self, amount: i64) -> bool {
        let is_enough = (1..=self.left).contains(&amount);
        if is_enough {
            self.left -= amount;
            self.spent += amount;
        }
        is_enough
    }
}

impl OrgBudget {
    /// Creates a budget for a ledger of `shards` shards, whose leases together take at most half of what is left.
    pub(crate) fn new(budget: Budget, shards: usize) -> Self {
        Self { budget, leased: 0, lease_divisor: 2 * shards as i64 }
    }

    /// Takes a lease back, and adds what was spent from it.
    pub(crate) fn revoke(&mut self, lease: &mut Lease, now: Timestamp) {
        let Lease { left, spent } = std::mem::take(lease);
        self.leased -= left + spent;
        if spent > 0 {
            let crossed = self.budget.spend(spent, now);
            debug_assert!(crossed.is_empty(), "leases end before the next threshold");
        }
    }

    /// Starts a new month. Every lease must have been revoked.
    pub(crate) fn start_month(&mut self) {
        debug_assert_eq!(self.leased, 0);
        self.budget.start_period();
    }

    /// Spends an amount, beyond the limit if `force`, and renews the lease. Returns the thresholds that were crossed.
    pub(crate) fn spend(
        &mut self,
        lease: &mut Lease,
        amount: i64,
        force: bool,
        now: Timestamp,
    ) -> Result<Vec<Threshold>, OrgError> {
        self.revoke(lease, now);
        let with_leases = self.leased.saturating_add(amount);
        let may_cross = self.budget.spent.saturating_add(with_leases) >= self.budget.next_threshold;
        if self.leased > 0 && (may_cross || !self.budget.fits(with_leases)) {
            return Err(OrgError::LeasesOutstanding);
        }
        if !force && !self.budget.fits(amount) {
            return Err(OrgError::LimitReached);
        }
        let crossed = self.budget.spend(amount, now);
        let to_threshold = self.budget.next_threshold.saturating_sub(1).saturating_sub(self.budget.spent);
        let to_limit = self.budget.rest();
        let part = to_threshold.min(to_limit).saturating_sub(self.leased) / self.lease_divisor;
        if part > 0 && part >= amount.saturating_mul(MIN_CHARGES) {
            lease.left = part;
            self.leased += part;
        }
        Ok(crossed)
    }

    /// Reserves an amount, if the limit allows it.
    pub(crate) fn reserve(&mut self, amount: i64) -> Result<(), OrgError> {
        if self.budget.fits(self.leased.saturating_add(amount)) {
            self.budget.add_reserved(amount);
            Ok(())
        } else if self.leased > 0 {
            Err(OrgError::LeasesOutstanding)
        } else {
            Err(OrgError::LimitReached)
        }
    }
}
