//! The behaviour of a guard: thresholds, throttling, days and months, reservations, alerts.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sre_core::{
    AgentEvent, Clock, CostAlert, CostAlertKind, CostScope, CostStatus, ManualClock, MemoryLedger, Observe, Persist,
    StateReader, StateWriter, Timestamp, Usd,
};
use sre_cost::{AgentBudget, CostGuard, CostObserver, CostSummary, CostsSnapshot, Denied, Limits, ScopeLimits, Spend};

const HOUR: Duration = Duration::from_secs(3_600);

fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Creates a guard at noon of a day in the middle of a month.
fn guard(limits: Limits) -> (Arc<CostGuard>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(at("2026-11-23T12:00:00Z")));
    (Arc::new(CostGuard::with_limits(limits).unwrap().with_clock(clock.clone())), clock)
}

/// Ten dollars per agent and day, and per task.
fn ten() -> Limits {
    Limits { per_agent_daily: usd("10"), per_task: usd("10"), anomaly_detection: false, ..Limits::default() }
}

fn kinds(alerts: &[CostAlert]) -> Vec<&CostAlertKind> {
    alerts.iter().map(|alert| &alert.kind).collect()
}

#[test]
fn the_order_of_builders_does_not_matter() {
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Clock,
        Store,
        Charge,
    }
    use Step::{Charge, Clock, Store};
    let noon = at("2026-11-23T12:00:00Z");
    for steps in [
        [Clock, Store, Charge],
        [Clock, Charge, Store],
        [Store, Clock, Charge],
        [Store, Charge, Clock],
        [Charge, Clock, Store],
        [Charge, Store, Clock],
    ] {
        let mut guard = CostGuard::with_limits(ten()).unwrap().with_clock(Arc::new(ManualClock::new(noon)));
        for step in steps {
            guard = match step {
                Clock => guard.with_clock(Arc::new(ManualClock::new(noon.saturating_add(HOUR)))),
                Store => guard.with_store(Arc::new(MemoryLedger::default())).unwrap(),
                Charge => {
                    guard.record_cost("a", "t", usd("8.5"), &[]).unwrap();
                    guard
                }
            };
        }
        let budget = guard.budget("a");
        let found = (budget.spent_today_usd, budget.tasks_today, budget.throttled(), guard.org_spent_month());
        assert_eq!(found, (usd("8.5"), 1, true, usd("8.5")), "{steps:?}");
        assert_eq!(guard.task("a", "t").map(|task| task.spent_usd), Some(usd("8.5")), "{steps:?}");
        assert_eq!(guard.alerts().len(), 3, "two thresholds and throttling, in {steps:?}");
    }
}

#[test]
fn a_clock_of_another_day_forgets_nothing_that_no_store_has() {
    let [before, later] = ["2026-11-23T12:00:00Z", "2026-12-24T12:00:00Z"].map(at);
    let charged = |guard: CostGuard| {
        guard.record_cost("a", "t", usd("2"), &[]).unwrap();
        guard.with_clock(Arc::new(ManualClock::new(later)))
    };
    let new = || CostGuard::with_limits(ten()).unwrap().with_clock(Arc::new(ManualClock::new(before)));
    assert_eq!(charged(new()).budget("a").spent_today_usd, usd("2"));
    // A store knows the day of each charge.
    let guard = charged(new().with_store(Arc::new(MemoryLedger::default())).unwrap());
    assert_eq!((guard.budget("a").spent_today_usd, guard.org_spent_month()), (Usd::ZERO, Usd::ZERO));
}

