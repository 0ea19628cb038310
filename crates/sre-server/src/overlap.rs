use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use agent_sre::{Format, Timestamp};
use rustc_hash::FxHashMap;
use serde::Serialize;
use utoipa::ToSchema;

/// Detects agents whose tasks arrive from two sources, such as a tap and OpenTelemetry, so that each task counts twice.
///
/// The formats have no task id in common, so the detector compares when tasks end. In the order of their ends, two tasks of
/// different formats are a *pair* if they end within a second of each other, and the next end is at least twice that time
/// away. Replicas that rightly use different formats have few pairs, whatever the load: their tasks end in any order, and a
/// gap is seldom twice the one before. There is an overlap once pairs outnumber tasks without a partner by five.
#[derive(Debug)]
pub(crate) struct OverlapDetector {
    max_agents: usize,
    agents: FxHashMap<String, TaskEnds>,
}

/// Tasks of an agent that arrive in several formats.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Overlap {
    /// The formats, by name.
    pub(crate) formats: Vec<&'static str>,
    /// Tasks that were counted twice.
    pub(crate) tasks: u64,
}

/// Maximum time between the two ends of a pair.
const MAX_DISTANCE: Duration = Duration::from_secs(1);
/// Minimum gap to the next end, as a multiple of the pair's distance.
const MIN_ISOLATION: u32 = 2;
/// How many more pairs than single ends make an overlap.
const MIN_SCORE: i32 = 5;
/// Limits the influence of old tasks, so that an overlap ends soon after one of the sources does.
const MAX_SCORE: i32 = 20;
/// How long a task's end waits for that of the other source to arrive.
const MAX_LAG: Duration = Duration::from_secs(60);
/// The number of ends of an agent that wait.
const MAX_PENDING: usize = 128;

impl OverlapDetector {
    /// Creates a detector for up to `max_agents` agents; others are ignored.
    pub(crate) fn new(max_agents: usize) -> Self {
        Self { max_agents, agents: FxHashMap::default() }
    }

    /// Records the end of a task that arrives at `now`, in constant time. Returns the agent's overlap when it is found for the first
    /// time.
    pub(crate) fn record(&mut self, agent: &str, format: Format, time: Timestamp, now: Timestamp) -> Option<Overlap> {
        if !self.agents.contains_key(agent) {
            if self.agents.len() >= self.max_agents {
                return None;
            }
            self.agents.insert(agent.to_owned(), TaskEnds::default());
        }
        let ends = self.agents.get_mut(agent)?;
        ends.record(TaskEnd { time, format, received: now });
        if ends.is_reported {
            return None;
        }
        let overlap = ends.overlap();
        ends.is_reported = overlap.is_some();
        overlap
    }

    /// Returns the current overlaps by agent.
    pub(crate) fn overlaps(&self) -> BTreeMap<String, Overlap> {
        let overlap = |(agent, ends): (&String, &TaskEnds)| Some((agent.clone(), ends.overlap()?));
        self.agents.iter().filter_map(overlap).collect()
    }
}

/// The ends of an agent's tasks.
#[derive(Debug, Default)]
struct TaskEnds {
    /// The ends that wait for others before they count, by time.
    pending: VecDeque<TaskEnd>,
    formats: Vec<Format>,
    counted: Evidence,
    is_reported: bool,
}

#[derive(Clone, Copy, Debug)]
struct TaskEnd {
    time: Timestamp,
    format: Format,
    received: Timestamp,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Evidence {
    pairs: u64,
    /// Pairs minus single ends.
    score: i32,
}

impl Evidence {
    fn add(&mut self, is_pair: bool) {
        self.pairs += u64::from(is_pair);
        self.score = (self.score + if is_pair { 1 } else { -1 }).clamp(-MAX_SCORE, MAX_SCORE);
    }
}

impl TaskEnds {
    fn record(&mut self, end: TaskEnd) {
        if !self.formats.contains(&end.format) {
            self.formats.push(end.format);
            self.formats.sort_unstable_by_key(|format| format.as_str());
        }
        let place = self.pending.partition_point(|other| other.time <= end.time);
        self.pending.insert(place, end);
        while self.pending.len() > MAX_PENDING || self.has_waited(end.received) {
            let is_pair = self.is_pair(0);
            self.pending.drain(..if is_pair { 2 } else { 1 });
            if self.formats.len() > 1 {
                self.counted.add(is_pair);
            }
        }
    }

    fn has_waited(&self, now: Timestamp) -> bool {
        self.pending.front().is_some_and(|first| now.since(first.received) > MAX_LAG)
    }

