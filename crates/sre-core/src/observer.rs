use crate::{AgentEvent, Signal, Snapshot, StateError, StateReader, StateWriter, Timestamp};

/// An engine: it reads the stream of events and draws conclusions.
pub trait Observer: Send + Sync {
    /// Takes one event in. Must be quick and cannot fail; conclusions that cannot wait go to `signals` at once.
    fn observe(&self, event: &AgentEvent, signals: &mut dyn FnMut(Signal));

    /// Draws the conclusions that time alone can bring. Whoever runs the engine calls it every few seconds.
    fn evaluate(&self, _now: Timestamp, _signals: &mut dyn FnMut(Signal)) {}

    /// What the engine is at `now`.
    fn snapshot(&self, _now: Timestamp) -> Vec<Snapshot> {
        Vec::new()
    }

    /// Writes what the engine has concluded, so that it outlives a restart. An engine that does not begins anew.
    fn save(&self, _state: &mut StateWriter) {}

    /// Takes up what was saved; nothing was observed yet.
    fn restore(&self, _state: &mut StateReader<'_>) -> Result<(), StateError> {
        Ok(())
    }
}

/// Somebody who reacts to signals: an alert goes out, a breaker opens, a deploy freezes.
pub trait SignalHandler: Send + Sync {
    /// Reacts. May be slow; a panic is contained by the caller and harms nobody else.
    fn handle(&self, signal: &Signal);
}

impl<F: Fn(&Signal) + Send + Sync> SignalHandler for F {
    fn handle(&self, signal: &Signal) {
        self(signal);
    }
}