#[test]
fn thresholds_throttling_and_killing_happen_once_a_day() {
    let (guard, clock) = guard(ten());
    let record = |cost: &str| guard.record_cost("a", "t", usd(cost), &[]).unwrap();
    assert_eq!(record("4.999999999"), []);
    let alerts = record("0.000000001");
    assert_eq!(kinds(&alerts), [&CostAlertKind::Threshold { threshold: 0.5 }]);
    assert_eq!((alerts[0].spent_usd, alerts[0].limit_usd), (usd("5"), usd("10")));
    assert_eq!(record("2"), []);
    let alerts = record("1.5");
    assert_eq!(
        kinds(&alerts),
        [&CostAlertKind::Threshold { threshold: 0.75 }, &CostAlertKind::Throttled { slo: None }]
    );
    assert!(guard.budget("a").throttled());
    // One task per ten seconds.
    assert_eq!(guard.check_task("a", usd("0.01")), Ok(()));
    let denied = guard.check_task("a", usd("0.01")).unwrap_err();
    assert_eq!(denied, Denied::Throttled { scope: CostScope::Agent("a".into()), retry_after: Duration::from_secs(10) });
    clock.advance(Duration::from_secs(10));
    assert_eq!(guard.check_task("a", usd("0.01")), Ok(()));
    // To 95 % and beyond.
    let alerts = record("1");
    let expected = [0.9, 0.95].map(|threshold| CostAlertKind::Threshold { threshold });
    assert_eq!(kinds(&alerts), [&expected[0], &expected[1], &CostAlertKind::Killed]);
    assert_eq!(guard.check_task("a", usd("0.01")), Err(Denied::Killed { scope: CostScope::Agent("a".into()) }));
    assert!(guard.check_task("b", usd("0.01")).is_ok(), "other agents are not affected");
    // A new day unblocks it, and thresholds are reported again.
    clock.advance(12 * HOUR);
    assert_eq!(guard.check_task("a", usd("0.01")), Ok(()));
    assert_eq!(kinds(&guard.alerts()[guard.alerts().len() - 1..]), [&CostAlertKind::Unblocked]);
    let alerts = guard.record_cost("a", "another", usd("5"), &[]).unwrap();
    assert_eq!(kinds(&alerts), [&CostAlertKind::Threshold { threshold: 0.5 }]);
    assert_eq!(guard.org_spent_month(), usd("14.5"));
}

/// A retry with all leases revoked must not consume a second rate-limit token.
#[test]
fn a_throttled_agent_keeps_its_rate_near_a_threshold_of_the_organisation() {
    let (guard, clock) = guard(Limits { org_monthly: usd("100"), alert_thresholds: vec![0.2], ..ten() });
    guard.check_and_charge("a", usd("9")).unwrap();
    assert!(guard.budget("a").throttled());
    for agent in ["b", "c"] {
        guard.check_and_charge(agent, usd("5.4")).unwrap();
    }
    for _ in 0..8 {
        clock.advance(Duration::from_secs(10));
        assert!(guard.check_and_charge("a", usd("0.05")).is_ok());
        assert!(guard.check_and_charge("a", usd("0.05")).is_err());
        guard.check_and_charge("b", usd("0.02")).unwrap();
    }
    let reported = guard.alerts().iter().filter(|alert| alert.scope == CostScope::Org).count();
    assert_eq!(reported, 1);
}

#[test]
fn a_reset_unblocks_an_agent() {
    let (guard, _) = guard(ten());
    for agent in ["a", "b"] {
        guard.record_cost(agent, "t", usd("9.5"), &[]).unwrap();
    }
    guard.reset_daily(Some("a"));
    assert_eq!(guard.check_task("a", usd("1")), Ok(()));
    assert!(guard.budget("b").killed());
    guard.reset_daily(None);
    assert_eq!(guard.check_task("b", usd("1")), Ok(()));
    assert_eq!(guard.org_spent_month(), usd("19"), "the month goes on");
}

#[test]
fn without_auto_throttle_only_the_limits_apply() {
    let (guard, _) = guard(Limits { auto_throttle: false, ..ten() });
    guard.check_and_charge("a", usd("9.99")).unwrap();
    assert_eq!(guard.check_and_charge("a", usd("0.01")).map(|_| ()), Ok(()));
    let denied = guard.check_and_charge("a", usd("0.000000001")).unwrap_err();
    assert_eq!(denied.to_string(), "agent a: budget exceeded: $0.000000001 requested, $0 of $10 left");
}

#[test]
fn recorded_costs_beyond_a_limit_are_charged_and_reported() {
    let (guard, _) = guard(Limits { org_monthly: usd("11"), alert_thresholds: vec![], ..ten() });
    let alerts = guard.record_cost("a", "t", usd("12.5"), &[]).unwrap();
    let excess = |excess: &str| CostAlertKind::Exceeded { excess_usd: usd(excess) };
    let reported: Vec<_> = alerts.iter().map(|alert| (alert.scope.clone(), alert.kind.clone())).collect();
    let of_agent = CostScope::Agent("a".into());
    let expected = [
        (CostScope::Org, excess("1.5")),
        (of_agent.clone(), CostAlertKind::TaskExceeded { task: "t".into() }),
        (of_agent.clone(), CostAlertKind::Throttled { slo: None }),
        (of_agent.clone(), CostAlertKind::Killed),
        (of_agent, excess("2.5")),
    ];
    assert_eq!(reported, expected);
    // Every agent is denied now.
    let denied = guard.check_and_charge("b", usd("0.1")).unwrap_err();
    assert_eq!(denied.to_string(), "organisation: budget exceeded: $0.1 requested, $0 of $11 left");
    assert_eq!(guard.org_remaining_month(), Usd::ZERO);
}

