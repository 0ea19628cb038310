//! The ten rules of `docs/slo.md`, each as a newcomer would try it.

use std::time::Duration;

use sre_core::event::TaskFinished;
use sre_core::{AgentEvent, Status, Timestamp, Window};
use sre_slo::{SliRegistry, Slo, parse};

const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);

/// An objective, and the time of its next event.
struct Service {
    slo: Slo,
    now: Timestamp,
}

impl Service {
    fn new(yaml: &str) -> Self {
        let registry = SliRegistry::default();
        let spec = parse(yaml, "slo.yaml", &registry).unwrap().remove(0);
        Self { slo: Slo::from_spec(&spec, "support", &registry).unwrap(), now: NOW }
    }

    fn target(percent: u32) -> Self {
        Self::new(&format!("name: answers\ntarget: {percent}%\nindicators: [{{type: task_success_rate}}]\n"))
    }

    fn tasks(self, good: u32, bad: u32) -> Self {
        self.lasting(good, bad, 10.0)
    }

    fn lasting(self, good: u32, bad: u32, duration_ms: f64) -> Self {
        for task in 0..good + bad {
            let mut finished = TaskFinished::new(task < good);
            finished.duration_ms = Some(duration_ms);
            finished.cost_usd = "1".parse().ok();
            self.slo.observe(&AgentEvent::new(self.now, "support", finished));
        }
        self
    }

    fn after(mut self, wait: Window) -> Self {
        self.now = self.now.saturating_add(wait.duration());
        self
    }

    fn status(&self) -> Status {
        self.slo.snapshot_at(self.now).status
    }
}

