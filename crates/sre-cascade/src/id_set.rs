/// A set of target ids, a bit for each.
#[derive(Debug)]
pub(crate) struct IdSet(Vec<u64>);

impl IdSet {
    /// Creates an empty set of ids below `end`.
    pub(crate) fn below(end: usize) -> Self {
        Self(vec![0; end.div_ceil(64)])
    }

    /// Adds an id; returns false if the set had it.
    #[inline]
    pub(crate) fn insert(&mut self, id: u32) -> bool {
        let (word, bit) = (id as usize / 64, 1 << (id % 64));
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
    }

    #[inline]
    pub(crate) fn contains(&self, id: u32) -> bool {
        self.0.get(id as usize / 64).is_some_and(|word| word & (1 << (id % 64)) != 0)
    }
}