#[test]
fn a_reservation_is_committed_released_or_expires() {
    let (guard, clock) = guard(ten());
    let reservation = guard.reserve("a", usd("6")).unwrap();
    assert!(guard.reserve("a", usd("5")).is_err());
    assert_eq!(reservation.commit(usd("4")).unwrap(), []);
    let budget = guard.budget("a");
    assert_eq!((budget.spent_today_usd, budget.reserved_usd), (usd("4"), Usd::ZERO));
    drop(guard.reserve("a", usd("5")).unwrap());
    assert_eq!(guard.budget("a").remaining_today_usd(), usd("6"));
    // A leaked one expires, and a commit after that is still charged.
    let late = guard.reserve_owned(&("a", usd("5")).into()).unwrap();
    let leaked = guard.reserve("b", usd("5")).unwrap();
    std::mem::forget(leaked);
    assert_eq!(guard.org_remaining_month(), usd("4986"));
    clock.advance(Duration::from_secs(15 * 60));
    assert_eq!(guard.budget("b").reserved_usd, Usd::ZERO);
    assert_eq!(guard.get_budget("b"), guard.budget("b"));
    assert_eq!(guard.org_remaining_month(), usd("4996"));
    late.commit(usd("5")).unwrap();
    assert_eq!(guard.budget("a").spent_today_usd, usd("9"));
}

#[test]
fn an_actual_cost_above_its_estimate_is_reported() {
    let (guard, _) = guard(Limits { alert_thresholds: vec![], auto_throttle: false, ..ten() });
    let one = guard.reserve("a", usd("5")).unwrap();
    let two = guard.reserve("a", usd("5")).unwrap();
    let alerts = one.commit(usd("5.25")).unwrap();
    assert_eq!(kinds(&alerts), [&CostAlertKind::Exceeded { excess_usd: usd("0.25") }]);
    assert_eq!(two.commit(usd("5")).unwrap(), [], "the excess is reported once");
}

#[test]
fn months_and_days_roll_over_once_by_the_clock_of_the_zone_even_after_a_long_sleep() {
    let berlin = jiff::tz::TimeZone::get("Europe/Berlin").unwrap();
    let limits = Limits { org_monthly: usd("20"), time_zone: berlin, auto_throttle: false, ..ten() };
    let (guard, clock) = guard(limits);
    let spend = |agent| guard.check_and_charge(agent, usd("10")).is_ok();
    clock.set(at("2026-11-30T22:59:59Z"));
    assert!(spend("a") && spend("b") && !spend("c"));
    clock.set(at("2026-11-30T23:00:00Z"));
    assert!(spend("a") && spend("b") && !spend("c"), "December has begun in Berlin");
    clock.set(at("2026-12-01T23:00:00Z"));
    assert!(!spend("a"), "a new day, but the month is spent");
    clock.set(at("2027-03-15T12:00:00Z"));
    assert!(spend("a") && !spend("a") && spend("b") && !spend("c"), "once after months of sleep");
    // A clock that is set back does not reset a budget.
    clock.set(at("2027-02-10T12:00:00Z"));
    assert!(!spend("a") && !spend("c"));
}

#[test]
fn a_reservation_over_midnight_counts_for_the_new_day() {
    let (guard, clock) = guard(ten());
    clock.set(at("2026-11-30T23:59:00Z"));
    let reservation = guard.reserve("a", usd("6")).unwrap();
    guard.check_and_charge("a", usd("3")).unwrap();
    clock.set(at("2026-12-01T00:01:00Z"));
    assert!(guard.check_and_charge("a", usd("5")).is_err());
    assert!(guard.check_and_charge("a", usd("4")).is_ok());
    reservation.commit(usd("6")).unwrap();
    assert_eq!(guard.budget("a").spent_today_usd, usd("10"));
    assert_eq!(guard.org_spent_month(), usd("10"));
}

