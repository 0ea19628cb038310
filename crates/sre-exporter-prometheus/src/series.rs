use std::borrow::Cow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustc_hash::{FxHashSet, FxHasher};
use smallvec::SmallVec;

use crate::InvalidMetric;
use crate::labels::render_into;

/// The series of a family, in the order in which they are read: each scrape compares its own with those of the scrape before, and keeps
/// the blocks that are the same.
#[derive(Debug, Default)]
pub(crate) struct SeriesList {
    blocks: Vec<Arc<SeriesBlock>>,
    /// Number of series in this scrape so far.
    count: usize,
    /// The block that is being read, if it differs from the one before.
    changed: Option<SeriesBlock>,
    has_changed: bool,
    /// The places of the labels of the last rendered series, sorted by name: usually those of the next series, too.
    order: SmallVec<[u8; 8]>,
    /// The places of series that come a second time.
    repeated: Arc<FxHashSet<usize>>,
    rendered: String,
}

/// The rendered labels of some consecutive series.
#[derive(Debug, Default)]
pub(crate) struct SeriesBlock {
    text: String,
    /// Where the labels of each series end.
    ends: Vec<u32>,
    /// Number of labels of each series; 0 if it is not the same, or if a value has escapes.
    plain_labels: usize,
}

/// The labels of a metric, in the order they were added.
type Labels<'a> = [(Cow<'a, str>, Cow<'a, str>)];

/// Number of series in a block.
const BLOCK: usize = 512;

impl SeriesList {
    /// Returns the rendered labels of the series at `place`.
    pub(crate) fn labels(blocks: &[Arc<SeriesBlock>], place: usize) -> &str {
        blocks[place / BLOCK].get(place % BLOCK).expect("every value has a series")
    }

    /// Adds a series of the metric with this name.
    pub(crate) fn push(&mut self, metric: &str, labels: &Labels<'_>) -> Result<(), InvalidMetric> {
        let (number, place) = (self.count / BLOCK, self.count % BLOCK);
        let is_known =
            self.changed.is_none() && self.blocks.get(number).is_some_and(|block| block.is(place, labels, &self.order));
        if !is_known {
            self.push_rendered(metric, labels)?;
        }
        self.count += 1;
        if self.count.is_multiple_of(BLOCK) {
            self.end_block();
        }
        Ok(())
    }

    fn push_rendered(&mut self, metric: &str, labels: &Labels<'_>) -> Result<(), InvalidMetric> {
        self.order = (0..).take(labels.len()).collect();
        self.order.sort_by_key(|at| &labels[usize::from(*at)].0);
        let sorted = self.order.iter().map(|at| &labels[usize::from(*at)]);
        let sorted: SmallVec<[_; 8]> = sorted.map(|(name, value)| (&**name, &**value)).collect();
        self.rendered.clear();
        render_into(&mut self.rendered, metric, &sorted)?;
        let (block, place) = (self.blocks.get(self.count / BLOCK), self.count % BLOCK);
        if self.changed.is_none() && block.and_then(|block| block.get(place)) == Some(&self.rendered) {
            return Ok(());
        }
        let unchanged = || block.map(|block| block.up_to(place)).unwrap_or_default();
        self.changed.get_or_insert_with(unchanged).push(&self.rendered);
        Ok(())
    }

    /// Replaces the block before the next series, if it has changed.
    fn end_block(&mut self) {
        let Some(changed) = self.changed.take() else { return };
        self.has_changed = true;
        let (number, changed) = ((self.count - 1) / BLOCK, Arc::new(changed));
        match self.blocks.get_mut(number) {
            Some(block) => *block = changed,
            None => self.blocks.push(changed),
        }
    }

