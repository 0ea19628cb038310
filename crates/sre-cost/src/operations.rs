use std::sync::atomic::Ordering;

use sre_core::{CostAlert, CostAlertKind, CostScope, CostStatus, LedgerEntry, Timestamp, Usd, lock};

use crate::account::{Account, Hold, Unusual};
use crate::accounts::Name;
use crate::allowance::Allowance;
use crate::books::{Attempt, Books, Inside};
use crate::budget::{Budget, Mark, Marked};
use crate::org::Taken;
use crate::period::Period;
use crate::shared::{Locked, Places};
use crate::{Refused, Spend};

/// How an amount is entered.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Mode {
    /// If every limit allows it.
    Ask,
    /// In any case: it was spent already.
    Must,
}

/// An amount that was entered, for the ledger.
pub(crate) struct Entered {
    places: Places,
    period: Period,
    now: Timestamp,
    is_new_task: bool,
}

/// An amount that was set aside.
pub(crate) struct Held {
    pub(crate) places: Places,
    pub(crate) expires: Timestamp,
}

pub(crate) type Alerts = Vec<CostAlert>;

/// What is done with amounts: each is one step, of which nobody sees a part.
impl Books {
    /// Whether an amount could be entered now.
    pub(crate) fn check(&self, spend: &Spend<'_>) -> (Result<(), Refused>, Alerts) {
        let amount = spend.amount.nanos();
        self.attempt(spend, |inside, _| {
            let places = self.shared.of(inside.account.as_deref(), spend);
            if let Err(refused) = self.allows(&inside, spend, places, &self.shared.lock([places, Places::default()])) {
                return Attempt::Refused(refused);
            }
            let mut org = lock(&self.org);
            match org.reserve(amount) {
                Taken::Done(_) => {
                    org.budget.reserved -= amount;
                    Attempt::Done(())
                }
                Taken::Refused => Attempt::Refused(too_much(CostScope::Org, &org.budget, spend)),
                Taken::CallIn => Attempt::CallIn,
            }
        })
    }

    /// Enters an amount, and ends the reservation that was made for it, in one step.
    pub(crate) fn enter(
        &self,
        spend: &Spend<'_>,
        mode: Mode,
        settles: Option<u64>,
    ) -> (Result<Entered, Refused>, Alerts) {
        let amount = spend.amount.nanos();
        self.attempt(spend, |inside, alerts| {
            let places = self.shared.of(inside.account.as_deref(), spend);
            let hold = settles.and_then(|number| inside.account.as_ref()?.find_hold(number));
            // An amount was reserved from the budgets of that time, which need not be those of now.
            let held_at = hold.map_or(Places::default(), |hold| hold.places);
            let mut shared = self.shared.lock([places, held_at]);
            if mode == Mode::Ask
                && let Err(refused) = self.allows(&inside, spend, places, &shared)
            {
                return Attempt::Refused(refused);
            }
            let Inside { mut account, lease, period, now, .. } = inside;
            let reserved = hold.map_or(0, |hold| hold.amount);
            if reserved != 0 || !lease.spend(amount) {
                let mut org = lock(&self.org);
                org.budget.reserved -= reserved;
                match org.spend(lease, amount, mode == Mode::Must, now) {
                    Taken::Done(passed) => tell(&CostScope::Org, &mut org.budget, &passed, now, alerts),
                    Taken::Refused => {
                        org.budget.reserved += reserved;
                        return Attempt::Refused(too_much(CostScope::Org, &org.budget, spend));
                    }
                    Taken::CallIn => {
                        org.budget.reserved += reserved;
                        return Attempt::CallIn;
                    }
                }
            }
            shared.at_mut(held_at).for_each(|(_, budget)| budget.reserved -= reserved);
            for (scope, budget) in shared.at_mut(places) {
                let passed = budget.spend(amount, now);
                tell(scope, budget, &passed, now, alerts);
            }
            let mut is_new_task = false;
            if let Some(account) = account.as_deref_mut() {
                if let Some(hold) = hold {
                    account.let_go(hold.number);
                }
                is_new_task = self.enter_task(account, spend, places, now, alerts);
                self.enter_account(account, spend, places, now, alerts);
            }
            Attempt::Done(Entered { places, period, now, is_new_task })
        })
    }

