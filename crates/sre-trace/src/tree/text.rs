use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use sre_core::Usd;
use sre_core::private::decimal;

use super::{SpanNode, TraceTree};
use crate::TraceSummary;

/// The width of the timeline.
const CELLS: usize = 24;
/// The depth from which a span is indented no further.
const MAX_INDENT: usize = 32;

/// The totals in words, such as `2.5 s, 7 spans, 1 error, 830 tokens, $0.004`.
impl fmt::Display for TraceSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = Duration::try_from_secs_f64(self.duration_ms / 1e3).unwrap_or_default();
        write!(f, "{}, {}", duration(time), count_of(self.spans as u64, "span", "spans"))?;
        for (number, one, many) in [
            (self.errors as u64, "error", "errors"),
            (self.retries as u64, "retry", "retries"),
            (self.broken_hops as u64, "broken hop", "broken hops"),
            (self.input_tokens.saturating_add(self.output_tokens), "token", "tokens"),
        ] {
            if number > 0 {
                write!(f, ", {}", count_of(number, one, many))?;
            }
        }
        self.cost_usd.map_or(Ok(()), |cost| write!(f, ", {}", dollars(cost)))
    }
}

/// A table with a line for each span.
impl fmt::Display for TraceTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "trace {}: {}", self.trace_id, self.summary())?;
        f.write_char('\n')?;
        self.table(f)?;
        f.write_char('\n')?;
        for hop in &self.broken_hops {
            writeln!(f, "broken hop: {hop}")?;
        }
        f.write_str("█ on the critical path  ▒ beside it  ✗ failed\n")
    }
}

impl TraceTree {
    /// Returns the totals in words, such as `2.5 s, 7 spans, 1 error, 830 tokens, $0.004`.
    pub fn summary(&self) -> String {
        TraceSummary::from(self).to_string()
    }

    fn table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_tokens = self.input_tokens.saturating_add(self.output_tokens) > 0;
        let has_costs = self.nodes.iter().any(|node| node.branch_cost_usd.is_some());
        let columns = |f: &mut fmt::Formatter<'_>, [duration, own, tokens, cost]: [&str; 4]| {
            write!(f, "{duration:>11} {own:>11}")?;
            if has_tokens {
                write!(f, " {tokens:>11}")?;
            }
            if has_costs {
                write!(f, " {cost:>11}")?;
            }
            f.write_str("  ")
        };
        columns(f, ["duration", "self", "tokens", "cost"])?;
        writeln!(f, "{:CELLS$}  span", "timeline")?;
        let mut outline = Outline::of(self);
        for (index, node) in self.nodes.iter().enumerate() {
            let tokens = Some(node.branch_tokens()).filter(|&tokens| tokens > 0).map(count).unwrap_or_default();
            let cost = node.branch_cost_usd.map(dollars).unwrap_or_default();
            columns(f, [&duration(node.span.duration()), &duration(node.self_time), &tokens, &cost])?;
            writeln!(f, "{}  {}{}", self.bar(node), outline.prefix(index, node.depth), self.label(node))?;
        }
        Ok(())
    }

    /// Returns the time of a span within the trace as a bar.
    fn bar(&self, node: &SpanNode) -> String {
        let whole = self.duration().as_nanos().max(1);
        let cell = |time: sre_core::Timestamp| time.since(self.start).as_nanos() * CELLS as u128;
        let from = (cell(node.span.start) / whole).min(CELLS as u128 - 1) as usize;
        let to = (cell(node.span.end).div_ceil(whole) as usize).clamp(from + 1, CELLS);
        let block = if node.critical_time.is_some() { '█' } else { '▒' };
        (0..CELLS).map(|cell| if (from..to).contains(&cell) { block } else { ' ' }).collect()
    }

    /// Returns the agent or service that recorded a span, unless it also recorded the span above.
    pub(super) fn new_recorder<'a>(&'a self, node: &'a SpanNode) -> Option<&'a Arc<str>> {
        let above = node.parent.and_then(|parent| self.nodes[parent].span.recorded_by());
        node.span.recorded_by().filter(|by| above != Some(by))
    }

    fn label(&self, node: &SpanNode) -> String {
        let span = &node.span;
        let mut label = String::new();
        if span.error.is_some() {
            label.push_str("✗ ");
        }
        _ = write!(label, "{}", Printable(&span.name));
        if let Some(by) = self.new_recorder(node) {
            _ = write!(label, " [{}]", Printable(by));
        }
        if let Some(attempt) = node.attempt {
            _ = write!(label, ", attempt {attempt}");
        }
        if let Some(error) = &span.error {
            _ = write!(label, ": {}", Printable(error.lines().next().unwrap_or_default()));
        }
        label
    }
}

/// The lines that show which span is below which.
struct Outline {
    is_last: Vec<bool>,
    /// For each depth up to that of the current line, whether further spans follow below the same parent.
    continues: Vec<bool>,
}

impl Outline {
    fn of(tree: &TraceTree) -> Self {
        let mut is_last = vec![false; tree.nodes.len()];
        tree.children().iter().filter_map(|children| children.last()).for_each(|&last| is_last[last] = true);
        Self { is_last, continues: Vec::new() }
    }

    fn prefix(&mut self, index: usize, depth: usize) -> String {
        if depth == 0 {
            self.continues.clear();
            return String::new();
        }
        // Roots are not connected.
        let is_last = self.is_last[index];
        self.continues.truncate(depth - 1);
        let above = self.continues.iter().take(MAX_INDENT).map(|continues| if *continues { "│  " } else { "   " });
        let mut prefix: String = above.collect();
        prefix.push_str(if is_last { "└─ " } else { "├─ " });
        if depth > MAX_INDENT {
            _ = write!(prefix, "(depth {depth}) ");
        }
        self.continues.push(!is_last);
        prefix
    }
}

/// A text from a peer, without characters that would control a terminal or reverse the text after them.
pub(super) struct Printable<'a>(pub(super) &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_hidden = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        self.0.chars().try_for_each(|c| f.write_char(if is_hidden(c) { ' ' } else { c }))
    }
}

pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match duration.as_secs() {
        0 => format!("{} ms", decimal(seconds * 1e3)),
        1..60 => format!("{} s", decimal(seconds)),
        whole @ 60..3_600 => format!("{} min {} s", whole / 60, whole % 60),
        whole => format!("{} h {} min", whole / 3_600, whole / 60 % 60),
    }
}

pub(super) fn dollars(cost: Usd) -> String {
    format!("${}", decimal(cost.as_dollars()))
}

/// Formats a number with thousands separators.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(super) fn count_of(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}
