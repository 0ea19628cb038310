use agent_sre::{Severity, Status};
use anstyle::{AnsiColor, Reset, Style};

pub(crate) const PLAIN: Reset = Reset;
pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const ERROR: Style = AnsiColor::Red.on_default().bold();

/// The colour of a status. Colours go only where a terminal shows them; the word says the same everywhere.
pub(crate) const fn of(status: Status) -> Style {
    match status {
        Status::Healthy => AnsiColor::Green.on_default().bold(),
        Status::Unknown => AnsiColor::Cyan.on_default().bold(),
        Status::Warning => AnsiColor::Yellow.on_default().bold(),
        Status::Critical | Status::Exhausted => AnsiColor::Red.on_default().bold(),
    }
}

/// The colour of a severity.
pub(crate) const fn of_severity(severity: Severity) -> Style {
    match severity {
        Severity::Resolved => of(Status::Healthy),
        Severity::Info => of(Status::Unknown),
        Severity::Warning => of(Status::Warning),
        Severity::Critical => of(Status::Critical),
    }
}