#[test]
fn teams_and_models_have_budgets_and_settings_of_their_own() {
    let daily = |amount: &str| ScopeLimits { daily: Some(usd(amount)), ..ScopeLimits::default() };
    let team = ScopeLimits { per_agent_daily: Some(usd("4")), per_task: Some(usd("3")), ..daily("5") };
    let limits = Limits {
        teams: [("search".to_owned(), team)].into(),
        models: [("gpt-5".to_owned(), daily("6"))].into(),
        alert_thresholds: vec![0.9],
        ..ten()
    };
    let (guard, _) = guard(limits);
    let spend = |agent, amount: &str| Spend { agent, team: Some("search"), amount: usd(amount), ..Spend::default() };
    guard.charge(&spend("a", "3")).unwrap();
    assert_eq!(guard.budget("a").daily_limit_usd, usd("4"));
    assert!(matches!(guard.charge(&spend("b", "3.5")), Err(Denied::Task { .. })));
    let denied = guard.charge(&spend("b", "2.5")).unwrap_err();
    assert_eq!(denied.to_string(), "team search: budget exceeded: $2.5 requested, $2 of $5 left");
    let alerts = guard.charge(&spend("b", "2")).unwrap();
    assert_eq!(alerts[0].scope, CostScope::Team("search".into()));
    assert_eq!(alerts[0].kind, CostAlertKind::Threshold { threshold: 0.9 });
    // The team is known from then on.
    assert!(guard.check_and_charge("b", usd("0.1")).is_err());

    let of_model = |amount: &str| Spend { agent: "c", model: Some("gpt-5"), amount: usd(amount), ..Spend::default() };
    let reservation = guard.reserve_for(&of_model("6")).unwrap();
    let denied = guard.charge(&of_model("0.5")).unwrap_err();
    assert_eq!(denied.to_string(), "model gpt-5: budget exceeded: $0.5 requested, $0 of $6 left");
    reservation.commit(usd("1")).unwrap();
    assert!(guard.charge(&of_model("5")).is_ok());
    assert!(guard.check_and_charge("c", usd("1")).is_ok(), "other models are not limited");
}

#[test]
fn a_model_limits_each_agent_and_task() {
    let on_model = ScopeLimits {
        per_task: Some(usd("2")),
        per_agent_daily: Some(usd("4")),
        alert_thresholds: Some(vec![]),
        throttle_at: Some(0.5),
        kill_at: Some(0.75),
        ..ScopeLimits::default()
    };
    let limits = Limits { models: [("gpt-5".to_owned(), on_model)].into(), alert_thresholds: vec![], ..ten() };
    let (guard, clock) = guard(limits);
    let spend = |task, model, amount: &str| Spend {
        agent: "a",
        task: Some(task),
        model: Some(model),
        amount: usd(amount),
        ..Spend::default()
    };
    let scope = CostScope::AgentOnModel { agent: "a".into(), model: "gpt-5".into() };
    // A task.
    guard.charge(&spend("t1", "gpt-5", "1.5")).unwrap();
    guard.charge(&spend("t1", "gpt-5-mini", "1.5")).unwrap();
    let denied = guard.charge(&spend("t1", "gpt-5", "0.6")).unwrap_err();
    assert_eq!(denied.to_string(), "task limit exceeded: the task would cost $2.1 on gpt-5, the limit is $2");
    assert_eq!(guard.task("a", "t1").unwrap().spent_usd, usd("3"));
    // A day: what is reserved counts, and what is released does not.
    let reservation = guard.reserve_for(&spend("t2", "gpt-5", "1.9")).unwrap();
    let denied = guard.charge(&spend("t3", "gpt-5", "0.7")).unwrap_err();
    assert_eq!(denied.to_string(), "agent a on model gpt-5: budget exceeded: $0.7 requested, $0.6 of $4 left");
    drop(reservation);
    let alerts = guard.charge(&spend("t3", "gpt-5", "0.5")).unwrap();
    assert_eq!((kinds(&alerts), &alerts[0].scope), (vec![&CostAlertKind::Throttled { slo: None }], &scope));
    // Throttled on this model only.
    guard.charge(&spend("t4", "gpt-5", "0.1")).unwrap();
    let denied = guard.charge(&spend("t4", "gpt-5", "0.1")).unwrap_err();
    let retry_after = Duration::from_secs(10);
    assert_eq!(denied, Denied::Throttled { scope: scope.clone(), retry_after });
    guard.charge(&spend("t4", "gpt-5-mini", "0.1")).unwrap();
    // A recorded excess is reported, and kills.
    let alerts = guard.record(&spend("t5", "gpt-5", "2.5")).unwrap();
    let expected = [
        CostAlertKind::TaskExceeded { task: "t5".into() },
        CostAlertKind::Killed,
        CostAlertKind::Exceeded { excess_usd: usd("0.6") },
    ];
    assert_eq!(
        alerts.iter().map(|alert| (&alert.kind, &alert.scope)).collect::<Vec<_>>(),
        [(&expected[0], &scope), (&expected[1], &scope), (&expected[2], &scope)]
    );
    assert_eq!(guard.charge(&spend("t6", "gpt-5", "0.1")), Err(Denied::Killed { scope: scope.clone() }));
    let snapshot = guard.snapshot_at(clock.now());
    let budget = snapshot.budgets.iter().find(|budget| budget.scope == scope).unwrap();
    assert_eq!((budget.spent_usd, budget.limit_usd, budget.status), (usd("4.6"), usd("4"), CostStatus::Killed));
    let json = serde_json::to_value(budget).unwrap();
    assert_eq!([&json["scope"], &json["name"], &json["model"]], ["agent_on_model", "a", "gpt-5"]);
    // A reset unblocks it.
    guard.reset_daily(Some("a"));
    assert_eq!(kinds(&guard.alerts()).last(), Some(&&CostAlertKind::Unblocked));
    guard.charge(&spend("t7", "gpt-5", "1")).unwrap();
}

