use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard};

use sre_core::private::lock;
use sre_core::{CostAlert, Phase, Signal, SignalOutlet, Timestamp};

/// Keeps the most recent alerts, and sends each as a signal.
#[derive(Default)]
pub(crate) struct Notifier {
    state: Mutex<State>,
    pub(crate) outlet: SignalOutlet,
}

#[derive(Default)]
struct State {
    alerts: VecDeque<CostAlert>,
    /// The last signal of each agent that has been throttled or denied, by its key.
    statuses: BTreeMap<String, Signal>,
}

const MAX_ALERTS: usize = 1_000;
/// Maximum number of signals of agents that are no longer throttled or denied.
const MAX_RESOLVED: usize = 10_000;

impl State {
    /// Evicts the oldest signals of agents that are no longer throttled or denied, if there are too many: agents come and go.
    fn forget_resolved(&mut self) {
        if self.statuses.len() <= MAX_RESOLVED {
            return;
        }
        let resolved = self.statuses.values().filter(|signal| signal.phase == Phase::Resolved);
        let mut times: Vec<(Timestamp, String)> = resolved.map(|signal| (signal.time, signal.key.clone())).collect();
        times.sort_unstable();
        let excess = times.len().saturating_sub(MAX_RESOLVED);
        times.truncate(excess);
        times.iter().for_each(|(_, key)| drop(self.statuses.remove(key)));
    }
}

impl Notifier {
    /// Records and sends alerts. Must be called without a lock held: the sink is the user's code.
    #[inline]
    pub(crate) fn notify(&self, alerts: &[CostAlert]) {
        if !alerts.is_empty() {
            self.notify_all(alerts);
        }
    }

    #[cold]
    fn notify_all(&self, alerts: &[CostAlert]) {
        self.queue(alerts);
        self.outlet.flush();
    }

    /// Records alerts, which the next flush of the outlet sends.
    pub(crate) fn queue(&self, alerts: &[CostAlert]) {
        let signals: Vec<Signal> = alerts.iter().map(|alert| alert.clone().into_signal()).collect();
        let mut state = self.state();
        state.alerts.extend(alerts.iter().cloned());
        let excess = state.alerts.len().saturating_sub(MAX_ALERTS);
        state.alerts.drain(..excess);
        for signal in signals.iter().filter(|signal| signal.phase != Phase::OneOff) {
            state.statuses.insert(signal.key.clone(), signal.clone());
        }
        state.forget_resolved();
        signals.into_iter().for_each(|signal| self.outlet.queue(signal));
    }

    /// Queues the last signal of each agent that has been throttled or denied.
    pub(crate) fn reassert(&self) {
        self.outlet.queue_all(self.state().statuses.values().cloned());
    }

    /// Returns the most recent alerts, oldest first.
    pub(crate) fn alerts(&self) -> Vec<CostAlert> {
        self.state().alerts.iter().cloned().collect()
    }

    /// Returns the last signal of each agent that has been throttled or denied.
    pub(crate) fn statuses(&self) -> Vec<Signal> {
        self.state().statuses.values().cloned().collect()
    }

    /// Restores what [`Self::statuses`] returned.
    pub(crate) fn restore(&self, statuses: Vec<Signal>) {
        self.state().statuses = statuses.into_iter().map(|signal| (signal.key.clone(), signal)).collect();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

#[cfg(test)]
mod tests {
    use sre_core::{CostAlertKind, CostScope, Usd};

    use super::*;

    #[test]
    fn agents_that_come_and_go_take_no_memory_for_ever() {
        let notifier = Notifier::default();
        let alert = |second: usize, kind| {
            let scope = CostScope::Agent(format!("agent-{second}"));
            CostAlert::new(Timestamp::from_secs(second as i64), scope, Usd::ZERO, Usd::ZERO, kind)
        };
        notifier.notify(&[alert(0, CostAlertKind::Killed)]);
        let unblocked: Vec<CostAlert> =
            (1..=MAX_RESOLVED + 5).map(|second| alert(second, CostAlertKind::Unblocked)).collect();
        notifier.notify(&unblocked);
        let mut times: Vec<i64> = notifier.statuses().iter().map(|signal| signal.time.as_secs()).collect();
        times.sort_unstable();
        assert_eq!(
            (times.len(), &times[..2]),
            (MAX_RESOLVED + 1, &[0, 6][..]),
            "the oldest are evicted, none that is blocked"
        );
    }
}