const RULES: [(&str, fn()); 10] = [
    ("An objective with target 95 % has an error budget of 5 %: of 100 events, 5 may be bad.", || {
        let snapshot = Service::target(95).tasks(95, 5).slo.snapshot_at(NOW);
        assert_eq!((snapshot.error_budget.total, snapshot.error_budget.consumed), (Some(0.05), Some(1.0)));
    }),
    (
        "The burn rate is the share of bad events divided by that budget. At 1 the budget lasts exactly for its window, at 10 for a tenth of it.",
        || {
            for (bad, rate) in [(5, 1.0), (50, 10.0)] {
                // A month of good events before leaves the whole budget.
                let service = Service::target(95).tasks(1_000_000, 0).after(Window::HOUR).after(Window::minutes(1));
                let snapshot = service.tasks(100 - bad, bad).slo;
                let snapshot = snapshot.snapshot_at(NOW.saturating_add(Duration::from_secs(3_660)));
                assert_eq!(snapshot.burn_rates[2].rate, Some(rate));
                let days = snapshot.error_budget.spent_in_s.unwrap() / 86_400.0;
                assert!((days * rate / 30.0 - 1.0).abs() < 0.01, "{days} days at {rate}");
            }
        },
    ),
    ("A burn rate of 2 over the last hour and the last 5 minutes is a `warning`, one of 10 is `critical`.", || {
        for (bad, expected) in
            [(99, Status::Healthy), (100, Status::Warning), (499, Status::Warning), (500, Status::Critical)]
        {
            let service = Service::target(95).tasks(100_000, 0).after(Window::hours(2));
            assert_eq!(service.tasks(1_000 - bad, bad).status(), expected, "{bad} of 1,000");
        }
        let over =
            Service::target(95).tasks(100_000, 0).after(Window::hours(2)).tasks(0, 500).after(Window::minutes(6));
        assert_eq!(over.tasks(500, 0).status(), Status::Healthy, "the last five minutes are good");
    }),
    (
        "Few bad events raise no alert: there must be at least 3 (with a target of 100 %, one is enough), and less than one chance in 2,000 that a service within its target has them.",
        || {
            let alerts = |good, bad| Service::target(90).tasks(good, bad).slo.budget().reading(NOW).alerts;
            let fires = |good, bad| alerts(good, bad).iter().any(|alert| alert.firing);
            assert!(!fires(0, 2) && fires(0, 4));
            assert!(!fires(0, 3), "a chance of 1 in 1,000");
            assert_eq!(Service::target(100).tasks(0, 1).status(), Status::Exhausted);
            assert!(!fires(8, 2) && !fires(90, 19) && fires(70, 30));
        },
    ),
    (
        "A threshold that is reached without that evidence is `unknown`, and the reason says so: \"2 of 10 bad: too few to tell from 90 %\".",
        || {
            let service = Service::target(90).tasks(8, 2);
            assert_eq!(service.status(), Status::Unknown);
            assert_eq!(service.slo.snapshot_at(NOW).reasons(), ["2 of 10 bad: too few to tell from 90 %"]);
        },
    ),
    (
        "If the last hour holds fewer than 5 events, the last 6 hours are judged instead; if those hold fewer too, the last day, and then the last 3 days.",
        || {
            let mut service = Service::target(90).tasks(1_000, 0).after(Window::WEEK);
            for _ in 0..5 {
                service = service.tasks(0, 1).after(Window::hours(1));
            }
            assert_eq!(service.tasks(0, 1).status(), Status::Critical);
        },
    ),
    (
        "When events stop, an alert keeps firing until good events bring the last 5 minutes with events below its threshold, or the last event leaves the budget's window.",
        || {
            let burning =
                || Service::target(90).tasks(1_000, 0).after(Window::days(20)).tasks(0, 50).after(Window::days(9));
            assert_eq!(burning().status(), Status::Critical);
            assert_eq!(
                burning().tasks(1, 0).status(),
                Status::Healthy,
                "{:?}",
                burning().tasks(1, 0).slo.snapshot_at(NOW.saturating_add(Window::days(29).duration()))
            );
            assert_eq!(burning().after(Window::days(22)).status(), Status::Unknown, "no events are left");
        },
    ),
    ("A budget that is spent with that evidence, or with 30 bad events, is `exhausted`.", || {
        assert_eq!(Service::target(90).tasks(1, 5).status(), Status::Exhausted);
        assert_eq!(
            Service::target(90).tasks(270, 30).status(),
            Status::Exhausted,
            "exactly spent, which may be chance"
        );
        assert_eq!(Service::target(90).tasks(261, 29).status(), Status::Unknown);
    }),
    (
        "A latency target of p95 ≤ 2 s is a budget too: 5 % of the tasks may take longer. A mean that misses its target by evidence is a `warning`.",
        || {
            let latency =
                "name: answers\ntarget: 90%\nindicators: [{type: response_latency, target_ms: 2000, percentile: 0.95}]";
            let snapshot = Service::new(latency).tasks(95, 0).lasting(5, 0, 2_500.0).slo.snapshot_at(NOW);
            let budget = snapshot.indicators[0].error_budget.unwrap();
            assert_eq!((budget.total, budget.consumed), (Some(0.05), Some(1.0)));
            let cost = "name: answers\ntarget: 90%\nindicators: [{type: cost_per_task, target_usd: 0.9}]";
            assert_eq!(Service::new(cost).tasks(20, 0).status(), Status::Warning);
            assert_eq!(Service::new(&cost.replace("0.9}", "1}")).tasks(20, 0).status(), Status::Healthy);
        },
    ),
    ("The status is the worst of all of these, and indicators alone are never worse than `critical`.", || {
        let latency =
            "name: answers\ntarget: 90%\nindicators: [{type: response_latency, target_ms: 2000, percentile: 0.95}]";
        let slow = Service::new(latency).lasting(100, 0, 9_000.0);
        assert_eq!((slow.status(), slow.slo.snapshot_at(NOW).budget_status), (Status::Critical, Status::Healthy));
        assert_eq!(slow.lasting(0, 100, 9_000.0).status(), Status::Exhausted);
    }),
];

#[test]
fn every_rule_of_the_page_holds() {
    let page = include_str!("../../../docs/slo.md");
    let (_, section) = page.split_once("## The rules in short\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let lines: Vec<&str> = section.lines().filter(|line| !line.is_empty()).collect();
    let expected: Vec<String> = RULES.iter().enumerate().map(|(at, (rule, _))| format!("{}. {rule}", at + 1)).collect();
    assert_eq!(lines, expected);
    RULES.iter().for_each(|(_, holds)| holds());
}
