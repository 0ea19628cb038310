//! The normal client beside an attack.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use http::StatusCode;
use tokio::task::JoinHandle;

use crate::attacked::Attacked;

/// Sends tasks one after the other before the attack, and one every few milliseconds while it goes on.
pub(crate) struct NormalClient {
    stop: Arc<AtomicBool>,
    /// How much longer 99 % of the acknowledgements may take in any case.
    max_delay: Duration,
    /// The status of each answer, and how long it took.
    sending: JoinHandle<Vec<(Option<StatusCode>, Duration)>>,
}

/// Time between two requests beside the attack.
const PAUSE: Duration = Duration::from_millis(5);
/// Number of requests before the attack, to measure how long an acknowledgement takes on this machine.
const BASELINE: usize = 500;
/// Number of acknowledgements beside the attack, at least: of fewer, the slowest one would be the 99th percentile.
const BESIDE: usize = 101;
/// Number of requests after which the client stops in any case.
const MAX_REQUESTS: usize = 100_000;
/// How many times as long 99 % of the acknowledgements may take beside an attack, and how much longer in any case, since the service
/// shares two processors with the attackers.
const MAX_SLOWDOWN: u32 = 3;
const MAX_DELAY: Duration = Duration::from_millis(250);

impl NormalClient {
    /// Starts the client. Returns once it has sent what the attack is compared with.
    pub(crate) async fn start_beside(service: &Attacked) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopping, sending, target) = (stop.clone(), sent.clone(), service.target.clone());
        let sending = tokio::spawn(async move {
            let (mut connection, mut answers, mut acknowledged) = (None, Vec::new(), 0);
            while (!stopping.load(Ordering::Relaxed) || acknowledged < BASELINE + BESIDE)
                && answers.len() < MAX_REQUESTS
            {
                let begun = Instant::now();
                if connection.is_none() {
                    connection = target.connect().await.ok();
                }
                let answer = match &mut connection {
                    Some(connection) => target.post_events(connection, finished("normal")).await,
                    None => None,
                };
                let status = answer.map(|answer| answer.status());
                if status.is_none() {
                    connection = None;
                }
                acknowledged += usize::from(status == Some(StatusCode::OK));
                answers.push((status, begun.elapsed()));
                sending.store(answers.len(), Ordering::Relaxed);
                if answers.len() >= BASELINE {
                    tokio::time::sleep(PAUSE).await;
                }
            }
            answers
        });
        while sent.load(Ordering::Relaxed) < BASELINE {
            tokio::time::sleep(PAUSE).await;
        }
        Self { stop, max_delay: MAX_DELAY, sending }
    }

    /// Allows acknowledgements to take longer, beside an attack with bodies of which each takes long: the service is not optimised here.
    pub(crate) fn with_max_delay(self, max_delay: Duration) -> Self {
        Self { max_delay, ..self }
    }

    /// Stops the client: everything that it sent was acknowledged about as fast as without the attack, and its agent has as many tasks
    /// more.
    pub(crate) async fn finishes_within_bounds(self, service: &mut Attacked) {
        let refused = self.finishes_with_refusals(service, &[]).await;
        assert_eq!(refused, 0, "requests were refused");
    }

    /// Stops the client, some of whose requests may have been refused with one of these statuses. Returns their number: the others were
    /// acknowledged about as fast as without the attack, and exactly they count.
    pub(crate) async fn finishes_with_refusals(self, service: &mut Attacked, refusals: &[StatusCode]) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let answers = self.sending.await.unwrap();
        let acknowledged = answers.iter().filter(|(status, _)| *status == Some(StatusCode::OK)).count();
        let refused = answers.len() - acknowledged;
        let mut statuses = answers.iter().map(|(status, _)| *status);
        let other = statuses.find(|status| !status.is_some_and(|is| is == StatusCode::OK || refusals.contains(&is)));
        assert_eq!(other, None, "an answer that is neither, or none");
        let (before, beside) = answers.split_at(BASELINE);
        let (usual, slow) = (percentile_99(before), percentile_99(beside));
        eprintln!("99 % of {} acknowledgements took at most {slow:?}; {usual:?} before", beside.len());
        assert!(slow <= usual * MAX_SLOWDOWN + self.max_delay, "{slow:?} instead of {usual:?}");
        let counted = service.agent("normal").await["tasks"].as_u64().unwrap();
        let before = std::mem::replace(&mut service.counted, counted);
        assert_eq!(counted - before, acknowledged as u64);
        refused
    }
}

/// Returns the 99th percentile of the times to an acknowledgement.
fn percentile_99(answers: &[(Option<StatusCode>, Duration)]) -> Duration {
    let acknowledged = answers.iter().filter(|(status, _)| *status == Some(StatusCode::OK));
    let mut times: Vec<Duration> = acknowledged.map(|(_, time)| *time).collect();
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

/// Returns the current time in Unix seconds.
pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Returns a line: a task of an agent that has just finished.
pub(crate) fn finished(agent: &str) -> String {
    let now = now();
    format!("{{\"event\":\"task_finished\",\"time\":{now:.3},\"agent\":\"{agent}\",\"success\":true}}\n")
}
