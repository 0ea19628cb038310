//! The guard against a simple model: any sequence of operations of several agents, on a manual clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use sre_core::{Clock, ManualClock, Timestamp, Usd};
use sre_cost::{CostGuard, Limits, Reservation, ScopeLimits, Spend};

#[derive(Clone, Debug)]
enum Step {
    Check(Request),
    Charge(Request),
    Record(Request),
    Reserve(Request),
    Commit { which: usize, percent: i64 },
    Drop { which: usize },
    Forget { which: usize },
    Pass { minutes: u64 },
    Reset { agent: usize },
}

#[derive(Clone, Copy, Debug)]
struct Request {
    agent: usize,
    task: Option<usize>,
    model: bool,
    cents: i64,
}

const AGENTS: [&str; 3] = ["a", "b", "c"];
const TASKS: [&str; 2] = ["one", "two"];
const CENT: i64 = 10_000_000;

impl Request {
    fn spend(self) -> Spend<'static> {
        Spend {
            agent: AGENTS[self.agent],
            task: self.task.map(|task| TASKS[task]),
            // `c` is in no team.
            team: (self.agent < 2).then_some("team"),
            model: self.model.then_some("gpt"),
            amount: Usd::from_nanos(self.cents * CENT),
            breakdown: &[],
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Open {
    request: Request,
    expires: Timestamp,
}

/// Amounts are in cents. An agent may spend 1000 a day and 600 on a task, the team 1400, the model 1200, the organisation 2500 a month;
/// on the model an agent may spend 700 a day and 450 on a task.
#[derive(Default)]
struct Model {
    now: Timestamp,
    agents: [i64; 3],
    killed: [bool; 3],
    on_model: [i64; 3],
    killed_on_model: [bool; 3],
    tasks: BTreeMap<(usize, usize), i64>,
    tasks_on_model: BTreeMap<(usize, usize), i64>,
    team: i64,
    model: i64,
    org: i64,
    open: BTreeMap<u64, Open>,
}

impl Model {
    fn reserved(&self, counts: impl Fn(&Request) -> bool) -> i64 {
        self.open.values().filter(|open| counts(&open.request)).map(|open| open.request.cents).sum()
    }

    fn allows(&self, request: Request) -> bool {
        let Request { agent, task, model, cents } = request;
        let of_task = task.and_then(|task| self.tasks.get(&(agent, task))).copied().unwrap_or(0);
        let on_model = task.and_then(|task| self.tasks_on_model.get(&(agent, task))).copied().unwrap_or(0);
        let reserved_on_model = self.reserved(|open| open.agent == agent && open.model);
        !self.killed[agent]
            && of_task + cents <= 600
            && self.agents[agent] + self.reserved(|open| open.agent == agent) + cents <= 1_000
            && (agent == 2 || self.team + self.reserved(|open| open.agent < 2) + cents <= 1_400)
            && (!model
                || !self.killed_on_model[agent]
                    && on_model + cents <= 450
                    && self.on_model[agent] + reserved_on_model + cents <= 700)
            && (!model || self.model + self.reserved(|open| open.model) + cents <= 1_200)
            && self.org + self.reserved(|_| true) + cents <= 2_500
    }

    fn spend(&mut self, request: Request, cents: i64) {
        let Request { agent, task, model, .. } = request;
        self.agents[agent] += cents;
        self.killed[agent] |= self.agents[agent] >= 950;
        if let Some(task) = task {
            *self.tasks.entry((agent, task)).or_default() += cents;
        }
        if model {
            self.on_model[agent] += cents;
            self.killed_on_model[agent] |= self.on_model[agent] >= 630;
            if let Some(task) = task {
                *self.tasks_on_model.entry((agent, task)).or_default() += cents;
            }
        }
        self.team += if agent < 2 { cents } else { 0 };
        self.model += if model { cents } else { 0 };
        self.org += cents;
    }

    fn pass(&mut self, now: Timestamp) {
        let day = |at: Timestamp| at.as_nanos() / 86_400_000_000_000;
        let month = |at: Timestamp| at.to_string()[..7].to_owned();
        if day(now) != day(self.now) {
            (self.agents, self.killed, self.team, self.model) = ([0; 3], [false; 3], 0, 0);
            (self.on_model, self.killed_on_model) = ([0; 3], [false; 3]);
        }
        if month(now) != month(self.now) {
            self.org = 0;
        }
        self.now = now;
        self.open.retain(|_, open| open.expires > now);
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let task = prop::option::of(0usize..2);
    let request = || {
        (0usize..3, task.clone(), any::<bool>(), 0i64..400).prop_map(|(agent, task, model, cents)| Request {
            agent,
            task,
            model,
            cents,
        })
    };
    let step = prop_oneof![
        2 => request().prop_map(Step::Check),
        5 => request().prop_map(Step::Charge),
        1 => request().prop_map(Step::Record),
        5 => request().prop_map(Step::Reserve),
        4 => (0usize..9, 0i64..130).prop_map(|(which, percent)| Step::Commit { which, percent }),
        2 => (0usize..9).prop_map(|which| Step::Drop { which }),
        1 => (0usize..9).prop_map(|which| Step::Forget { which }),
        2 => (1u64..10).prop_map(|minutes| Step::Pass { minutes }),
        1 => (1u64..50_000).prop_map(|minutes| Step::Pass { minutes }),
        1 => (0usize..3).prop_map(|agent| Step::Reset { agent }),
    ];
    prop::collection::vec(step, 1..80)
}

fn limits() -> Limits {
    let usd = |cents: i64| Usd::from_nanos(cents * CENT);
    let daily = |cents| ScopeLimits { daily: Some(usd(cents)), ..ScopeLimits::default() };
    let on_model =
        ScopeLimits { per_task: Some(usd(450)), per_agent_daily: Some(usd(700)), kill_at: Some(0.9), ..daily(1_200) };
    Limits {
        per_task: usd(600),
        per_agent_daily: usd(1_000),
        org_monthly: usd(2_500),
        throttle_at: 1.0,
        kill_at: 0.95,
        teams: [("team".to_owned(), daily(1_400))].into(),
        models: [("gpt".to_owned(), on_model)].into(),
        reservation_timeout: Duration::from_secs(15 * 60),
        ..Limits::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_guard_agrees_with_its_model(steps in steps()) {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_790_000_000)));
        let guard = CostGuard::with_limits(limits()).unwrap().with_clock(clock.clone());
        let mut model = Model { now: clock.now(), ..Model::default() };
        let mut open: Vec<(u64, Request, Reservation<&CostGuard>)> = Vec::new();
        let mut next = 0;
        for step in steps {
            match step {
                Step::Check(request) => {
                    prop_assert_eq!(guard.check(&request.spend()).is_ok(), model.allows(request), "{:?}", request);
                }
                Step::Charge(request) => {
                    let allowed = model.allows(request);
                    prop_assert_eq!(guard.charge(&request.spend()).is_ok(), allowed, "{:?}", request);
                    if allowed {
                        model.spend(request, request.cents);
                    }
                }
                Step::Record(request) => {
                    guard.record(&request.spend()).unwrap();
                    model.spend(request, request.cents);
                }
                Step::Reserve(request) => match (guard.reserve_for(&request.spend()), model.allows(request)) {
                    (Ok(reservation), true) => {
                        next += 1;
                        open.push((next, request, reservation));
                        let expires = clock.now().saturating_add(Duration::from_secs(15 * 60));
                        model.open.insert(next, Open { request, expires });
                    }
                    (Err(_), false) => {}
                    (found, expected) => prop_assert!(false, "{request:?}: found {found:?}, expected {expected}"),
                },
                Step::Commit { which, percent } if !open.is_empty() => {
                    let (number, request, reservation) = open.swap_remove(which % open.len());
                    let actual = request.cents * percent / 100;
                    reservation.commit(Usd::from_nanos(actual * CENT)).unwrap();
                    model.open.remove(&number);
                    model.spend(request, actual);
                }
                Step::Drop { which } if !open.is_empty() => {
                    let (number, _, reservation) = open.swap_remove(which % open.len());
                    drop(reservation);
                    model.open.remove(&number);
                }
                Step::Forget { which } if !open.is_empty() => {
                    std::mem::forget(open.swap_remove(which % open.len()));
                }
                Step::Commit { .. } | Step::Drop { .. } | Step::Forget { .. } => {}
                Step::Pass { minutes } => {
                    clock.advance(Duration::from_secs(60 * minutes));
                    model.pass(clock.now());
                }
                Step::Reset { agent } => {
                    guard.reset_daily(Some(AGENTS[agent]));
                    (model.agents[agent], model.killed[agent]) = (0, false);
                    (model.on_model[agent], model.killed_on_model[agent]) = (0, false);
                }
            }
            for (number, agent) in AGENTS.iter().enumerate() {
                let budget = guard.budget(agent);
                prop_assert_eq!(budget.spent_today_usd.nanos(), model.agents[number] * CENT);
                prop_assert_eq!(budget.reserved_usd.nanos(), model.reserved(|open| open.agent == number) * CENT);
                prop_assert_eq!(budget.killed(), model.killed[number]);
            }
            prop_assert_eq!(guard.org_spent_month().nanos(), model.org * CENT);
        }
    }
}