    /// Sets an amount aside.
    pub(crate) fn hold(&self, number: u64, spend: &Spend<'_>) -> (Result<Held, Refused>, Alerts) {
        let amount = spend.amount.nanos();
        let (held, alerts) = self.attempt(spend, |inside, _| {
            let places = self.shared.of(inside.account.as_deref(), spend);
            let mut shared = self.shared.lock([places, Places::default()]);
            if let Err(refused) = self.allows(&inside, spend, places, &shared) {
                return Attempt::Refused(refused);
            }
            // Without books of the agent's there is nothing to hold it in.
            let Some(mut account) = inside.account else {
                return Attempt::Refused(Refused::NoRoom { agent: spend.agent.to_owned() });
            };
            let mut org = lock(&self.org);
            match org.reserve(amount) {
                Taken::Done(_) => {}
                Taken::Refused => return Attempt::Refused(too_much(CostScope::Org, &org.budget, spend)),
                Taken::CallIn => return Attempt::CallIn,
            }
            drop(org);
            let expires = inside.now.saturating_add(self.limits.reservation_timeout);
            account.hold(Hold { number, amount, places, expires });
            shared.at_mut(places).for_each(|(_, budget)| budget.reserved += amount);
            Attempt::Done(Held { places, expires })
        });
        if let Ok(held) = &held {
            self.next_expiry.fetch_min(held.expires.as_nanos(), Ordering::Relaxed);
        }
        (held, alerts)
    }

    /// A reservation came to nothing; false where it is over already.
    pub(crate) fn release(&self, number: u64, agent: &str) -> bool {
        let account = lock(&self.accounts).get(Name::new(agent)).cloned();
        account.is_some_and(|account| self.let_go(&mut lock(&account), number))
    }

    pub(crate) fn let_go(&self, account: &mut Account, number: u64) -> bool {
        let Some(hold) = account.let_go(number) else { return false };
        self.shared.let_go(hold.places, hold.amount);
        lock(&self.org).budget.reserved -= hold.amount;
        true
    }

    /// What a ledger writes down of an amount that was entered.
    pub(crate) fn entry(&self, spend: &Spend<'_>, entered: &Entered) -> LedgerEntry {
        LedgerEntry {
            time: entered.now,
            day: entered.period.day,
            month: entered.period.month,
            agent: spend.agent.to_owned(),
            shared: self.shared.names(entered.places),
            model: self.shared.model(entered.places),
            task: spend.task.unwrap_or_default().to_owned(),
            is_new_task: entered.is_new_task,
            amount: spend.amount,
        }
    }

    /// Whether everything but the organisation's limit allows it. Where the agent is slowed down, to be allowed takes its
    /// turn.
    fn allows(
        &self,
        inside: &Inside<'_>,
        spend: &Spend<'_>,
        places: Places,
        shared: &Locked<'_>,
    ) -> Result<(), Refused> {
        let amount = spend.amount.nanos();
        let account = inside.account.as_deref();
        let own = account.map(|account| (None, &account.own));
        let on_model = account.and_then(|account| Some((places.on_model, account.on_model(places.on_model)?)));
        let allowances = || own.into_iter().chain(on_model);
        let may_begin = |(model, allowance): (Option<u32>, &Allowance)| {
            allowance.may_begin(|| self.shared.scope(spend.agent, model))
        };
        if let Some(killed) = allowances().find(|(_, allowance)| allowance.status == CostStatus::Killed) {
            return may_begin(killed);
        }
        self.task_allows(spend, places, own, on_model)?;
        if let Some((model, allowance)) = allowances().find(|(_, allowance)| !allowance.budget.fits(amount)) {
            return Err(too_much(self.shared.scope(spend.agent, model), &allowance.budget, spend));
        }
        if let Some((scope, budget)) = shared.all().find(|(_, budget)| !budget.fits(amount)) {
            return Err(too_much(scope.clone(), budget, spend));
        }
        // Its turn was taken when it acted before.
        if inside.is_again { Ok(()) } else { allowances().try_for_each(may_begin) }
    }