    /// Returns whether the end at `at` and the next one are a pair.
    fn is_pair(&self, at: usize) -> bool {
        let (Some(first), Some(second)) = (self.pending.get(at), self.pending.get(at + 1)) else { return false };
        let distance = second.time.since(first.time);
        let is_isolated = |next: &TaskEnd| next.time.since(second.time) >= distance * MIN_ISOLATION;
        first.format != second.format && distance <= MAX_DISTANCE && self.pending.get(at + 2).is_none_or(is_isolated)
    }

    fn overlap(&self) -> Option<Overlap> {
        let Evidence { pairs, score } = self.evidence();
        (score >= MIN_SCORE)
            .then(|| Overlap { formats: self.formats.iter().map(|format| format.as_str()).collect(), tasks: pairs })
    }

    fn evidence(&self) -> Evidence {
        let mut evidence = self.counted;
        if self.formats.len() < 2 {
            return evidence;
        }
        // Later ends may still get a partner, from the source that is behind.
        let latest = |format: &Format| Some(self.pending.iter().rfind(|end| end.format == *format)?.time);
        let complete = self.formats.iter().map(latest).min().flatten();
        let mut at = 0;
        while self.pending.get(at).is_some_and(|end| Some(end.time) <= complete) {
            let is_pair = self.is_pair(at);
            evidence.add(is_pair);
            at += if is_pair { 2 } else { 1 };
        }
        evidence
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;
    use proptest::prelude::*;

    use super::*;

    const AGENT: &str = "support";

    /// The end of a task, in seconds, by the name of its format.
    type End = (f64, &'static str);

    fn detector() -> OverlapDetector {
        OverlapDetector::new(1)
    }

    fn record(detector: &mut OverlapDetector, (seconds, format): End) -> Option<Overlap> {
        let time = Timestamp::from_unix_seconds(seconds).unwrap();
        detector.record(AGENT, format.parse().unwrap(), time, time)
    }

    fn record_all(ends: impl IntoIterator<Item = End>) -> OverlapDetector {
        let mut detector = detector();
        ends.into_iter().for_each(|end| drop(record(&mut detector, end)));
        detector
    }

    fn is_found(ends: impl IntoIterator<Item = End>) -> bool {
        let mut detector = detector();
        ends.into_iter().any(|end| record(&mut detector, end).is_some())
    }

    /// Returns the ends of independent tasks, with a mean rate per second.
    fn independent(rng: &mut Rng, rate: f64, count: usize) -> Vec<f64> {
        let mut time = 1_000.0;
        let mut next = || {
            time -= (1.0 - rng.f64()).ln() / rate;
            time
        };
        (0..count).map(|_| next()).collect()
    }

    /// Returns the ends in the order in which they arrive, if each format is behind by a time.
    fn arriving(mut ends: Vec<End>, behind: impl Fn(End) -> f64) -> Vec<End> {
        ends.sort_by(|one, other| (one.0 + behind(*one)).total_cmp(&(other.0 + behind(*other))));
        ends
    }

    fn minutes(count: u32) -> f64 {
        f64::from(count) * 60.0
    }

    /// Returns the ends of tasks, a minute apart, that both formats report.
    fn twice(tasks: u32) -> Vec<End> {
        (0..tasks).flat_map(|task| [(minutes(task), "langgraph"), (minutes(task) + 0.2, "otlp")]).collect()
    }

    #[test]
    fn five_tasks_that_arrive_twice_are_an_overlap_which_is_returned_once() {
        let mut detector = detector();
        let found: Vec<Option<Overlap>> = twice(5).into_iter().map(|end| record(&mut detector, end)).collect();
        let overlap = Overlap { formats: vec!["langgraph", "otlp"], tasks: 5 };
        assert_eq!(found.iter().position(Option::is_some), Some(9));
        assert_eq!(found[9].as_ref(), Some(&overlap));
        assert_eq!(record(&mut detector, (300.0, "otlp")), None);
        assert_eq!(detector.overlaps()[AGENT], overlap);
    }

    #[test]
    fn an_overlap_is_found_in_old_tasks_that_arrive_at_once() {
        let mut detector = detector();
        let (langgraph, otlp): (Vec<End>, Vec<End>) =
            twice(12).into_iter().partition(|(_, format)| *format == "langgraph");
        let now = Timestamp::from_secs(10_000);
        let mut record = |(seconds, format): End| {
            detector.record(AGENT, format.parse().unwrap(), Timestamp::from_unix_seconds(seconds).unwrap(), now)
        };
        assert!(langgraph.into_iter().chain(otlp).filter_map(&mut record).count() == 1);
    }

    #[test]
    fn tasks_that_end_two_seconds_apart_are_different_tasks() {
        assert!(!is_found((0..100).flat_map(|task| [(minutes(task), "langgraph"), (minutes(task) + 2.0, "otlp")])));
    }

    #[test]
    fn tasks_of_one_format_are_no_overlap() {
        assert!(!is_found(twice(5).into_iter().map(|(time, _)| (time, "otlp"))));
    }

    #[test]
    fn an_overlap_is_found_at_any_load_although_one_source_sends_later() {
        for rate in [0.001, 0.1, 1.0, 5.0] {
            let mut rng = Rng::with_seed(7);
            let times = independent(&mut rng, rate, 500);
            let twice = times.iter().flat_map(|time| [(*time, "langgraph"), (*time + rng.f64() * 0.04, "otlp")]);
            // An exporter sends every five seconds, and the adapter waits for two more.
            let behind = |(time, format): End| if format == "otlp" { 7.0 - time % 5.0 } else { 0.0 };
            assert!(is_found(arriving(twice.collect(), behind)), "{rate} tasks per second");
        }
    }

    #[test]
    fn replicas_with_different_formats_are_no_overlap_at_any_load() {
        let mut rng = Rng::with_seed(7);
        for (langgraph, otlp) in
            [(0.001, 0.001), (0.1, 0.1), (0.5, 0.5), (2.0, 2.0), (20.0, 20.0), (0.5, 5.0), (0.01, 1.0)]
        {
            for _ in 0..20 {
                let with = |format| move |time| (time, format);
                let mut ends: Vec<End> =
                    independent(&mut rng, langgraph, 1_000).into_iter().map(with("langgraph")).collect();
                ends.extend(independent(&mut rng, otlp, 1_000).into_iter().map(with("otlp")));
                assert!(!is_found(arriving(ends, |_| 0.0)), "{langgraph} and {otlp} tasks per second");
            }
        }
    }

    /// A load balancer that alternates between two replicas is the most regular case.
    #[test]
    fn replicas_that_take_turns_are_no_overlap() {
        let mut rng = Rng::with_seed(7);
        for gap in [0.1, 0.5, 1.0, 10.0] {
            for jitter in [0.01, 0.1, 0.5] {
                let format = |number: u32| if number.is_multiple_of(2) { "langgraph" } else { "otlp" };
                let mut end = |number: u32| (1_000.0 + gap * (f64::from(number) + jitter * rng.f64()), format(number));
                assert!(!is_found((0..2_000).map(&mut end)), "every {gap} s");
            }
        }
    }

    #[test]
    fn an_overlap_ends_when_one_source_does() {
        let after = |tasks: u32| {
            let single = (100..100 + tasks).map(|task| (minutes(task), "otlp"));
            record_all(twice(100).into_iter().chain(single)).overlaps()
        };
        assert_eq!(after(10)[AGENT].tasks, 100);
        assert!(after(20).is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let mut detector = OverlapDetector::new(2);
        for number in 0..1_000_u32 {
            let time = Timestamp::from_secs(1_000).saturating_add(Duration::from_millis(10) * number);
            for agent in ["one", "two", "three"] {
                detector.record(agent, "otlp".parse().unwrap(), time, time);
            }
        }
        let pending: Vec<usize> = detector.agents.values().map(|ends| ends.pending.len()).collect();
        assert_eq!(pending, [MAX_PENDING; 2]);
    }

    proptest! {
        #[test]
        fn the_order_of_arrival_does_not_matter(
            tasks in prop::collection::btree_map(0_u32..50_000, 0_u32..1_500, 0..MAX_PENDING / 2),
            seed in any::<u64>(),
        ) {
            let ends = |(end, distance): (&u32, &u32)| {
                let seconds = |millis: u32| 1_000.0 + f64::from(millis) / 1e3;
                [(seconds(*end), "langgraph"), (seconds(end + distance) + 1e-4, "otlp")]
            };
            let sorted = arriving(tasks.iter().flat_map(ends).collect(), |_| 0.0);
            let mut shuffled = sorted.clone();
            Rng::with_seed(seed).shuffle(&mut shuffled);
            let evidence = |ends: Vec<End>| record_all(ends).agents.get(AGENT).map(TaskEnds::evidence);
            prop_assert_eq!(evidence(sorted), evidence(shuffled));
        }
    }
}
