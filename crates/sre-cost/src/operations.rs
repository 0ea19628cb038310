use std::sync::atomic::Ordering;

use sre_core::private::lock;
use sre_core::{
    BudgetLimit, CostAlert, CostAlertKind, CostScope, CostStatus, LedgerEntry, LedgerReservation, Timestamp, Usd,
};

use crate::account::{Account, Deviation, OpenReservation};
use crate::agent_budget::AgentBudgetState;
use crate::budget::{Budget, Threshold, ThresholdAction};
use crate::denied::Denied;
use crate::ledger::{Alerts, ChargeContext, ChargeError, Ledger};
use crate::org::OrgError;
use crate::period::Period;
use crate::shared_budgets::{BudgetIds, LockedBudgets};
use crate::spend::Spend;

/// Whether limits apply to a charge.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum ChargeMode {
    /// Denied if a limit would be exceeded.
    Limited,
    /// Never denied: the amount was spent already.
    Unlimited,
}

/// A charge that was made, for the ledger store.
pub(crate) struct Charged {
    budgets: BudgetIds,
    period: Period,
    now: Timestamp,
    is_new_task: bool,
}

/// A reservation that was made, for the ledger store.
pub(crate) struct Reserved {
    budgets: BudgetIds,
    period: Period,
    pub(crate) now: Timestamp,
    expires: Timestamp,
}

/// Checks, charges and reservations. Each is atomic.
impl Ledger {
    /// Checks whether an amount could be spent now.
    pub(crate) fn check(&self, spend: &Spend<'_>) -> (Result<(), Denied>, Alerts) {
        let amount = spend.amount.nanos();
        self.run(spend, |context, _| {
            let ids = self.budget_ids(&context, spend);
            self.check_budgets(&context, spend, ids, &self.shared.lock([ids, BudgetIds::default()]))?;
            let mut org = lock(&self.org);
            org.reserve(amount).map_err(|error| org_error(error, &org.budget, spend))?;
            org.budget.add_reserved(-amount);
            Ok(())
        })
    }

    /// Charges an amount and ends the reservation that was made for it, if any.
    pub(crate) fn charge(
        &self,
        spend: &Spend<'_>,
        mode: ChargeMode,
        reservation: Option<u64>,
    ) -> (Result<Charged, Denied>, Alerts) {
        let amount = spend.amount.nanos();
        self.run(spend, |context, alerts| {
            let ids = self.budget_ids(&context, spend);
            let reservation = reservation.and_then(|id| context.account.as_ref()?.reservation(id));
            // The agent may have changed its team since: what was reserved returns to the budgets of that time.
            let reserved_ids = reservation.map_or(BudgetIds::default(), |reservation| reservation.budgets);
            let mut shared = self.shared.lock([ids, reserved_ids]);
            if mode == ChargeMode::Limited {
                self.check_budgets(&context, spend, ids, &shared)?;
            }
            let ChargeContext { mut account, lease, period, now, .. } = context;
            let reserved = reservation.map_or(0, |reservation| reservation.amount);
            if reserved != 0 || !lease.try_spend(amount) {
                let mut org = lock(&self.org);
                org.budget.add_reserved(-reserved);
                match org.spend(lease, amount, mode == ChargeMode::Unlimited, now) {
                    Ok(crossed) => push_alerts(&CostScope::Org, &mut org.budget, &crossed, now, alerts),
                    Err(error) => {
                        org.budget.add_reserved(reserved);
                        return Err(org_error(error, &org.budget, spend));
                    }
                }
            }
            shared.iter_mut(reserved_ids).for_each(|(_, budget)| budget.add_reserved(-reserved));
            for (scope, budget) in shared.iter_mut(ids) {
                let crossed = budget.spend(amount, now);
                push_alerts(scope, budget, &crossed, now, alerts);
            }
            let mut is_new_task = false;
            if let Some(account) = account.as_deref_mut() {
                if let Some(reservation) = reservation {
                    account.release(reservation.id);
                }
                is_new_task = self.charge_task(account, spend, ids, (period.day, now), alerts);
                self.charge_account(account, spend, ids, now, alerts);
            }
            Ok(Charged { budgets: ids, period, now, is_new_task })
        })
    }

