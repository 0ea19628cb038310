use std::io;
use std::sync::{Mutex, Once, PoisonError};

use tracing_subscriber::filter::LevelFilter;

use super::SECRET;

/// Log lines of this process that contain the secret of the suite, and whether anything was logged.
static FOUND: Mutex<Found> = Mutex::new(Found { leaks: Vec::new(), is_capturing: false });

struct Found {
    leaks: Vec<String>,
    is_capturing: bool,
}

/// Searches each line of the log.
struct Search;

impl io::Write for Search {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        found.is_capturing = true;
        if text.contains(SECRET) {
            found.leaks.push(text.into_owned());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Searches the log of the process, at every level, from now on.
pub(super) fn capture() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let log = tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_ansi(false);
        log.with_writer(|| Search).try_init().expect("no other subscriber in the tests of an exporter");
    });
    tracing::trace!("the log is captured");
}

/// Panics if a secret was logged.
pub(super) fn check() {
    let found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(found.is_capturing, "the log is captured");
    assert!(found.leaks.is_empty(), "a secret in the log: {:?}", found.leaks);
}
