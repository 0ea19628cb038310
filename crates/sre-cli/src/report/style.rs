use agent_sre::{Severity, Status};
use anstyle::{AnsiColor, Reset, Style};

pub(crate) const PLAIN: Reset = Reset;
pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const ERROR: Style = AnsiColor::Red.on_default().bold();
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default().bold();

/// Returns the style of a status. The report also spells the status out, for output without colours.
pub(crate) const fn for_status(status: Status) -> Style {
    match status {
        Status::Healthy => AnsiColor::Green.on_default().bold(),
        Status::Unknown => AnsiColor::Cyan.on_default().bold(),
        Status::Warning => AnsiColor::Yellow.on_default().bold(),
        Status::Critical | Status::Exhausted => AnsiColor::Red.on_default().bold(),
    }
}

/// Returns the style of a severity.
pub(crate) const fn for_severity(severity: Severity) -> Style {
    match severity {
        Severity::Resolved => for_status(Status::Healthy),
        Severity::Info => for_status(Status::Unknown),
        Severity::Warning => for_status(Status::Warning),
        Severity::Critical => for_status(Status::Critical),
    }
}
