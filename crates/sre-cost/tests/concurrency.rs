//! Under concurrency, no limit is exceeded, and totals are exact to the nano-dollar.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use sre_core::{CostAlertKind, CostScope, ManualClock, Timestamp, Usd};
use sre_cost::{CostGuard, Limits, ScopeLimits, Spend};

const THREADS: u64 = 8;
const OPERATIONS: u64 = 100_000;
const AGENTS: u64 = 40;

fn guard(limits: Limits) -> CostGuard {
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_790_000_000)));
    CostGuard::with_limits(limits).unwrap().with_clock(clock)
}

/// Charges, reserves, commits, drops and records at random. Returns what this thread charged each agent.
fn work(guard: &CostGuard, seed: u64, operations: u64, may_record: bool) -> Vec<i64> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut spent = vec![0; AGENTS as usize];
    let mut open = Vec::new();
    for _ in 0..operations {
        let agent = random.u64(..AGENTS);
        let name = format!("agent-{agent}");
        let amount = Usd::from_nanos(random.i64(0..2_000_000));
        match random.u32(..10) {
            0..5 => {
                let team = agent.is_multiple_of(2).then_some("even");
                if guard.charge(&Spend { agent: &name, amount, team, ..Spend::default() }).is_ok() {
                    spent[agent as usize] += amount.nanos();
                }
            }
            5..8 => {
                let spend = Spend { agent: &name, amount, task: Some("task"), ..Spend::default() };
                if let Ok(reservation) = guard.reserve_for(&spend) {
                    open.push((agent, reservation));
                }
            }
            8 => drop(open.pop()),
            _ => {
                if let Some((agent, reservation)) = open.pop() {
                    let actual = Usd::from_nanos(random.i64(0..=reservation.estimate().nanos()));
                    reservation.commit(actual).unwrap();
                    spent[agent as usize] += actual.nanos();
                } else if may_record {
                    guard.record_cost(&name, "task", amount, &[]).unwrap();
                    spent[agent as usize] += amount.nanos();
                }
            }
        }
        if open.len() > 20 {
            drop(open.swap_remove(random.usize(..20)));
        }
    }
    spent
}

/// Runs all threads. Returns what they charged each agent.
fn all(guard: &CostGuard, may_record: bool) -> Vec<i64> {
    let threads = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..THREADS).map(|seed| scope.spawn(move || work(guard, seed, OPERATIONS, may_record))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    (0..AGENTS as usize).map(|agent| threads.iter().map(|spent| spent[agent]).sum()).collect()
}

fn assert_balanced(guard: &CostGuard, spent: &[i64]) {
    let summary = guard.summary();
    for budget in &summary.agents {
        let number: usize = budget.agent.strip_prefix("agent-").unwrap().parse().unwrap();
        assert_eq!((budget.spent_today_usd.nanos(), budget.reserved_usd), (spent[number], Usd::ZERO));
    }
    assert_eq!(summary.org_spent_month_usd.nanos(), spent.iter().sum::<i64>());
    let left = summary.org_monthly_limit_usd.nanos() - spent.iter().sum::<i64>();
    assert_eq!(summary.org_remaining_month_usd.nanos(), left.max(0));
}

#[test]
fn totals_are_exact_below_the_limits() {
    let guard = guard(Limits { anomaly_detection: false, ..Limits::default() });
    let spent = all(&guard, true);
    assert!(spent.iter().sum::<i64>() > 100_000_000_000);
    assert_balanced(&guard, &spent);
}

#[test]
fn no_limit_is_exceeded_when_all_are_reached() {
    let team = ScopeLimits { daily: Some("45".parse().unwrap()), ..ScopeLimits::default() };
    let limits = Limits {
        per_agent_daily: "4".parse().unwrap(),
        org_monthly: "100".parse().unwrap(),
        per_task: "1000".parse().unwrap(),
        auto_throttle: false,
        anomaly_detection: false,
        teams: [("even".to_owned(), team)].into(),
        ..Limits::default()
    };
    let guard = guard(limits);
    for agent in (0..AGENTS).step_by(2) {
        // The team is known from the first amount on.
        guard.check(&Spend { agent: &format!("agent-{agent}"), team: Some("even"), ..Spend::default() }).unwrap();
    }
    let (done, worst) = (AtomicBool::new(false), AtomicI64::new(0));
    let spent = std::thread::scope(|scope| {
        // Another thread reads meanwhile.
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let over = guard.org_spent_month().nanos() - 100_000_000_000;
                worst.fetch_max(over, Ordering::Relaxed);
                for agent in 0..AGENTS {
                    let budget = guard.budget(&format!("agent-{agent}"));
                    let over = (budget.spent_today_usd + budget.reserved_usd).nanos() - 4_000_000_000;
                    worst.fetch_max(over, Ordering::Relaxed);
                }
            }
        });
        let spent = all(&guard, false);
        done.store(true, Ordering::Relaxed);
        spent
    });
    assert_eq!(worst.into_inner(), 0);
    assert_balanced(&guard, &spent);
    let total: i64 = spent.iter().sum();
    assert!((99_990_000_000..=100_000_000_000).contains(&total), "the limit was reached and not exceeded: {total}");
    // Each threshold was reported once, with what was spent when it was crossed, not a charge later.
    let alerts = guard.alerts();
    for threshold in [0.5, 0.75, 0.9, 0.95] {
        let of_org = alerts
            .iter()
            .filter(|alert| alert.scope == CostScope::Org && alert.kind == CostAlertKind::Threshold { threshold });
        let spent: Vec<_> = of_org.map(|alert| alert.spent_usd.nanos()).collect();
        let at = (threshold * 100e9) as i64;
        assert!(matches!(spent[..], [spent] if (at..at + 2_000_000).contains(&spent)), "{threshold}: {spent:?}");
    }
    assert!(!alerts.iter().any(|alert| matches!(alert.kind, CostAlertKind::Exceeded { .. })));
    let of_team: i64 = spent.iter().step_by(2).sum();
    assert!((44_990_000_000..=45_000_000_000).contains(&of_team), "the team's limit too: {of_team}");
}
