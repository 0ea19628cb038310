use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use sre_core::{Timestamp, Usd};

use crate::Spend;

/// What a task has cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskCost {
    /// Whose.
    pub agent: String,
    /// Which.
    pub task: String,
    /// All of it.
    pub spent_usd: Usd,
    /// What for, where that was said: by model, by tool, or however the callers call it.
    pub breakdown: Vec<(String, Usd)>,
    /// When the last cost of it came.
    pub last_at: Timestamp,
    /// What of it was for models that hold tasks to limits of their own, by their places.
    on_models: Vec<(u32, Usd)>,
}

/// What a task has cost, with an amount that was added just now.
pub(crate) struct TaskSpent {
    pub(crate) all: Usd,
    pub(crate) on_model: Usd,
    pub(crate) is_new: bool,
}

impl TaskCost {
    /// What was for such a model.
    pub(crate) fn spent_on(&self, model: Option<u32>) -> Usd {
        self.on_models.iter().find(|(known, _)| Some(*known) == model).map_or(Usd::ZERO, |(_, spent)| *spent)
    }
}

/// The last tasks' costs, one by one.
#[derive(Debug)]
pub(crate) struct Tasks {
    tasks: FxHashMap<u64, TaskCost>,
    order: VecDeque<u64>,
    most: usize,
}

/// So many different things are told apart in a task's breakdown; what more there are count as the last.
const MOST_KINDS: usize = 64;

impl Tasks {
    pub(crate) fn new(most: usize) -> Self {
        Self { tasks: FxHashMap::default(), order: VecDeque::new(), most: most.max(1) }
    }

    pub(crate) fn get(&self, agent: &str, task: &str) -> Option<&TaskCost> {
        self.tasks.get(&key(agent, task)).filter(|known| known.agent == agent && known.task == task)
    }

    /// Adds a cost; `on_model` is the place of a model that holds tasks to a limit of its own.
    pub(crate) fn add(&mut self, task: &str, spend: &Spend<'_>, on_model: Option<u32>, at: Timestamp) -> TaskSpent {
        let Spend { agent, amount, breakdown, .. } = *spend;
        let key = key(agent, task);
        let is_new = !self.tasks.contains_key(&key);
        if is_new {
            if self.tasks.len() >= self.most
                && let Some(oldest) = self.order.pop_front()
            {
                self.tasks.remove(&oldest);
            }
            self.order.push_back(key);
        }
        let known = self.tasks.entry(key).or_insert_with(|| TaskCost {
            agent: agent.to_owned(),
            task: task.to_owned(),
            spent_usd: Usd::ZERO,
            breakdown: Vec::new(),
            last_at: at,
            on_models: Vec::new(),
        });
        known.spent_usd += amount;
        known.last_at = known.last_at.max(at);
        for (name, part) in breakdown {
            let place = known.breakdown.iter().position(|(known, _)| known == name);
            match place.or((known.breakdown.len() >= MOST_KINDS).then_some(MOST_KINDS - 1)) {
                Some(place) => known.breakdown[place].1 += *part,
                None => known.breakdown.push(((*name).to_owned(), *part)),
            }
        }
        if let Some(model) = on_model {
            match known.on_models.iter_mut().find(|(known, _)| *known == model) {
                Some((_, spent)) => *spent += amount,
                None => known.on_models.push((model, amount)),
            }
        }
        TaskSpent { all: known.spent_usd, on_model: known.spent_on(on_model), is_new }
    }
}

fn key(agent: &str, task: &str) -> u64 {
    use std::hash::{Hash, Hasher};
    let mut hasher = rustc_hash::FxHasher::default();
    (agent, task).hash(&mut hasher);
    hasher.finish()
}