#[test]
fn the_cost_of_each_task_is_kept() {
    let (guard, _) = guard(Limits { max_tasks: 160, ..Limits::default() });
    let parts = |model, tool| [("gpt-5", usd(model)), ("search", usd(tool))];
    guard.record_cost("a", "t1", usd("0.75"), &parts("0.50", "0.25")).unwrap();
    guard.record_cost("a", "t1", usd("0.50"), &parts("0.50", "0")).unwrap();
    guard.record_cost("a", "t2", usd("0.25"), &[]).unwrap();
    let task = guard.task("a", "t1").unwrap();
    assert_eq!(task.spent_usd, usd("1.25"));
    assert_eq!(task.breakdown, [("gpt-5".to_owned(), usd("1")), ("search".to_owned(), usd("0.25"))]);
    let budget = guard.budget("a");
    assert_eq!((budget.tasks_today, budget.avg_cost_per_task()), (2, Some(usd("0.75"))));
    assert_eq!(budget.utilization_percent(), Some(1.5));
    let more = Spend { agent: "a", task: Some("t1"), amount: usd("0.80"), ..Spend::default() };
    assert_eq!(guard.check(&more), Err(Denied::Task { model: None, would_cost: usd("2.05"), limit: usd("2") }));
    let reported = guard.record(&more).unwrap();
    assert_eq!(kinds(&reported), [&CostAlertKind::TaskExceeded { task: "t1".into() }]);
    assert_eq!(kinds(&guard.record(&more).unwrap()), [] as [&CostAlertKind; 0], "once per task");
    for number in 0..10_000 {
        guard.record_cost("a", &number.to_string(), usd("0.001"), &[]).unwrap();
    }
    assert_eq!(guard.task("a", "t1"), None, "the oldest are evicted");
    assert_eq!(guard.budget("a").tasks_today, 10_002);
}

#[test]
fn a_task_that_continues_after_midnight_is_one_of_the_new_day_too() {
    let (guard, clock) = guard(ten());
    guard.record_cost("a", "t1", usd("1"), &[]).unwrap();
    clock.advance(HOUR * 13);
    guard.record_cost("a", "t1", usd("0.5"), &[]).unwrap();
    guard.record_cost("a", "t1", usd("0.25"), &[]).unwrap();
    let budget = guard.budget("a");
    assert_eq!((budget.tasks_today, budget.avg_cost_per_task()), (1, Some(usd("0.75"))));
}

