use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_sre::private::lock;
use agent_sre::{AgentEvent, Clock, Event, ManualClock, Timestamp};

use crate::overlap::OverlapDetector;

/// Checks the events of adapters, and counts them.
pub(crate) struct EventChecks {
    /// The time of the service.
    clock: Arc<ManualClock>,
    pub(crate) events: AtomicU64,
    /// Events whose time is too far in the future.
    pub(crate) ahead: AtomicU64,
    pub(crate) overlaps: Mutex<OverlapDetector>,
}

/// How much the clock of a sender may be ahead.
pub(crate) const MAX_AHEAD: Duration = Duration::from_secs(300);

impl EventChecks {
    /// Creates checks by the clock of the engines, with the overlaps of up to `max_agents` agents.
    pub(crate) fn new(clock: Arc<ManualClock>, max_agents: usize) -> Self {
        let overlaps = Mutex::new(OverlapDetector::new(max_agents));
        Self { clock, events: AtomicU64::default(), ahead: AtomicU64::default(), overlaps }
    }

    /// Returns whether an event of the adapter of `format` is not too far in the future, and looks for tasks that arrive twice.
    pub(crate) fn accept(&self, format: &str, event: &AgentEvent) -> bool {
        let now = self.clock.now();
        if event.time > now.saturating_add(MAX_AHEAD) {
            self.ahead.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        self.events.fetch_add(u64::from(!matches!(event.event, Event::SpanFinished(_))), Ordering::Relaxed);
        if matches!(event.event, Event::TaskFinished(_)) {
            self.find_overlap(format, event, now);
        }
        true
    }

    fn find_overlap(&self, format: &str, event: &AgentEvent, now: Timestamp) {
        let Ok(format) = format.parse() else { return };
        if let Some(overlap) = lock(&self.overlaps).record(&event.agent, format, event.time, now) {
            let (agent, formats) = (&event.agent, overlap.formats.join(", "));
            tracing::warn!(%agent, formats, "The agent's tasks arrive in several formats, and each counts twice; choose one source");
        }
    }
}
