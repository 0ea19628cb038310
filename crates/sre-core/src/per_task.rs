use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::event::{LlmCall, TaskFinished};
use crate::{AgentEvent, Event, StateError, StateReader, StateWriter, Usd};

/// A value for each task in progress, for a bounded number of tasks.
#[derive(Debug)]
pub struct PerTask<T> {
    capacity: usize,
    tasks: FxHashMap<u128, Numbered<T>>,
    /// Numbers and keys by first event of the task. Those of ended tasks are skipped.
    order: VecDeque<(u64, u128)>,
    next: u64,
}

/// A value with the number of its task, which differs from that of an earlier task of the same name.
#[derive(Debug)]
struct Numbered<T> {
    number: u64,
    value: T,
}

impl<T: Default> PerTask<T> {
    /// Creates an empty table for `capacity` tasks.
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), tasks: FxHashMap::default(), order: VecDeque::new(), next: 0 }
    }

    /// Returns the value of the task of `event`, inserting a default if it has none, and the value of the oldest task
    /// if that was evicted to make room.
    pub fn entry(&mut self, event: &AgentEvent) -> (&mut T, Option<T>) {
        let key = event.task_hash();
        let mut evicted = None;
        if !self.tasks.contains_key(&key) {
            if self.tasks.len() >= self.capacity {
                evicted = self.evict_oldest();
            }
            if self.order.len() >= 2 * self.capacity {
                let tasks = &self.tasks;
                self.order.retain(|(number, key)| tasks.get(key).is_some_and(|task| task.number == *number));
            }
            self.insert(key, T::default());
        }
        let task = self.tasks.entry(key).or_insert_with(|| Numbered { number: 0, value: T::default() });
        (&mut task.value, evicted)
    }

    fn insert(&mut self, key: u128, value: T) {
        self.order.push_back((self.next, key));
        self.tasks.insert(key, Numbered { number: self.next, value });
        self.next += 1;
    }

    /// Removes and returns the value of the task of `event`, which has ended.
    pub fn finish(&mut self, event: &AgentEvent) -> Option<T> {
        if self.tasks.is_empty() { None } else { self.tasks.remove(&event.task_hash()).map(|task| task.value) }
    }

    /// Returns the values, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.tasks.values().map(|task| &task.value)
    }

    /// Saves the values, oldest task first.
    pub fn save(&self, state: &mut StateWriter)
    where
        T: Serialize,
    {
        let tasks = self.order.iter().filter_map(|(number, key)| {
            let task = self.tasks.get(key).filter(|task| task.number == *number)?;
            Some((key, &task.value))
        });
        state.put(&tasks.collect::<Vec<_>>());
    }

    /// Restores saved values.
    pub fn restore(&mut self, state: &mut StateReader<'_>) -> Result<(), StateError>
    where
        T: DeserializeOwned,
    {
        for (key, kept) in state.take::<Vec<(u128, T)>>()? {
            // Version 0.1.0 has saved a task twice whose name had been used before.
            if !self.tasks.contains_key(&key) {
                self.insert(key, kept);
            }
        }
        while self.tasks.len() > self.capacity {
            self.evict_oldest();
        }
        Ok(())
    }

    /// Removes and returns the value of the oldest task.
    pub fn evict_oldest(&mut self) -> Option<T> {
        while let Some((number, key)) = self.order.pop_front() {
            if self.tasks.get(&key).is_some_and(|task| task.number == number) {
                return self.tasks.remove(&key).map(|task| task.value);
            }
        }
        None
    }
}

/// Computes the cost of tasks: a task's own cost if reported, otherwise the sum of its model calls; never both.
#[derive(Debug)]
pub struct TaskCosts(PerTask<Usd>);

impl TaskCosts {
    /// Creates a table for the costs of at most `capacity` tasks at a time.
    pub fn new(capacity: usize) -> Self {
        Self(PerTask::new(capacity))
    }

