use std::collections::BTreeMap;
use std::time::Duration;

use agent_sre::event::TaskFinished;
use agent_sre::http::{Client, Options};
use agent_sre::{AgentEvent, Clock, Event, HttpClient, SpanId, SystemClock, Timestamp};
use anyhow::{Context, ensure};

/// Real runs of three agents; `demo/README.md` describes how they were made.
const RUNS: &str = include_str!("../demo/runs.jsonl");

/// The objective of the demo, whose latency one of the agents misses.
pub(crate) const OBJECTIVES: &str = include_str!("../demo/slos.yaml");

/// A run, as the offsets of its events from its start.
struct Run {
    events: Vec<(Duration, AgentEvent)>,
}

/// Number of days before today that are filled with recorded runs.
const DAYS: u64 = 6;
const DAY: Duration = Duration::from_secs(86_400);
/// Interval at which tasks begin.
const TASK_INTERVAL: Duration = Duration::from_millis(700);
/// Number of tasks per cycle. In the last third of a cycle all tasks of [`FAILING_AGENT`] fail, as in a provider's outage.
const CYCLE: u64 = 240;
const FAILING_AGENT: &str = "billing";

/// Fills the last days with recorded runs, then streams runs in as if the agents were running now.
pub(crate) async fn stream(url: String) {
    if let Err(error) = send_runs(&url).await {
        tracing::error!("demo stopped: {error:#}");
    }
}

async fn send_runs(url: &str) -> anyhow::Result<()> {
    let runs = runs();
    let client = Client::new(Options::default())?;
    let now = SystemClock.now();
    let today = now.as_nanos().unsigned_abs() / DAY.as_nanos() as u64;
    for day in today - DAYS..today {
        let morning = Timestamp::default().saturating_add(DAY * u32::try_from(day)?);
        let part = DAY / u32::try_from(runs.len())?;
        let times = (0..).map(|number: u32| morning.saturating_add(part * number));
        let events = runs.iter().zip(times).flat_map(|(run, at)| run.at(at, &format!("day-{day}")));
        // With the same key as in an earlier start of the demo, so that the runs count once.
        send(&client, url, &lines(events), Some(&format!("demo-day-{day}"))).await?;
    }
    let failed: Vec<&Run> = runs.iter().filter(|run| run.agent() == FAILING_AGENT && run.has_failed()).collect();
    let mut ticks = tokio::time::interval(TASK_INTERVAL);
    for number in 0_u64.. {
        ticks.tick().await;
        let mut run = &runs[number as usize * 37 % runs.len()];
        if number % CYCLE >= CYCLE * 2 / 3 && run.agent() == FAILING_AGENT {
            run = failed[number as usize % failed.len()];
        }
        let at = SystemClock.now().saturating_sub(run.length());
        let unique = format!("{}-{number}", now.as_nanos());
        send(&client, url, &lines(run.at(at, &unique).into_iter()), None).await?;
    }
    Ok(())
}

fn runs() -> Vec<Run> {
    let mut by_task: BTreeMap<(String, String), Vec<AgentEvent>> = BTreeMap::new();
    for line in RUNS.lines() {
        let event = AgentEvent::from_json(line.as_bytes()).expect("the recorded runs are valid");
        by_task.entry((event.agent.clone(), event.task_key().into_owned())).or_default().push(event);
    }
    let runs = by_task.into_values().map(|events| {
        let start = events.iter().map(|event| event.time).min().unwrap_or_default();
        Run { events: events.into_iter().map(|event| (event.time.since(start), event)).collect() }
    });
    // Task names are random: sorted by them, the runs of the agents are interleaved.
    let mut runs: Vec<Run> = runs.collect();
    runs.sort_by_key(|run| run.events[0].1.task.clone());
    runs
}

impl Run {
    fn agent(&self) -> &str {
        &self.events[0].1.agent
    }

    fn length(&self) -> Duration {
        self.events.iter().map(|(offset, _)| *offset).max().unwrap_or_default()
    }

    fn has_failed(&self) -> bool {
        self.events
            .iter()
            .any(|(_, event)| matches!(event.event, Event::TaskFinished(TaskFinished { success: false, .. })))
    }

    /// Returns the events of the run as another task that starts at `start`.
    fn at(&self, start: Timestamp, unique: &str) -> Vec<AgentEvent> {
        let moved = |(number, (offset, event)): (usize, &(Duration, AgentEvent))| {
            let mut event = event.clone();
            event.time = start.saturating_add(*offset);
            event.task = Some(format!("{}-{unique}", event.task_key()));
            let span = |number: usize| SpanId::derived(&[&event.task_key(), &number.to_string()]);
            (event.span_id, event.parent_span_id) = match &event.event {
                Event::TaskFinished(_) => (None, None),
                _ => (Some(span(number)), self.step_around(number).map(span)),
            };
            event
        };
        self.events.iter().enumerate().map(moved).collect()
    }

    /// Returns the number of the shortest step in which an event happened: the recording does not name the parents of spans.
    fn step_around(&self, number: usize) -> Option<usize> {
        let times = |number: usize| {
            let (end, event) = &self.events[number];
            let duration = Duration::from_secs_f64(event.event.duration_ms().unwrap_or_default() / 1e3);
            (end.saturating_sub(duration), *end)
        };
        let (start, end) = times(number);
        let is_around = |other: &usize| {
            let (began, ended) = times(*other);
            let is_step = matches!(self.events[*other].1.event, Event::StepFinished(_));
            is_step && began <= start && end <= ended && (began, ended) != (start, end)
        };
        (0..self.events.len()).filter(is_around).min_by_key(|other| times(*other).1 - times(*other).0)
    }
}

fn lines(events: impl Iterator<Item = AgentEvent>) -> Vec<u8> {
    let mut lines = Vec::new();
    for event in events {
        // Writing an event to a Vec cannot fail.
        let _ = serde_json::to_writer(&mut lines, &event);
        lines.push(b'\n');
    }
    lines
}

async fn send(client: &Client, url: &str, lines: &[u8], key: Option<&str>) -> anyhow::Result<()> {
    let mut request = http::Request::post(format!("{url}/v1/events/sre"));
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    let response = client.send(request.body(lines.to_vec().into())?).await.context("the service did not answer")?;
    ensure!(response.status().is_success(), "the service answered {}", response.status());
    Ok(())
}

#[cfg(test)]
mod tests {
    use agent_sre::Span;
    use agent_sre::trace::TraceTree;

    use super::*;

    #[test]
    fn every_recorded_run_is_one_complete_task() {
        let runs = runs();
        assert!(runs.len() > 200, "{}", runs.len());
        for run in &runs {
            let ends = run.events.iter().filter(|(_, event)| matches!(event.event, Event::TaskFinished(_))).count();
            assert_eq!(ends, 1);
            assert!(run.length() < Duration::from_secs(60));
            let trees = TraceTree::build(run.at(Timestamp::from_secs(1), "1").iter().filter_map(Span::of));
            assert_eq!((trees.len(), trees[0].broken_hops.len(), trees[0].nodes[0].depth), (1, 0, 0));
            assert!(trees[0].nodes.iter().skip(1).all(|node| node.depth > 0));
        }
        assert!(runs.iter().any(|run| run.agent() == FAILING_AGENT && run.has_failed()));
    }
}
