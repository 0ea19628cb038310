use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use serde::{Deserialize, Serialize};

use crate::{StoreError, Timestamp, Usd, lock};

/// Where spending is kept, so that a restart keeps the day's and the month's. A call returns once what it wrote survives the
/// death of the process.
///
/// Days and months are named by the moment they begin, which whoever keeps the books decides by a time zone.
pub trait LedgerStore: Send + Sync {
    /// Enters an amount, and removes the reservation that it settles.
    fn enter(&self, entry: &LedgerEntry, settles: Option<u64>) -> Result<(), StoreError>;

    /// Enters a reservation; its number is the caller's own, and new.
    fn hold(&self, hold: &LedgerHold) -> Result<(), StoreError>;

    /// Removes a reservation that came to nothing.
    fn release(&self, number: u64) -> Result<(), StoreError>;

    /// Forgets what an agent (everybody, where `None`) has spent in the day, for its day's limit; the month's stays.
    fn reset_day(&self, agent: Option<&str>, day: Timestamp) -> Result<(), StoreError>;

    /// What was spent in the day and the month, and the reservations that are open.
    fn books(&self, day: Timestamp, month: Timestamp) -> Result<LedgerBooks, StoreError>;

    /// Forgets details from before `details`, and sums of days and months that began before `sums`.
    fn prune(&self, details: Timestamp, sums: Timestamp) -> Result<(), StoreError>;
}

/// One amount that was spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerEntry {
    /// When.
    pub time: Timestamp,
    /// When the day began that it counts for.
    pub day: Timestamp,
    /// When the month began that it counts for.
    pub month: Timestamp,
    /// Who.
    pub agent: String,
    /// Whose budgets of a day it counts for besides the agent's: teams and models.
    pub shared: Vec<String>,
    /// On which model, if each agent has a budget of a day for that.
    pub model: Option<String>,
    /// On which task; may be empty.
    pub task: String,
    /// Whether it is the task's first of the day.
    pub is_new_task: bool,
    /// How much.
    pub amount: Usd,
}

/// An amount that is reserved until it is spent, given back, or too old.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerHold {
    /// Which: no other reservation has it.
    pub number: u64,
    /// Who.
    pub agent: String,
    /// Whose budgets of a day it is held from besides the agent's.
    pub shared: Vec<String>,
    /// On which model, if each agent has a budget of a day for that.
    pub model: Option<String>,
    /// How much.
    pub amount: Usd,
    /// When it comes to nothing by itself.
    pub expires: Timestamp,
}

/// What a ledger holds of a day and a month.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerBooks {
    /// What each agent has spent in the day, and on how many tasks.
    pub agents: Vec<(String, Usd, u64)>,
    /// What agents have spent in the day on models for which each has a budget: agent, model, amount.
    pub models: Vec<(String, String, Usd)>,
    /// What each team and model has spent in the day.
    pub shared: Vec<(String, Usd)>,
    /// What everybody has spent in the month.
    pub org: Usd,
    /// The reservations that are open, the expired ones too.
    pub holds: Vec<LedgerHold>,
}

/// A [`LedgerStore`] in memory, for tests and for whoever restarts a part of a process: sums and reservations, no details.
#[derive(Debug, Default)]
pub struct MemoryLedger(Mutex<Sums>);

#[derive(Debug, Default)]
struct Sums {
    agents: BTreeMap<(Timestamp, String), (Usd, u64)>,
    models: BTreeMap<(Timestamp, String, String), Usd>,
    shared: BTreeMap<(Timestamp, String), Usd>,
    months: BTreeMap<Timestamp, Usd>,
    holds: BTreeMap<u64, LedgerHold>,
}

impl MemoryLedger {
    fn sums(&self) -> MutexGuard<'_, Sums> {
        lock(&self.0)
    }
}

impl LedgerStore for MemoryLedger {
    fn enter(&self, entry: &LedgerEntry, settles: Option<u64>) -> Result<(), StoreError> {
        let mut sums = self.sums();
        let agent = sums.agents.entry((entry.day, entry.agent.clone())).or_default();
        agent.0 += entry.amount;
        agent.1 += u64::from(entry.is_new_task);
        if let Some(model) = &entry.model {
            *sums.models.entry((entry.day, entry.agent.clone(), model.clone())).or_default() += entry.amount;
        }
        for name in &entry.shared {
            *sums.shared.entry((entry.day, name.clone())).or_default() += entry.amount;
        }
        *sums.months.entry(entry.month).or_default() += entry.amount;
        settles.map(|number| sums.holds.remove(&number));
        Ok(())
    }

    fn hold(&self, hold: &LedgerHold) -> Result<(), StoreError> {
        self.sums().holds.insert(hold.number, hold.clone());
        Ok(())
    }

    fn release(&self, number: u64) -> Result<(), StoreError> {
        self.sums().holds.remove(&number);
        Ok(())
    }

    fn reset_day(&self, agent: Option<&str>, day: Timestamp) -> Result<(), StoreError> {
        let mut sums = self.sums();
        let is_of = |on: Timestamp, name: &str| on == day && agent.is_none_or(|agent| agent == name);
        sums.agents.retain(|(on, name), _| !is_of(*on, name));
        sums.models.retain(|(on, name, _), _| !is_of(*on, name));
        Ok(())
    }

    fn books(&self, day: Timestamp, month: Timestamp) -> Result<LedgerBooks, StoreError> {
        let sums = self.sums();
        let agents = sums.agents.iter().filter(|((of, _), _)| *of == day);
        let models = sums.models.iter().filter(|((of, ..), _)| *of == day);
        let shared = sums.shared.iter().filter(|((of, _), _)| *of == day);
        Ok(LedgerBooks {
            agents: agents.map(|((_, agent), (spent, tasks))| (agent.clone(), *spent, *tasks)).collect(),
            models: models.map(|((_, agent, model), spent)| (agent.clone(), model.clone(), *spent)).collect(),
            shared: shared.map(|((_, name), spent)| (name.clone(), *spent)).collect(),
            org: sums.months.get(&month).copied().unwrap_or_default(),
            holds: sums.holds.values().cloned().collect(),
        })
    }

    fn prune(&self, details: Timestamp, sums: Timestamp) -> Result<(), StoreError> {
        let mut kept = self.sums();
        kept.agents.retain(|(day, _), _| *day >= sums);
        kept.models.retain(|(day, ..), _| *day >= sums);
        kept.shared.retain(|(day, _), _| *day >= sums);
        kept.months.retain(|month, _| *month >= sums);
        kept.holds.retain(|_, hold| hold.expires >= details);
        Ok(())
    }
}