    /// Reserves an amount.
    pub(crate) fn reserve(&self, id: u64, spend: &Spend<'_>) -> (Result<Reserved, Denied>, Alerts) {
        let amount = spend.amount.nanos();
        let (reserved, alerts) = self.run(spend, |context, _| {
            let budgets = self.budget_ids(&context, spend);
            let mut shared = self.shared.lock([budgets, BudgetIds::default()]);
            self.check_budgets(&context, spend, budgets, &shared)?;
            let Some(mut account) = context.account else {
                return Err(Denied::AgentLimit { agent: spend.agent.to_owned() }.into());
            };
            {
                let mut org = lock(&self.org);
                org.reserve(amount).map_err(|error| org_error(error, &org.budget, spend))?;
            }
            let (period, now) = (context.period, context.now);
            let expires = now.saturating_add(self.limits.reservation_timeout);
            account.reserve(OpenReservation { id, amount, budgets, expires });
            shared.iter_mut(budgets).for_each(|(_, budget)| budget.add_reserved(amount));
            Ok(Reserved { budgets, period, now, expires })
        });
        if let Ok(reserved) = &reserved {
            self.next_expiry.fetch_min(reserved.expires.as_nanos(), Ordering::Relaxed);
        }
        (reserved, alerts)
    }

    /// Returns a charge as a ledger store keeps it.
    pub(crate) fn entry(&self, spend: &Spend<'_>, charged: &Charged) -> LedgerEntry {
        let Period { day, month, .. } = charged.period;
        let mut entry = LedgerEntry::new(charged.now, day, month, spend.agent, spend.amount);
        (entry.shared, entry.model) = self.shared.names(charged.budgets);
        entry.task = spend.task.unwrap_or_default().to_owned();
        entry.is_new_task = charged.is_new_task;
        entry
    }

    /// Returns a reservation as a ledger store keeps it.
    pub(crate) fn reservation(&self, id: u64, spend: &Spend<'_>, reserved: &Reserved) -> LedgerReservation {
        let mut reservation = LedgerReservation::new(id, spend.agent, spend.amount, reserved.expires);
        (reservation.shared, reservation.model) = self.shared.names(reserved.budgets);
        reservation
    }

    /// Returns the limits that a ledger store checks for a reservation.
    pub(crate) fn budget_limits(&self, agent: &str, reserved: &Reserved) -> Vec<BudgetLimit> {
        let (day, month, ids) = (reserved.period.day, reserved.period.month, reserved.budgets);
        let limit = |scope, period, nanos| BudgetLimit::new(scope, period, Usd::from_nanos(nanos));
        let of_agent = |account: &Account| {
            let on_model = account.on_model(ids.on_model).filter(|state| state.is_limited());
            let states = std::iter::once((None, &account.overall)).chain(on_model.map(|state| (ids.on_model, state)));
            let limits =
                states.map(|(model, state)| limit(self.shared.agent_scope(agent, model), day, state.budget.limit()));
            limits.collect()
        };
        let mut limits: Vec<_> = self.read(agent, of_agent).unwrap_or_default();
        limits.extend(self.shared.get(ids).map(|(scope, budget)| limit(scope.clone(), day, lock(budget).limit())));
        limits.push(BudgetLimit::new(CostScope::Org, month, self.limits.org_monthly));
        limits
    }

    #[inline]
    fn budget_ids(&self, context: &ChargeContext<'_>, spend: &Spend<'_>) -> BudgetIds {
        let team = || spend.team.or_else(|| context.account.as_ref()?.details.team.as_deref());
        self.shared.ids(team, spend.model)
    }

    /// Checks every limit but the organisation's. Consumes a throttled agent's rate-limit token last.
    fn check_budgets(
        &self,
        context: &ChargeContext<'_>,
        spend: &Spend<'_>,
        ids: BudgetIds,
        shared: &LockedBudgets<'_>,
    ) -> Result<(), Denied> {
        let amount = spend.amount.nanos();
        let account = context.account.as_deref();
        let overall = account.map(|account| &account.overall);
        let on_model = account.and_then(|account| account.on_model(ids.on_model));
        let states = || {
            let overall = overall.map(|state| (None, state));
            overall.into_iter().chain(on_model.map(|state| (ids.on_model, state)))
        };
        let try_start = |(model, state): (Option<u32>, &AgentBudgetState)| {
            state.try_start(|| self.shared.agent_scope(spend.agent, model))
        };
        if let Some(killed) = states().find(|(_, state)| state.status == CostStatus::Killed) {
            return try_start(killed);
        }
        self.check_task(spend, ids, overall, on_model)?;
        if let Some((model, state)) = states().find(|(_, state)| !state.budget.fits(amount)) {
            return Err(over_budget(self.shared.agent_scope(spend.agent, model), &state.budget, spend));
        }
        if let Some((scope, budget)) = shared.iter().find(|(_, budget)| !budget.fits(amount)) {
            return Err(over_budget(scope.clone(), budget, spend));
        }
        // The first attempt consumed the token.
        if context.is_retry { Ok(()) } else { states().try_for_each(try_start) }
    }