    /// Returns the series of this scrape, and begins the next.
    pub(crate) fn finish(&mut self) -> Vec<Arc<SeriesBlock>> {
        self.end_block();
        let (blocks, in_last) = (self.count.div_ceil(BLOCK), self.count % BLOCK);
        self.has_changed |= self.blocks.len() > blocks;
        self.blocks.truncate(blocks);
        if let Some(last) = self.blocks.last_mut().filter(|last| in_last > 0 && last.ends.len() > in_last) {
            *last = Arc::new(last.up_to(in_last));
            self.has_changed = true;
        }
        self.count = 0;
        if std::mem::take(&mut self.has_changed) {
            self.repeated = Arc::new(repeated(&self.blocks));
        }
        self.blocks.clone()
    }

    /// Returns the places of series that come a second time in the scrape that was finished last.
    pub(crate) fn repeated(&self) -> Arc<FxHashSet<usize>> {
        self.repeated.clone()
    }

    /// Returns an error if a series of the metric with this name has come a second time.
    pub(crate) fn outcome(&self, metric: &str) -> Result<(), InvalidMetric> {
        let Some(first) = self.repeated.iter().min() else { return Ok(()) };
        let found = format!("two values of the series {{{}}}", Self::labels(&self.blocks, *first));
        Err(InvalidMetric::new(metric, found, "labels that distinguish them"))
    }
}

impl SeriesBlock {
    fn get(&self, place: usize) -> Option<&str> {
        let end = *self.ends.get(place)? as usize;
        Some(&self.text[self.end_of(place)..end])
    }

    /// Returns where the labels of the first `count` series end.
    fn end_of(&self, count: usize) -> usize {
        if count == 0 { 0 } else { self.ends[count - 1] as usize }
    }

    /// Returns true if the series at `place` has these labels, which `order` sorts. Returns false, too, if it has escapes.
    fn is(&self, place: usize, labels: &Labels<'_>, order: &[u8]) -> bool {
        // As many labels as in the text, and no escapes in that: so no quote in the text is part of a value.
        let is_plain = self.plain_labels == labels.len() && order.len() == labels.len();
        let Some(text) = self.get(place).filter(|_| is_plain) else { return false };
        let mut rest = text.as_bytes();
        for (name, value) in order.iter().filter_map(|at| labels.get(usize::from(*at))) {
            let after = || {
                let rest = if rest.len() == text.len() { rest } else { rest.strip_prefix(b",")? };
                rest.strip_prefix(name.as_bytes())?
                    .strip_prefix(b"=\"")?
                    .strip_prefix(value.as_bytes())?
                    .strip_prefix(b"\"")
                    .filter(|_| !value.is_empty())
            };
            let Some(after) = after() else { return false };
            rest = after;
        }
        rest.is_empty()
    }

    fn push(&mut self, labels: &str) {
        let has_escapes = labels.contains('\\');
        let count = if has_escapes { 0 } else { labels.bytes().filter(|byte| *byte == b'"').count() / 2 };
        self.plain_labels = if self.ends.is_empty() || self.plain_labels == count { count } else { 0 };
        self.text.push_str(labels);
        self.ends.push(u32::try_from(self.text.len()).expect("labels are far shorter than 4 GiB"));
    }

    /// Returns the first `count` series.
    fn up_to(&self, count: usize) -> Self {
        let (text, ends) = (self.text[..self.end_of(count)].to_owned(), self.ends[..count].to_vec());
        Self { text, ends, plain_labels: self.plain_labels }
    }
}

/// Returns the places of series that have come before.
fn repeated(blocks: &[Arc<SeriesBlock>]) -> FxHashSet<usize> {
    let all = || blocks.iter().flat_map(|block| (0..block.ends.len()).filter_map(|place| block.get(place)));
    let digest = |labels: &str| {
        let mut hasher = FxHasher::default();
        labels.hash(&mut hasher);
        hasher.finish()
    };
    let mut digests: Vec<u64> = all().map(digest).collect();
    // Much faster than a look-up of each.
    digests.sort_unstable();
    if digests.windows(2).all(|pair| pair[0] != pair[1]) {
        return FxHashSet::default();
    }
    let mut known = FxHashSet::default();
    all().enumerate().filter(|(_, labels)| !known.insert(*labels)).map(|(place, _)| place).collect()
}
