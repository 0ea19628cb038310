//! What the fuzz targets share: the properties that hold for every input.

use agent_sre::adapter::{Adapter, Body, BodyKind, IngestLimits};
use agent_sre::{AgentEvent, Format, RunLimits, StateReader, StateWriter};

/// Feeds a format's lines to two adapters, of which one restarts at the line that the first byte names. Both emit the same events.
pub fn lines(format: &str, data: &[u8]) {
    let Some((&restart, lines)) = data.split_first() else { return };
    let (lines, kind) = (lines.split(|byte| *byte == b'\n'), BodyKind::Lines);
    compare(format, lines.map(|line| (kind, line)), usize::from(restart));
}

/// Feeds an OTLP export request to two adapters, of which one restarts after it. Both emit the same events.
pub fn otlp(kind: BodyKind, data: &[u8]) {
    compare("otlp", [(kind, data)].into_iter(), 1);
}

fn compare<'a>(format: &str, bodies: impl Iterator<Item = (BodyKind, &'a [u8])>, restart: usize) {
    let format: Format = format.parse().expect("the format is one of this build");
    let (mut straight, mut restarted) = (Vec::new(), Vec::new());
    let (mut adapter, mut other) = (format.adapter(limits()), format.adapter(limits()));
    for (number, (kind, bytes)) in (0..).zip(bodies) {
        if number == restart {
            other = again(format, &*other);
        }
        feed(&mut *adapter, kind, bytes, &mut straight);
        feed(&mut *other, kind, bytes, &mut restarted);
    }
    other = again(format, &*other);
    adapter.finish(&mut |event| straight.push(event));
    other.finish(&mut |event| restarted.push(event));
    assert_eq!(straight, restarted);
}

/// Few and short runs, so that short inputs reach the limits too.
fn limits() -> RunLimits {
    RunLimits { max_open_runs: 3, ..RunLimits::default() }
}

fn feed(adapter: &mut dyn Adapter, kind: BodyKind, bytes: &[u8], events: &mut Vec<AgentEvent>) {
    let body = Body::new(kind, bytes.to_vec());
    let _ = adapter.ingest_body(body, &IngestLimits::default(), &mut |event| events.push(event));
}

/// Returns an adapter with the saved state of another.
fn again(format: Format, adapter: &dyn Adapter) -> Box<dyn Adapter> {
    let mut state = StateWriter::default();
    adapter.save(&mut state);
    let state = state.finish().expect("state can be saved");
    let mut again = format.adapter(limits());
    again.restore(&mut StateReader::new(&state)).expect("saved state can be restored");
    again
}
