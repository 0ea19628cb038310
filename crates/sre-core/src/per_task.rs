use std::collections::VecDeque;
use std::mem;

use hashbrown::HashTable;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::event::{LlmCall, TaskFinished};
use crate::{AgentEvent, Event, StateError, StateReader, StateWriter, Usd};

/// A value for each task in progress, for a bounded number of tasks. Values of 8 bytes take at most 36 bytes a task.
#[derive(Debug)]
pub struct PerTask<T> {
    capacity: usize,
    /// The tasks in the order of their first events, and some that have ended.
    slots: VecDeque<Slot<T>>,
    /// The number of the first slot; each slot's is one more than that of the one before.
    first: u32,
    /// The numbers of the tasks in progress, by key.
    open: HashTable<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    /// The task's hash. Two halves, which need no alignment to 16 bytes.
    key: [u64; 2],
    value: T,
}

impl<T> Slot<T> {
    /// Returns the hash of the key, which is one itself.
    fn hash(&self) -> u64 {
        self.key[0]
    }
}

impl<T: Default> PerTask<T> {
    /// Creates an empty table for `capacity` tasks.
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), slots: VecDeque::new(), first: 0, open: HashTable::new() }
    }

    /// Returns the value of the task of `event`, inserting a default if it has none, and the value of the oldest task
    /// if that was evicted to make room.
    pub fn entry(&mut self, event: &AgentEvent) -> (&mut T, Option<T>) {
        let key = halves(event.task_hash());
        let mut evicted = None;
        let number = match self.number(key) {
            Some(number) => number,
            None => {
                if self.open.len() >= self.capacity {
                    evicted = self.evict_oldest();
                }
                self.insert(key, T::default())
            }
        };
        let index = self.index(number);
        (&mut self.slots[index].value, evicted)
    }

    /// Removes and returns the value of the task of `event`, which has ended.
    pub fn finish(&mut self, event: &AgentEvent) -> Option<T> {
        if self.open.is_empty() {
            return None;
        }
        let key = halves(event.task_hash());
        let number = self.number(key)?;
        let value = self.close(number, key);
        if self.open.is_empty() {
            self.first = self.first.wrapping_add(self.slots.len() as u32);
            self.slots.clear();
        }
        Some(value)
    }

    /// Returns the values, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.open.iter().map(|number| &self.slots[self.index(*number)].value)
    }

    /// Saves the values, oldest task first.
    pub fn save(&self, state: &mut StateWriter)
    where
        T: Serialize,
    {
        let open = self
            .slots
            .iter()
            .enumerate()
            .filter(|(index, slot)| self.number(slot.key).is_some_and(|number| self.index(number) == *index));
        state.put(&open.map(|(_, slot)| (whole(slot.key), &slot.value)).collect::<Vec<_>>());
    }

    /// Restores saved values.
    pub fn restore(&mut self, state: &mut StateReader<'_>) -> Result<(), StateError>
    where
        T: DeserializeOwned,
    {
        for (key, value) in state.take::<Vec<(u128, T)>>()? {
            // Version 0.1.0 has saved a task twice whose name had been used before.
            if self.number(halves(key)).is_none() {
                self.insert(halves(key), value);
            }
            if self.open.len() > self.capacity {
                self.evict_oldest();
            }
        }
        Ok(())
    }

    /// Removes and returns the value of the oldest task.
    pub fn evict_oldest(&mut self) -> Option<T> {
        while let Some(slot) = self.slots.pop_front() {
            let number = self.first;
            self.first = number.wrapping_add(1);
            if let Ok(open) = self.open.find_entry(slot.hash(), |open| *open == number) {
                open.remove();
                return Some(slot.value);
            }
        }
        None
    }

    /// Returns the number of a task in progress.
    fn number(&self, key: [u64; 2]) -> Option<u32> {
        self.open.find(key[0], |number| self.slots[self.index(*number)].key == key).copied()
    }

    fn index(&self, number: u32) -> usize {
        number.wrapping_sub(self.first) as usize
    }

    /// Adds a task, and returns its number.
    fn insert(&mut self, key: [u64; 2], value: T) -> u32 {
        // Room for some that have ended, so that they are seldom removed.
        let most = self.capacity + self.capacity / 16 + 1;
        if self.slots.len() >= most {
            self.remove_ended();
        }
        if self.slots.len() == self.slots.capacity() {
            self.slots.reserve_exact(self.slots.len().clamp(4, most.saturating_sub(self.slots.len()).max(4)));
        }
        let number = self.first.wrapping_add(self.slots.len() as u32);
        self.slots.push_back(Slot { key, value });
        let Self { slots, first, open, .. } = self;
        open.insert_unique(key[0], number, |number| slots[number.wrapping_sub(*first) as usize].hash());
        number
    }

    fn close(&mut self, number: u32, key: [u64; 2]) -> T {
        if let Ok(open) = self.open.find_entry(key[0], |open| *open == number) {
            open.remove();
        }
        let index = self.index(number);
        mem::take(&mut self.slots[index].value)
    }

    /// Removes the slots of tasks that have ended.
    fn remove_ended(&mut self) {
        let (slots, open) = (mem::take(&mut self.slots), mem::take(&mut self.open));
        let first = mem::take(&mut self.first);
        for (index, slot) in slots.into_iter().enumerate() {
            let number = first.wrapping_add(index as u32);
            if open.find(slot.hash(), |open| *open == number).is_some() {
                self.insert(slot.key, slot.value);
            }
        }
    }
}

fn halves(key: u128) -> [u64; 2] {
    [key as u64, (key >> 64) as u64]
}

fn whole([low, high]: [u64; 2]) -> u128 {
    u128::from(high) << 64 | u128::from(low)
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
    use proptest::prelude::*;

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
        assert!(tasks.slots.capacity() <= 4);
    }

    proptest! {
        /// Compares the table with a list of tasks by age.
        #[test]
        fn the_table_agrees_with_a_list(steps in prop::collection::vec((0u8..40, 0u8..3), 0..400), capacity in 1usize..30) {
            let (mut tasks, mut list) = (PerTask::<u32>::new(capacity), Vec::<(u8, u32)>::new());
            for (name, step) in steps {
                let event = call(&name.to_string(), 0);
                let position = list.iter().position(|(known, _)| *known == name);
                if step == 0 {
                    let finished = position.map(|position| list.remove(position).1);
                    prop_assert_eq!(tasks.finish(&event), finished);
                    continue;
                }
                let evicted = (position.is_none() && list.len() == capacity).then(|| list.remove(0).1);
                if position.is_none() {
                    list.push((name, 0));
                }
                let value = &mut list.iter_mut().find(|(known, _)| *known == name).unwrap().1;
                *value += 1;
                let (counted, oldest) = tasks.entry(&event);
                *counted += 1;
                prop_assert_eq!((*counted, oldest), (*value, evicted));
                let mut values: Vec<u32> = tasks.iter().copied().collect();
                values.sort_unstable();
                let mut expected: Vec<u32> = list.iter().map(|(_, value)| *value).collect();
                let mut state = StateWriter::default();
                tasks.save(&mut state);
                let saved: Vec<(u128, u32)> = StateReader::new(&state.finish().unwrap()).take().unwrap();
                prop_assert_eq!(saved.iter().map(|(_, value)| *value).collect::<Vec<_>>(), expected.clone());
                expected.sort_unstable();
                prop_assert_eq!(values, expected);
            }
        }
    }
}