    /// Checks the limits per task, overall and on the model.
    fn check_task(
        &self,
        spend: &Spend<'_>,
        ids: BudgetIds,
        overall: Option<&AgentBudgetState>,
        on_model: Option<&AgentBudgetState>,
    ) -> Result<(), Denied> {
        let spent = spend.task.and_then(|task| {
            let tasks = self.tasks_of(spend.agent);
            tasks.get(spend.agent, task).map(|task| (task.spent_usd, task.spent_on(ids.on_model)))
        });
        let (spent_overall, spent_on_model) = spent.unwrap_or_default();
        let check = |model: Option<&str>, would_cost, limit| {
            let denied = || Denied::Task { model: model.map(str::to_owned), would_cost, limit };
            if would_cost > limit { Err(denied()) } else { Ok(()) }
        };
        let per_task = overall.map_or(self.limits.per_task, |state| state.per_task);
        check(None, spent_overall + spend.amount, per_task)?;
        on_model.map_or(Ok(()), |state| check(spend.model, spent_on_model + spend.amount, state.per_task))
    }

    /// Adds a charge to its task, if it has one. Returns whether it is the task's first of the day.
    fn charge_task(
        &self,
        account: &mut Account,
        spend: &Spend<'_>,
        ids: BudgetIds,
        (day, now): (Timestamp, Timestamp),
        alerts: &mut Alerts,
    ) -> bool {
        let Some(task) = spend.task else { return false };
        let spent = self.tasks_of(spend.agent).add(task, spend, ids.on_model, (day, now));
        account.details.tasks_today += u64::from(spent.is_first_today);
        let on_model = account.on_model(ids.on_model).map(|state| (ids.on_model, spent.on_model, state));
        for (model, spent, state) in std::iter::once((None, spent.overall, &account.overall)).chain(on_model) {
            let limit = state.per_task;
            if spent > limit && spent.nanos() - spend.amount.nanos() <= limit.nanos() {
                let scope = self.shared.agent_scope(spend.agent, model);
                let kind = CostAlertKind::TaskExceeded { task: task.to_owned() };
                alerts.push(CostAlert::new(now, scope, spent, limit, kind));
            }
        }
        spent.is_first_today
    }

    #[inline]
    fn charge_account(
        &self,
        account: &mut Account,
        spend: &Spend<'_>,
        ids: BudgetIds,
        now: Timestamp,
        alerts: &mut Alerts,
    ) {
        let amount = spend.amount.nanos();
        let mut kinds = account.overall.spend(amount, now, &self.limits, &self.clock);
        let deviation = if self.limits.anomaly_detection && amount > 0 {
            account.assess(spend.amount, now)
        } else {
            Deviation::default()
        };
        if !kinds.is_empty() || deviation.is_any() {
            kinds.extend(account.deviation_alerts(deviation));
            let scope = || CostScope::Agent(spend.agent.to_owned());
            alerts.extend(kinds.into_iter().map(|kind| account.overall.budget.alert(scope(), kind, now)));
        }
        if let Some(model) = ids.on_model {
            let state = account.on_model_mut(model, || self.shared.new_agent_budget(&self.limits, model));
            let kinds = state.spend(amount, now, &self.limits, &self.clock);
            let scope = || self.shared.agent_scope(spend.agent, Some(model));
            alerts.extend(kinds.into_iter().map(|kind| state.budget.alert(scope(), kind, now)));
        }
    }
}

/// Adds alerts for the thresholds that were crossed, and for an excess over the limit.
fn push_alerts(scope: &CostScope, budget: &mut Budget, crossed: &[Threshold], now: Timestamp, alerts: &mut Alerts) {
    let thresholds = crossed.iter().filter_map(|threshold| match threshold.action {
        ThresholdAction::Alert(threshold) => Some(CostAlertKind::Threshold { threshold }),
        ThresholdAction::Throttle | ThresholdAction::Kill => None,
    });
    let kinds = thresholds.chain(budget.new_excess()).collect::<Vec<_>>();
    alerts.extend(kinds.into_iter().map(|kind| budget.alert(scope.clone(), kind, now)));
}

fn org_error(error: OrgError, budget: &Budget, spend: &Spend<'_>) -> ChargeError {
    match error {
        OrgError::LimitReached => over_budget(CostScope::Org, budget, spend).into(),
        OrgError::LeasesOutstanding => ChargeError::LeasesOutstanding,
    }
}

fn over_budget(scope: CostScope, budget: &Budget, spend: &Spend<'_>) -> Denied {
    Denied::Budget { scope, left: budget.left(), limit: Usd::from_nanos(budget.limit()), amount: spend.amount }
}
