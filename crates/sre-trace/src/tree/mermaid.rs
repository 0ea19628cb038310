use std::fmt::{self, Write};

use super::text::{count_of, dollars, duration};
use super::{BrokenHop, TraceTree};

impl TraceTree {
    /// Returns the trees as a [Mermaid](https://mermaid.js.org) flow chart: thick arrows are the critical path, failed spans are red, and
    /// dotted arrows are broken hops.
    pub fn to_mermaid(&self) -> String {
        let mut chart = "flowchart LR\n".to_owned();
        _ = self.write_mermaid(&mut chart);
        chart
    }

    fn write_mermaid(&self, chart: &mut String) -> fmt::Result {
        for (index, node) in self.nodes.iter().enumerate() {
            write!(chart, "    s{index}[\"{}", Escaped(&node.span.name))?;
            if let Some(by) = self.new_recorder(node) {
                write!(chart, " [{}]", Escaped(by))?;
            }
            if let Some(attempt) = node.attempt {
                write!(chart, ", attempt {attempt}")?;
            }
            write!(chart, "<br>{}, self {}", duration(node.span.duration()), duration(node.self_time))?;
            if node.branch_tokens() > 0 {
                write!(chart, ", {}", count_of(node.branch_tokens(), "token", "tokens"))?;
            }
            if let Some(cost) = node.branch_cost_usd {
                write!(chart, ", {}", dollars(cost))?;
            }
            if let Some(error) = &node.span.error {
                write!(chart, "<br>{}", Escaped(error.lines().next().unwrap_or_default()))?;
            }
            writeln!(chart, "\"]")?;
            if let Some(parent) = node.parent {
                let arrow = if node.critical_time.is_some() { "==>" } else { "-->" };
                writeln!(chart, "    s{parent} {arrow} s{index}")?;
            }
        }
        let place = |id| self.nodes.iter().position(|node| node.span.span_id == id);
        for (number, hop) in self.broken_hops.iter().enumerate() {
            let below: Vec<_> = match hop {
                BrokenHop::MissingParent { spans, .. } => spans.iter().collect(),
                BrokenHop::DroppedContext { caller, receiver, .. } => vec![caller, receiver],
                BrokenHop::Cycle { span } => vec![span],
            };
            writeln!(chart, "    b{number}([\"{}\"])", Escaped(&hop.to_string()))?;
            for index in below.into_iter().filter_map(|span| place(span.span_id)) {
                writeln!(chart, "    b{number} -.-> s{index}")?;
            }
        }
        let failed: Vec<String> = (0..self.nodes.len())
            .filter(|&index| self.nodes[index].span.error.is_some())
            .map(|index| format!("s{index}"))
            .collect();
        if !failed.is_empty() {
            writeln!(chart, "    classDef failed fill:#fde8e8,stroke:#c81e1e,color:#771d1d")?;
            writeln!(chart, "    class {} failed", failed.join(","))?;
        }
        Ok(())
    }
}

/// A text inside the quotes of a Mermaid label.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '"' | '#' | '&' | '<' | '>' | '`' | '\\' | ';' => write!(f, "#{};", u32::from(c))?,
                c if c.is_control() => f.write_char(' ')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}
