use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use agent_sre::private::lock;
use agent_sre::prometheus::TextFormat;
use bytes::Bytes;

/// How old the readings of a scrape may be.
const MAX_AGE: Duration = Duration::from_secs(1);
/// Maximum number of scrapes in memory. Clients that read slowly keep them, so a further one ends the oldest.
const MAX_SCRAPES: usize = 4;

/// The scrapes of `/metrics` that are being sent, oldest first. Those of the same second share one.
#[derive(Default)]
pub(crate) struct Scrapes(tokio::sync::Mutex<VecDeque<RecentScrape>>);

struct RecentScrape {
    selection: Selection,
    at: Instant,
    text: Weak<RenderedScrape>,
}

/// What a scrape asks for.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Selection {
    pub(crate) format: TextFormat,
    /// Names of metrics; if empty, all.
    pub(crate) names: Vec<String>,
}

/// The text of a scrape, in chunks; `None` once it was ended.
pub(crate) struct RenderedScrape(Mutex<Option<Vec<Bytes>>>);

impl RenderedScrape {
    /// Returns the chunk of a number, or `None` after the last one; an error if the scrape was ended.
    pub(crate) fn chunk(&self, number: usize) -> Option<io::Result<Bytes>> {
        match &*lock(&self.0) {
            Some(chunks) => chunks.get(number).cloned().map(Ok),
            None => Some(Err(io::ErrorKind::TimedOut.into())),
        }
    }

    fn end(&self) {
        *lock(&self.0) = None;
    }
}

impl Scrapes {
    /// Renders the metrics, or returns what was rendered within the last second and is still being sent. `render` runs on a
    /// thread that may block.
    pub(crate) async fn get(
        &self,
        selection: Selection,
        render: impl FnOnce(Selection) -> Vec<Bytes> + Send + 'static,
    ) -> Arc<RenderedScrape> {
        // Held while it renders, so that clients that ask at the same time wait for one rendering.
        let mut recent = self.0.lock().await;
        recent.retain(|scrape| scrape.text.strong_count() > 0);
        let is_shared = |scrape: &&RecentScrape| scrape.selection == selection && scrape.at.elapsed() < MAX_AGE;
        if let Some(text) = recent.iter().rev().find(is_shared).and_then(|scrape| scrape.text.upgrade()) {
            return text;
        }
        while recent.len() >= MAX_SCRAPES
            && let Some(oldest) = recent.pop_front()
        {
            oldest.text.upgrade().inspect(|text| text.end());
        }
        let (at, wanted) = (Instant::now(), selection.clone());
        let rendering = tokio::task::spawn_blocking(move || render(wanted));
        let chunks = rendering.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let text = Arc::new(RenderedScrape(Mutex::new(Some(chunks))));
        recent.push_back(RecentScrape { selection, at, text: Arc::downgrade(&text) });
        text
    }
}