    /// Observes an event. Returns the cost of the task that it ends, if known, or the cost so far of the oldest task if
    /// that was evicted to make room.
    pub fn observe(&mut self, event: &AgentEvent) -> Option<Usd> {
        match &event.event {
            Event::LlmCall(LlmCall { cost_usd: Some(cost), .. }) => {
                let (sum, evicted) = self.0.entry(event);
                *sum += *cost;
                evicted
            }
            Event::TaskFinished(TaskFinished { cost_usd, .. }) => {
                let of_calls = self.0.finish(event);
                cost_usd.or(of_calls)
            }
            _ => None,
        }
    }

    /// Saves the costs of the tasks in progress.
    pub fn save(&self, state: &mut StateWriter) {
        self.0.save(state);
    }

    /// Restores saved costs.
    pub fn restore(&mut self, state: &mut StateReader<'_>) -> Result<(), StateError> {
        self.0.restore(state)
    }

    /// Observes an event. Returns the change in total cost: model calls count immediately, and a task's own cost
    /// replaces the costs of its calls.
    pub fn change(&mut self, event: &AgentEvent) -> Usd {
        match &event.event {
            Event::LlmCall(LlmCall { cost_usd: Some(cost), .. }) => {
                *self.0.entry(event).0 += *cost;
                *cost
            }
            Event::TaskFinished(TaskFinished { cost_usd, .. }) => {
                let of_calls = self.0.finish(event).unwrap_or_default();
                cost_usd.and_then(|own| own.checked_sub(of_calls)).unwrap_or_default()
            }
            _ => Usd::ZERO,
        }
    }
}

impl Default for TaskCosts {
    /// Creates a table for 512 tasks.
    fn default() -> Self {
        Self::new(512)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;

    fn call(task: &str, nanos: i64) -> AgentEvent {
        let json = format!(
            r#"{{"event":"llm_call","time":1,"agent":"a","task":"{task}","cost_usd":"{}"}}"#,
            Usd::from_nanos(nanos)
        );
        AgentEvent::from_json(json.as_bytes()).unwrap()
    }

    fn finished(task: &str, own: Option<Usd>) -> AgentEvent {
        let mut finished = TaskFinished::new(true);
        finished.cost_usd = own;
        AgentEvent::new(Timestamp::default(), "a", finished).of_task(task)
    }

    #[test]
    fn a_task_costs_its_own_cost_or_the_sum_of_its_calls() {
        let own = Some(Usd::from_nanos(100));
        let (mut costs, mut total) = (TaskCosts::default(), Usd::ZERO);
        let mut sums = TaskCosts::default();
        let events = [
            call("1", 10),
            call("2", 20),
            call("1", 5),
            finished("1", None),
            finished("2", own),
            finished("3", own),
            finished("4", None),
        ];
        let of_tasks: Vec<_> = events.iter().map(|event| costs.observe(event)).collect();
        assert_eq!(of_tasks[3..], [Some(Usd::from_nanos(15)), own, own, None]);
        for event in &events {
            total += sums.change(event);
        }
        assert_eq!(total.nanos(), 215);
    }

    #[test]
    fn a_task_whose_name_was_used_before_is_as_old_as_its_own_beginning() {
        let mut costs = TaskCosts::new(2);
        for event in [call("1", 10), finished("1", None), call("2", 20), call("1", 1)] {
            costs.observe(&event);
        }
        let mut state = StateWriter::default();
        costs.save(&mut state);
        let saved: Vec<(u128, Usd)> = StateReader::new(&state.finish().unwrap()).take().unwrap();
        assert_eq!(saved.iter().map(|(_, cost)| cost.nanos()).collect::<Vec<_>>(), [20, 1]);
        assert_eq!(costs.observe(&call("3", 5)), Some(Usd::from_nanos(20)), "the oldest makes room");
    }

    #[test]
    fn memory_is_bounded_by_the_capacity() {
        let mut tasks = PerTask::<u32>::new(2);
        for task in 0..1000 {
            let (count, evicted) = tasks.entry(&call(&task.to_string(), 0));
            *count += 1;
            assert_eq!(evicted.is_some(), task >= 2);
        }
        assert!(tasks.order.len() <= 4);
    }
}