#[test]
fn the_json_of_a_budget_has_what_remains_the_utilization_and_the_mean() {
    let (guard, clock) = guard(ten());
    guard.record_cost("a", "t1", usd("1"), &[("gpt-5", usd("0.75")), ("search", usd("0.25"))]).unwrap();
    guard.record_cost("a", "t2", usd("1.5"), &[]).unwrap();
    let _open = guard.reserve("a", usd("0.5")).unwrap();
    let (budget, snapshot, summary) = (guard.budget("a"), guard.snapshot_at(clock.now()), guard.summary());
    let of_agent = [json!(budget), json!(snapshot.budgets[0]), json!(summary.agents[0])];
    for json in &of_agent {
        let found = ["remaining_usd", "utilization_percent", "avg_cost_per_task"].map(|field| json[field].clone());
        assert_eq!(found, [json!("7"), json!(25.0), json!("1.25")], "{json}");
    }
    let org = json!(snapshot.budgets.last().unwrap());
    let found = ["remaining_usd", "utilization_percent", "avg_cost_per_task"].map(|field| org[field].clone());
    assert_eq!(found, [json!("4997"), json!(0.05), Value::Null]);
    assert_eq!(serde_json::from_value::<AgentBudget>(json!(budget)).unwrap(), budget);
    assert_eq!(serde_json::from_value::<CostSummary>(json!(summary)).unwrap(), summary);
    assert_eq!(serde_json::from_value::<CostsSnapshot>(json!(snapshot)).unwrap(), snapshot);
    let task = json!({
        "agent": "a", "task": "t1", "spent_usd": "1", "breakdown": {"gpt-5": "0.75", "search": "0.25"},
        "last_at": clock.now(),
    });
    assert_eq!(json!(guard.task("a", "t1")), task);
}

#[test]
fn a_task_does_not_displace_one_whose_name_collides_in_a_hash_without_a_seed() {
    let (guard, _) = guard(ten());
    // These collide in `FxHasher` of rustc-hash 2.1.
    let [one, other] =
        ["0000000a", "0000000b"].map(|part| format!("task-00000017755----------------OMFo-RhA{part}----------------"));
    guard.record_cost("a", &one, usd("3"), &[]).unwrap();
    guard.record_cost("a", &other, usd("2"), &[]).unwrap();
    assert_eq!(guard.task("a", &one).map(|task| task.spent_usd), Some(usd("3")));
    assert_eq!(guard.task("a", &other).map(|task| task.spent_usd), Some(usd("2")));
}

#[test]
fn an_invalid_amount_is_denied_and_named() {
    let (guard, _) = guard(Limits::default());
    for amount in [Usd::from_nanos(-1), Usd::from_nanos(i64::MIN), Usd::from_nanos(i64::MAX), usd("1000000000.01")] {
        let invalid = |field| Denied::InvalidAmount { field, found: amount };
        assert_eq!(guard.check_task("a", amount), Err(invalid("estimate")));
        assert_eq!(guard.reserve("a", amount).map(drop), Err(invalid("estimate")));
        assert_eq!(guard.check_and_charge("a", amount), Err(invalid("amount")));
        assert_eq!(guard.record_cost("a", "t", amount, &[]), Err(invalid("cost_usd")));
        assert_eq!(guard.reserve("a", usd("1")).unwrap().commit(amount), Err(invalid("actual")));
    }
    assert_eq!(guard.budget("a").remaining_today_usd(), usd("100"), "nothing stays charged or reserved");
    for number in [f64::NAN, f64::INFINITY, -f64::INFINITY, 1e300] {
        assert!(Usd::try_from(number).is_err(), "{number}");
    }
    // Sums saturate.
    for _ in 0..20 {
        guard.record_cost("b", "t", usd("1000000000"), &[]).unwrap();
    }
    assert!(guard.check_task("b", Usd::ZERO).is_err());
    assert!(guard.org_spent_month() > usd("9000000000"));
}

#[test]
fn an_unusual_cost_and_a_loop_are_reported() {
    let (guard, clock) = guard(Limits { per_task: usd("50"), ..Limits::default() });
    let mut reported = Vec::new();
    for number in 0..100i64 {
        clock.advance(Duration::from_secs(20 * 60));
        reported
            .extend(guard.record_cost("a", "t", Usd::from_nanos(100_000_000 + number % 7 * 1_000_000), &[]).unwrap());
    }
    assert_eq!(reported, []);
    let alerts = guard.record_cost("a", "t", usd("0.9"), &[]).unwrap();
    assert!(matches!(kinds(&alerts)[0], CostAlertKind::Anomaly { score: Some(score), .. } if *score > 3.5));
    clock.advance(Duration::from_secs(60));
    for _ in 0..100 {
        reported.extend(guard.record_cost("a", "t", usd("0.1"), &[]).unwrap());
    }
    let runaways = reported.iter().filter(|alert| matches!(alert.kind, CostAlertKind::Runaway { .. })).count();
    assert_eq!(runaways, 1, "{reported:?}");
}