    /// Whether the task may cost so much more, all in all and on the model.
    fn task_allows(
        &self,
        spend: &Spend<'_>,
        places: Places,
        own: Option<(Option<u32>, &Allowance)>,
        on_model: Option<(Option<u32>, &Allowance)>,
    ) -> Result<(), Refused> {
        let before = spend.task.and_then(|task| {
            let tasks = self.tasks_of(spend.agent);
            tasks.get(spend.agent, task).map(|task| (task.spent_usd, task.spent_on(places.on_model)))
        });
        let (all, of_model) = before.unwrap_or_default();
        let may = |model: Option<&str>, would_cost, limit| {
            let refused = || Refused::Task { model: model.map(str::to_owned), would_cost, limit };
            if would_cost > limit { Err(refused()) } else { Ok(()) }
        };
        may(None, all + spend.amount, own.map_or(self.limits.per_task, |(_, own)| own.per_task))?;
        on_model.map_or(Ok(()), |(_, allowance)| may(spend.model, of_model + spend.amount, allowance.per_task))
    }

    /// Adds to the task, where one is named; whether it is new.
    fn enter_task(
        &self,
        account: &mut Account,
        spend: &Spend<'_>,
        places: Places,
        now: Timestamp,
        alerts: &mut Alerts,
    ) -> bool {
        let Some(task) = spend.task else { return false };
        let spent = self.tasks_of(spend.agent).add(task, spend, places.on_model, now);
        account.rest.tasks += u64::from(spent.is_new);
        let on_model = account.on_model(places.on_model).map(|allowance| (places.on_model, spent.on_model, allowance));
        for (model, spent, allowance) in std::iter::once((None, spent.all, &account.own)).chain(on_model) {
            let limit = allowance.per_task;
            if spent > limit && spent.nanos() - spend.amount.nanos() <= limit.nanos() {
                let scope = self.shared.scope(spend.agent, model);
                let kind = CostAlertKind::TaskExceeded { task: task.to_owned() };
                alerts.push(CostAlert { at: now, scope, spent_usd: spent, limit_usd: limit, kind });
            }
        }
        spent.is_new
    }

    #[inline]
    fn enter_account(
        &self,
        account: &mut Account,
        spend: &Spend<'_>,
        places: Places,
        now: Timestamp,
        alerts: &mut Alerts,
    ) {
        let amount = spend.amount.nanos();
        let mut kinds = account.own.spend(amount, now, &self.limits, &self.clock);
        let unusual = if self.limits.anomaly_detection && amount > 0 {
            account.judge(spend.amount, now)
        } else {
            Unusual::default()
        };
        if !kinds.is_empty() || unusual.is_any() {
            kinds.extend(account.tell_unusual(unusual));
            let scope = || CostScope::Agent(spend.agent.to_owned());
            alerts.extend(kinds.into_iter().map(|kind| alert(scope(), &account.own.budget, kind, now)));
        }
        if let Some(model) = places.on_model {
            let allowance = account.on_model_mut(model, || self.shared.allowance(&self.limits, model));
            let kinds = allowance.spend(amount, now, &self.limits, &self.clock);
            let scope = || self.shared.scope(spend.agent, Some(model));
            alerts.extend(kinds.into_iter().map(|kind| alert(scope(), &allowance.budget, kind, now)));
        }
    }
}

/// Tells of thresholds that were passed, and of what went beyond the limit.
fn tell(scope: &CostScope, budget: &mut Budget, passed: &[Mark], now: Timestamp, alerts: &mut Alerts) {
    let thresholds = passed.iter().filter_map(|mark| match mark.what {
        Marked::Threshold(threshold) => Some(CostAlertKind::Threshold { threshold }),
        Marked::Throttle | Marked::Kill => None,
    });
    let kinds = thresholds.chain(budget.excess()).collect::<Vec<_>>();
    alerts.extend(kinds.into_iter().map(|kind| alert(scope.clone(), budget, kind, now)));
}

pub(crate) fn alert(scope: CostScope, budget: &Budget, kind: CostAlertKind, at: Timestamp) -> CostAlert {
    let [spent_usd, limit_usd] = [budget.spent, budget.limit].map(Usd::from_nanos);
    CostAlert { at, scope, spent_usd, limit_usd, kind }
}

fn too_much(scope: CostScope, budget: &Budget, spend: &Spend<'_>) -> Refused {
    Refused::Budget { scope, left: budget.left(), limit: Usd::from_nanos(budget.limit), amount: spend.amount }
}
