//! The guard against books too simple to be wrong: every operation of several spenders in any order, on virtual time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use sre_core::{Clock, ManualClock, Timestamp, Usd};
use sre_cost::{CostGuard, Limits, Reservation, ScopeLimits, Spend};

#[derive(Clone, Debug)]
enum Step {
    Check(Asked),
    Charge(Asked),
    Record(Asked),
    Reserve(Asked),
    Commit { which: usize, percent: i64 },
    Drop { which: usize },
    Forget { which: usize },
    Pass { minutes: u64 },
    Reset { agent: usize },
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    agent: usize,
    task: Option<usize>,
    model: bool,
    cents: i64,
}

const AGENTS: [&str; 3] = ["a", "b", "c"];
const TASKS: [&str; 2] = ["one", "two"];
const CENT: i64 = 10_000_000;

impl Asked {
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

#[derive(Clone, Copy, Debug, PartialEq)]
struct Held {
    asked: Asked,
    expires: Timestamp,
}

impl PartialEq for Asked {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// In cents. An agent may spend 1000 a day and 600 on a task, the team 1400, the model 1200, everybody 2500 a month;
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
    held: BTreeMap<u64, Held>,
}

impl Model {
    fn reserved(&self, counts: impl Fn(&Asked) -> bool) -> i64 {
        self.held.values().filter(|held| counts(&held.asked)).map(|held| held.asked.cents).sum()
    }

    fn allows(&self, asked: Asked) -> bool {
        let Asked { agent, task, model, cents } = asked;
        let of_task = task.and_then(|task| self.tasks.get(&(agent, task))).copied().unwrap_or(0);
        let on_model = task.and_then(|task| self.tasks_on_model.get(&(agent, task))).copied().unwrap_or(0);
        let held_on_model = self.reserved(|held| held.agent == agent && held.model);
        !self.killed[agent]
            && of_task + cents <= 600
            && self.agents[agent] + self.reserved(|held| held.agent == agent) + cents <= 1_000
            && (agent == 2 || self.team + self.reserved(|held| held.agent < 2) + cents <= 1_400)
            && (!model
                || !self.killed_on_model[agent]
                    && on_model + cents <= 450
                    && self.on_model[agent] + held_on_model + cents <= 700)
            && (!model || self.model + self.reserved(|held| held.model) + cents <= 1_200)
            && self.org + self.reserved(|_| true) + cents <= 2_500
    }

    fn spend(&mut self, asked: Asked, cents: i64) {
        let Asked { agent, task, model, .. } = asked;
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
        self.held.retain(|_, held| held.expires > now);
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let task = prop::option::of(0usize..2);
    let asked = || {
        (0usize..3, task.clone(), any::<bool>(), 0i64..400).prop_map(|(agent, task, model, cents)| Asked {
            agent,
            task,
            model,
            cents,
        })
    };
    let step = prop_oneof![
        2 => asked().prop_map(Step::Check),
        5 => asked().prop_map(Step::Charge),
        1 => asked().prop_map(Step::Record),
        5 => asked().prop_map(Step::Reserve),
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
    fn the_guard_does_what_its_model_does(steps in steps()) {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_790_000_000)));
        let guard = CostGuard::with_limits(limits()).unwrap().with_clock(clock.clone());
        let mut model = Model { now: clock.now(), ..Model::default() };
        let mut open: Vec<(u64, Asked, Reservation<&CostGuard>)> = Vec::new();
        let mut next = 0;
        for step in steps {
            match step {
                Step::Check(asked) => {
                    prop_assert_eq!(guard.check(&asked.spend()).is_ok(), model.allows(asked), "{:?}", asked);
                }
                Step::Charge(asked) => {
                    let allowed = model.allows(asked);
                    prop_assert_eq!(guard.charge(&asked.spend()).is_ok(), allowed, "{:?}", asked);
                    if allowed {
                        model.spend(asked, asked.cents);
                    }
                }
                Step::Record(asked) => {
                    guard.record(&asked.spend()).unwrap();
                    model.spend(asked, asked.cents);
                }
                Step::Reserve(asked) => match (guard.reserve_for(&asked.spend()), model.allows(asked)) {
                    (Ok(reservation), true) => {
                        next += 1;
                        open.push((next, asked, reservation));
                        let expires = clock.now().saturating_add(Duration::from_secs(15 * 60));
                        model.held.insert(next, Held { asked, expires });
                    }
                    (Err(_), false) => {}
                    (found, expected) => prop_assert!(false, "{asked:?}: found {found:?}, expected {expected}"),
                },
                Step::Commit { which, percent } if !open.is_empty() => {
                    let (number, asked, reservation) = open.swap_remove(which % open.len());
                    let actual = asked.cents * percent / 100;
                    reservation.commit(Usd::from_nanos(actual * CENT)).unwrap();
                    model.held.remove(&number);
                    model.spend(asked, actual);
                }
                Step::Drop { which } if !open.is_empty() => {
                    let (number, _, reservation) = open.swap_remove(which % open.len());
                    drop(reservation);
                    model.held.remove(&number);
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
                let budget = guard.get_budget(agent);
                prop_assert_eq!(budget.spent_today_usd.nanos(), model.agents[number] * CENT);
                prop_assert_eq!(budget.reserved_usd.nanos(), model.reserved(|held| held.agent == number) * CENT);
                prop_assert_eq!(budget.killed(), model.killed[number]);
            }
            prop_assert_eq!(guard.org_spent_month().nanos(), model.org * CENT);
        }
    }
}
