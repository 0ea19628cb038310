use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use agent_sre::private::lock;
use agent_sre::prometheus::{Rendering, Scrape, Scraper};
use bytes::Bytes;

/// How old the readings of a scrape may be when it begins.
const MAX_AGE: Duration = Duration::from_secs(1);
/// Maximum number of scrapes with readings of their own. Clients that read slowly keep them, so a further one ends the oldest.
const MAX_SCRAPES: usize = 4;

/// The scrapes of `/metrics` that are being sent, oldest first. Those that begin in the same second share their readings.
#[derive(Default)]
pub(crate) struct Scrapes {
    recent: tokio::sync::Mutex<VecDeque<RecentScrape>>,
    scraper: Arc<Mutex<Scraper>>,
}

struct RecentScrape {
    at: Instant,
    readings: Weak<Readings>,
}

/// The readings of a scrape; `None` once it was ended.
pub(crate) struct Readings(Mutex<Option<Arc<Scrape>>>);

impl Readings {
    /// Renders the next chunk, or returns `None` after the last one; an error if the scrape was ended.
    pub(crate) fn next_chunk(&self, rendering: &mut Rendering) -> Option<io::Result<Bytes>> {
        let Some(scrape) = lock(&self.0).clone() else { return Some(Err(io::ErrorKind::TimedOut.into())) };
        rendering.next_chunk(&scrape).map(|chunk| Ok(chunk.into()))
    }

    fn end(&self) {
        *lock(&self.0) = None;
    }
}

impl Scrapes {
    /// Reads the metrics, or returns what was read within the second before `now` and is still being sent. `read` runs on a thread
    /// that may block.
    pub(crate) async fn get(
        &self,
        now: Instant,
        read: impl FnOnce(&mut Scraper) -> Scrape + Send + 'static,
    ) -> Arc<Readings> {
        // Held while it reads, so that clients that ask at the same time wait for the same readings.
        let mut recent = self.recent.lock().await;
        recent.retain(|scrape| scrape.readings.strong_count() > 0);
        let newest = recent.back().filter(|scrape| now.saturating_duration_since(scrape.at) < MAX_AGE);
        if let Some(readings) = newest.and_then(|scrape| scrape.readings.upgrade()) {
            return readings;
        }
        while recent.len() >= MAX_SCRAPES
            && let Some(oldest) = recent.pop_front()
        {
            oldest.readings.upgrade().inspect(|readings| readings.end());
        }
        let scraper = self.scraper.clone();
        let reading = tokio::task::spawn_blocking(move || read(&mut lock(&scraper)));
        let scrape = reading.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let readings = Arc::new(Readings(Mutex::new(Some(Arc::new(scrape)))));
        recent.push_back(RecentScrape { at: now, readings: Arc::downgrade(&readings) });
        readings
    }
}

#[cfg(test)]
mod tests {
    use agent_sre::prometheus::TextFormat;
    use agent_sre::{Metric, Timestamp};

    use super::*;

    /// Emits one metric, with the number of the scrape.
    struct Numbered(u32);

    impl agent_sre::Collect for Numbered {
        fn metrics(&self, _now: Timestamp, emit: &mut dyn FnMut(Metric<'_>)) {
            emit(Metric::gauge("number", f64::from(self.0)));
        }
    }

    async fn get(scrapes: &Scrapes, now: Instant, number: u32) -> Arc<Readings> {
        scrapes.get(now, move |scraper| scraper.scrape(&Numbered(number), Timestamp::default()).0).await
    }

    fn text(readings: &Readings) -> io::Result<String> {
        let mut rendering = Rendering::new(TextFormat::Prometheus);
        let chunks = std::iter::from_fn(|| readings.next_chunk(&mut rendering)).take(10);
        chunks.map(|chunk| chunk.map(|chunk| String::from_utf8_lossy(&chunk).into_owned())).collect()
    }

    #[tokio::test]
    async fn readings_are_shared_for_a_second_while_they_are_sent() {
        let (scrapes, begun) = (Scrapes::default(), Instant::now());
        let first = get(&scrapes, begun, 1).await;
        assert!(Arc::ptr_eq(&first, &get(&scrapes, begun + MAX_AGE - Duration::from_millis(1), 2).await));
        let third = get(&scrapes, begun + MAX_AGE, 3).await;
        assert!(text(&third).unwrap().ends_with("number 3\n"));
        assert!(text(&first).unwrap().ends_with("number 1\n"), "it is not changed while it is sent");
        drop((first, third));
        assert!(
            text(&*get(&scrapes, begun + MAX_AGE, 4).await).unwrap().ends_with("number 4\n"),
            "nobody is sent the third"
        );
    }

    #[tokio::test]
    async fn the_oldest_of_too_many_scrapes_is_ended() {
        let (scrapes, mut now) = (Scrapes::default(), Instant::now());
        let mut held = Vec::new();
        for number in 0..=MAX_SCRAPES {
            held.push(get(&scrapes, now, u32::try_from(number).unwrap()).await);
            now += MAX_AGE;
        }
        assert_eq!(text(&held[0]).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(held[1..].iter().all(|readings| text(readings).is_ok()));
    }
}