#[test]
fn agents_beyond_the_maximum_count_for_the_organisation_only() {
    let (guard, clock) = guard(Limits { max_agents: 16, org_monthly: usd("5"), ..ten() });
    let spent = (0..200).filter(|number| guard.check_and_charge(&number.to_string(), usd("0.1")).is_ok()).count();
    assert_eq!(spent, 50);
    let snapshot = guard.snapshot_at(clock.now());
    assert!(snapshot.overflow > 0 && snapshot.budgets.len() <= 17);
    assert_eq!(guard.org_spent_month(), usd("5"));
}

#[test]
fn a_summary_has_every_agent() {
    let (guard, clock) = guard(Limits::default());
    guard.record_cost("b", "t", usd("20"), &[]).unwrap();
    guard.record_cost("a", "t", usd("1"), &[]).unwrap();
    clock.advance(2 * HOUR);
    guard.record_cost("b", "t", usd("40"), &[]).unwrap();
    let summary = guard.summary();
    let agents: Vec<_> = summary.agents.iter().map(|agent| (&*agent.agent, agent.spent_today_usd)).collect();
    assert_eq!(agents, [("a", usd("1")), ("b", usd("60"))]);
    assert_eq!(summary.org_remaining_month_usd, usd("4939"));
    // Sixty dollars in two hours: the remaining forty last 80 minutes.
    let snapshot = guard.snapshot_at(clock.now());
    let of_b = snapshot.budgets.iter().find(|budget| budget.scope == CostScope::Agent("b".into())).unwrap();
    assert_eq!(of_b.exhausted_at, Some(clock.now().saturating_add(Duration::from_secs(80 * 60))));
}

#[test]
fn an_observer_restores_what_another_saved() {
    let on_model = ScopeLimits { per_agent_daily: Some(usd("3")), ..ScopeLimits::default() };
    let limits =
        || Limits { models: [("gpt-5".to_owned(), on_model.clone())].into(), per_agent_daily: usd("2"), ..ten() };
    let (old, clock) = guard(limits());
    let observe = |guard: &Arc<CostGuard>, observer: &CostObserver, json: &str| {
        let event = AgentEvent::from_json(json.as_bytes()).unwrap();
        observer.observe(&event, &mut |_| {});
        guard.budget("a").spent_today_usd
    };
    let call = r#"{"event":"llm_call","time":1,"agent":"a","task":"t","model":"gpt-5","cost_usd":"1.5"}"#;
    let before = CostObserver::new(old.clone());
    observe(&old, &before, call);
    let saved = || {
        let mut state = StateWriter::default();
        before.save(&mut state);
        state.finish().unwrap()
    };
    let restored = |clock: &Arc<ManualClock>| {
        let guard = Arc::new(CostGuard::with_limits(limits()).unwrap().with_clock(clock.clone()));
        let observer = CostObserver::new(guard.clone());
        observer.restore(&mut StateReader::new(&saved())).unwrap();
        (guard, observer)
    };
    let (new, after) = restored(&clock);
    assert_eq!(new.snapshot_at(clock.now()).budgets.len(), old.snapshot_at(clock.now()).budgets.len());
    assert_eq!(kinds(&new.alerts()), Vec::<&CostAlertKind>::new(), "alerts from before are not sent again");
    // The task's own total replaces the sum of its calls, also of those from before the restart.
    let end = r#"{"event":"task_finished","time":2,"agent":"a","task":"t","success":true,"cost_usd":"1.25"}"#;
    assert_eq!(observe(&new, &after, end), usd("1.25"));
    assert_eq!(new.org_spent_month(), usd("1.25"));
    // Another day, another month.
    clock.advance(24 * HOUR);
    let (next_day, _) = restored(&clock);
    assert_eq!((next_day.budget("a").spent_today_usd, next_day.org_spent_month()), (Usd::ZERO, usd("1.5")));
    clock.advance(31 * 24 * HOUR);
    assert_eq!(restored(&clock).0.org_spent_month(), Usd::ZERO);
}
