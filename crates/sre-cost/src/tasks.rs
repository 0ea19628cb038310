use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use rustc_hash::FxHashMap;
use serde::{Serialize, Serializer};
use sre_core::{Timestamp, Usd};

use crate::spend::Spend;

/// What a task has cost so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TaskCost {
    /// The agent.
    pub agent: String,
    /// The task.
    pub task: String,
    /// The total.
    pub spent_usd: Usd,
    /// Parts of the total by what they paid for, as callers named them: a model, a tool. After 64 names, further ones are
    /// added to the last. In JSON, a mapping.
    #[serde(serialize_with = "as_map")]
    pub breakdown: Vec<(String, Usd)>,
    /// When the last cost was added.
    pub last_at: Timestamp,
    /// The parts spent on models with per-agent limits, by model id.
    #[serde(skip)]
    on_models: Vec<(u32, Usd)>,
}

/// What outlives a restart of a [`TaskCost`]: its fields, with the names of models.
pub(crate) type SavedTask = (String, String, Usd, Vec<(String, Usd)>, Timestamp, Vec<(String, Usd)>);

/// What a task has cost after a charge.
pub(crate) struct TaskSpent {
    pub(crate) overall: Usd,
    pub(crate) on_model: Usd,
    /// Whether the charge is the task's first of the day.
    pub(crate) is_first_today: bool,
}

impl TaskCost {
    /// Returns the fields of `CostRecord.to_dict` in the Python package `agent-sre`, of the whole task.
    pub fn to_dict(&self) -> serde_json::Value {
        let breakdown: BTreeMap<&str, Usd> = self.breakdown.iter().map(|(name, amount)| (&**name, *amount)).collect();
        serde_json::json!({
            "agent_id": self.agent,
            "task_id": self.task,
            "cost_usd": self.spent_usd,
            "timestamp": self.last_at,
            "breakdown": breakdown,
        })
    }

    /// Returns what is saved; `name` names a model with per-agent limits.
    pub(crate) fn saved<'a>(&self, name: impl Fn(u32) -> &'a str) -> SavedTask {
        let Self { agent, task, spent_usd, breakdown, last_at, on_models } = self.clone();
        let on_models = on_models.into_iter().map(|(model, spent)| (name(model).to_owned(), spent)).collect();
        (agent, task, spent_usd, breakdown, last_at, on_models)
    }

    /// Returns a saved task; `id` finds the models that still have per-agent limits.
    pub(crate) fn restored(saved: SavedTask, id: impl Fn(&str) -> Option<u32>) -> Self {
        let (agent, task, spent_usd, breakdown, last_at, on_models) = saved;
        let on_models = on_models.into_iter().filter_map(|(model, spent)| Some((id(&model)?, spent))).collect();
        Self { agent, task, spent_usd, breakdown, last_at, on_models }
    }

    /// Returns the part spent on a model with per-agent limits.
    pub(crate) fn spent_on(&self, model: Option<u32>) -> Usd {
        self.on_models.iter().find(|(known, _)| Some(*known) == model).map_or(Usd::ZERO, |(_, spent)| *spent)
    }
}

fn as_map<S: Serializer>(parts: &[(String, Usd)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(parts.iter().map(|(name, amount)| (name, amount)))
}

/// The costs of the most recent tasks, by a hash of agent and task. The hash is seeded at random: otherwise a task could be
/// named so that it displaces another, whose limit would then start anew.
#[derive(Debug)]
pub(crate) struct Tasks {
    hasher: RandomState,
    tasks: FxHashMap<u64, TaskCost>,
    order: VecDeque<u64>,
    capacity: usize,
}

const MAX_BREAKDOWN: usize = 64;

impl Tasks {
    pub(crate) fn new(capacity: usize) -> Self {
        let hasher = RandomState::new();
        Self { hasher, tasks: FxHashMap::default(), order: VecDeque::new(), capacity: capacity.max(1) }
    }

    pub(crate) fn get(&self, agent: &str, task: &str) -> Option<&TaskCost> {
        self.find(self.key(agent, task), agent, task)
    }

    /// Returns the tasks, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &TaskCost> {
        self.order.iter().filter_map(|key| self.tasks.get(key))
    }

    /// Inserts a task from before a restart.
    pub(crate) fn restore(&mut self, cost: TaskCost) {
        let key = self.key(&cost.agent, &cost.task);
        self.make_room(key);
        self.tasks.insert(key, cost);
    }

    /// Makes room for a new task. One with the same key by chance is replaced.
    fn make_room(&mut self, key: u64) {
        if self.tasks.remove(&key).is_none() {
            if self.tasks.len() >= self.capacity
                && let Some(oldest) = self.order.pop_front()
            {
                self.tasks.remove(&oldest);
            }
            self.order.push_back(key);
        }
    }

    fn find(&self, key: u64, agent: &str, task: &str) -> Option<&TaskCost> {
        self.tasks.get(&key).filter(|known| known.agent == agent && known.task == task)
    }

    fn key(&self, agent: &str, task: &str) -> u64 {
        self.hasher.hash_one((agent, task))
    }

    /// Adds a charge at a time of a day, given by its start; `model` is the id of a model with per-agent limits.
    pub(crate) fn add(
        &mut self,
        task: &str,
        spend: &Spend<'_>,
        model: Option<u32>,
        (day, at): (Timestamp, Timestamp),
    ) -> TaskSpent {
        let Spend { agent, amount, breakdown, .. } = *spend;
        let key = self.key(agent, task);
        let is_new = self.find(key, agent, task).is_none();
        if is_new {
            self.make_room(key);
        }
        let known = self.tasks.entry(key).or_insert_with(|| TaskCost {
            agent: agent.to_owned(),
            task: task.to_owned(),
            spent_usd: Usd::ZERO,
            breakdown: Vec::new(),
            last_at: at,
            on_models: Vec::new(),
        });
        let is_first_today = is_new || known.last_at < day;
        known.spent_usd += amount;
        known.last_at = known.last_at.max(at);
        for (name, part) in breakdown {
            let index = known.breakdown.iter().position(|(known, _)| known == name);
            match index.or((known.breakdown.len() >= MAX_BREAKDOWN).then_some(MAX_BREAKDOWN - 1)) {
                Some(index) => known.breakdown[index].1 += *part,
                None => known.breakdown.push(((*name).to_owned(), *part)),
            }
        }
        if let Some(model) = model {
            match known.on_models.iter_mut().find(|(known, _)| *known == model) {
                Some((_, spent)) => *spent += amount,
                None => known.on_models.push((model, amount)),
            }
        }
        TaskSpent { overall: known.spent_usd, on_model: known.spent_on(model), is_first_today }
    }
}
