use sre_core::Timestamp;

use crate::budget::{Budget, Mark};

/// The organisation's books of a month.
///
/// That every agent's every cost counts against one limit would make all threads write one place. So parts of the books take
/// a *lease*: a piece of what is left, to spend without asking. Leases never reach the next threshold or the limit, so that
/// the moment something is to be told or refused is known to the nano-dollar: near it all leases are called in, and each cost
/// asks.
#[derive(Debug)]
pub(crate) struct Org {
    pub(crate) budget: Budget,
    /// What is in leases: not spent yet, or spent and not accounted for.
    out: i64,
}

/// What a part of the books may spend without asking.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    left: i64,
    /// Spent from it, and not in the organisation's books yet.
    spent: i64,
}

/// What became of an amount.
#[derive(Debug)]
pub(crate) enum Taken {
    /// It is spent; these marks were passed.
    Done(Vec<Mark>),
    /// Too little is left.
    Refused,
    /// All leases must be called in to know.
    CallIn,
}

/// A lease is so small a part of what is left that all of them together leave some.
const PARTS: i64 = 2 * crate::books::GATES as i64;
/// A lease that is spent after fewer costs than this is not worth it.
const WORTH: i64 = 4;

impl Lease {
    /// Spends from the lease, if it is enough.
    #[inline]
    pub(crate) fn spend(&mut self, amount: i64) -> bool {
        let is_enough = (1..=self.left).contains(&amount);
        if is_enough {
            self.left -= amount;
            self.spent += amount;
        }
        is_enough
    }
}

impl Org {
    pub(crate) fn new(budget: Budget) -> Self {
        Self { budget, out: 0 }
    }

    /// Takes a lease back, and enters what was spent from it.
    pub(crate) fn call_in(&mut self, lease: &mut Lease, now: Timestamp) {
        let Lease { left, spent } = std::mem::take(lease);
        self.out -= left + spent;
        if spent > 0 {
            let passed = self.budget.spend(spent, now);
            debug_assert!(passed.is_empty(), "leases end before the next mark");
        }
    }

    /// A new month. Every lease must have been called in.
    pub(crate) fn begin(&mut self) {
        debug_assert_eq!(self.out, 0);
        self.budget.begin();
    }

    /// Spends an amount, in any case where it `must`, and gives out a lease for the next ones.
    pub(crate) fn spend(&mut self, lease: &mut Lease, amount: i64, must: bool, now: Timestamp) -> Taken {
        self.call_in(lease, now);
        let with_leases = self.out.saturating_add(amount);
        let reaches_mark = self.budget.spent.saturating_add(with_leases) >= self.budget.next_mark;
        if self.out > 0 && (reaches_mark || !self.budget.fits(with_leases)) {
            return Taken::CallIn;
        }
        if !must && !self.budget.fits(amount) {
            return Taken::Refused;
        }
        let passed = self.budget.spend(amount, now);
        let before_mark = self.budget.next_mark.saturating_sub(1).saturating_sub(self.budget.spent);
        let before_limit = self.budget.limit.saturating_sub(self.budget.used());
        let part = before_mark.min(before_limit).saturating_sub(self.out) / PARTS;
        if part > 0 && part >= amount.saturating_mul(WORTH) {
            lease.left = part;
            self.out += part;
        }
        Taken::Done(passed)
    }

    /// Reserves an amount, if there is room for it.
    pub(crate) fn reserve(&mut self, amount: i64) -> Taken {
        if self.budget.fits(self.out.saturating_add(amount)) {
            self.budget.reserved += amount;
            Taken::Done(Vec::new())
        } else if self.out > 0 {
            Taken::CallIn
        } else {
            Taken::Refused
        }
    }
}
