use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use agent_sre::Collect;
use agent_sre::prometheus::{Scrape, TextFormat};
use bytes::Bytes;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use crate::app::AppState;
use crate::dropped_agents::WithoutAgents;

/// How old the readings of a scrape may be.
const MAX_AGE: Duration = Duration::from_secs(1);
/// Maximum number of scrapes in memory: clients that read slowly keep them.
const MAX_SCRAPES: usize = 4;

/// The scrapes of `/metrics` that are being sent. Those of the same second share one.
pub(crate) struct Scrapes {
    latest: Mutex<Option<(Selection, Instant, Weak<RenderedScrape>)>>,
    in_memory: Arc<Semaphore>,
}

/// What a scrape asks for.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Selection {
    pub(crate) format: TextFormat,
    /// Names of metrics; if empty, all.
    pub(crate) names: Vec<String>,
}

/// The text of a scrape, in chunks.
pub(crate) struct RenderedScrape {
    pub(crate) chunks: Vec<Bytes>,
    _in_memory: OwnedSemaphorePermit,
}

/// Other scrapes are still being read.
pub(crate) struct TooManyScrapes;

impl Default for Scrapes {
    fn default() -> Self {
        Self { latest: Mutex::default(), in_memory: Arc::new(Semaphore::new(MAX_SCRAPES)) }
    }
}

impl Scrapes {
    /// Renders the metrics, or returns what was rendered within the last second and is still being sent.
    pub(crate) async fn render(
        &self,
        state: &Arc<AppState>,
        selection: Selection,
    ) -> Result<Arc<RenderedScrape>, TooManyScrapes> {
        // Held while it renders, so that clients that ask at the same time wait for one rendering.
        let mut latest = self.latest.lock().await;
        if let Some((of, at, scrape)) = &*latest
            && *of == selection
            && at.elapsed() < MAX_AGE
            && let Some(scrape) = scrape.upgrade()
        {
            return Ok(scrape);
        }
        let permit = self.in_memory.clone().try_acquire_owned().map_err(|_| TooManyScrapes)?;
        let (begun, state, wanted) = (Instant::now(), state.clone(), selection.clone());
        let rendering = tokio::task::spawn_blocking(move || {
            let chunks = render(&state, wanted);
            Arc::new(RenderedScrape { chunks, _in_memory: permit })
        });
        let scrape = rendering.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        *latest = Some((selection, begun, Arc::downgrade(&scrape)));
        Ok(scrape)
    }
}

fn render(state: &AppState, selection: Selection) -> Vec<Bytes> {
    let (engines, settings) = (state.shared.engines(), state.settings());
    let sources = [&engines.runtime as &dyn Collect, state];
    let source = WithoutAgents { source: &sources, dropped: &settings.metrics_drop_agents };
    let mut scrape = Scrape::new(selection.format).only(selection.names);
    if let Err(error) = scrape.collect(&source, state.shared.now()) {
        tracing::error!(%error, "A metric is missing from /metrics; please report this bug");
    }
    scrape.into_chunks().map(Bytes::from).collect()
}
