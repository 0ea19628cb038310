use rustc_hash::FxHashMap;
use sre_core::Timestamp;

use crate::id_set::IdSet;

/// Failing targets and the times of their first failures.
pub(crate) type FailingSince = FxHashMap<u32, Timestamp>;

/// Returns the longest path along which failures can have propagated: each target on it calls the one before it and did not fail
/// before it. Of paths of equal length, it returns the one whose last target failed first, then the one with the lowest id.
///
/// Takes time proportional to the number of failing targets and their callers.
pub(crate) fn longest_path<'a>(failing: &FailingSince, callers: impl Fn(u32) -> &'a [u32]) -> Vec<u32> {
    let mut order: Vec<(Timestamp, u32)> = failing.iter().map(|(id, since)| (*since, *id)).collect();
    order.sort_unstable();
    let index: FxHashMap<u32, usize> = order.iter().enumerate().map(|(index, (_, id))| (*id, index)).collect();
    // Most callers of a busy target work; a bit set is faster than the map here.
    let mut is_failing = IdSet::below(failing.keys().max().map_or(0, |id| *id as usize + 1));
    for id in failing.keys() {
        is_failing.insert(*id);
    }
    // Edges lead from a target to the callers that did not fail before it, by index in `order`.
    let edges_from = |from: usize| {
        let (since, id) = order[from];
        let later = callers(id).iter().filter(|id| is_failing.contains(**id)).filter_map(|id| index.get(id).copied());
        later.filter(|to| order[*to].0 >= since && *to != from).collect::<Vec<usize>>()
    };
    let edges: Vec<Vec<usize>> = (0..order.len()).map(edges_from).collect();
    let mut incoming = vec![0u32; order.len()];
    edges.iter().flatten().for_each(|to| incoming[*to] += 1);

    let mut predecessor: Vec<Option<usize>> = vec![None; order.len()];
    let mut length = vec![1u32; order.len()];
    let mut is_done = vec![false; order.len()];
    let mut ready: Vec<usize> = (0..order.len()).filter(|index| incoming[*index] == 0).rev().collect();
    let mut next = 0;
    loop {
        let Some(from) = ready.pop() else {
            // Only cycles remain, whose targets failed at the same moment: start from the first of them.
            while next < order.len() && is_done[next] {
                next += 1;
            }
            if next == order.len() {
                break;
            }
            ready.push(next);
            continue;
        };
        if std::mem::replace(&mut is_done[from], true) {
            continue;
        }
        for &to in edges[from].iter().filter(|to| !is_done[**to]) {
            if length[from] + 1 > length[to] {
                (length[to], predecessor[to]) = (length[from] + 1, Some(from));
            }
            incoming[to] = incoming[to].saturating_sub(1);
            if incoming[to] == 0 {
                ready.push(to);
            }
        }
    }

    let mut path = Vec::new();
    let mut last = (0..order.len()).max_by_key(|index| (length[*index], std::cmp::Reverse(*index)));
    while let Some(index) = last {
        path.push(order[index].1);
        last = predecessor[index];
    }
    path.reverse();
    path
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn graph(calls: &[(u32, u32)]) -> Vec<Vec<u32>> {
        let mut callers = vec![Vec::new(); 16];
        calls.iter().for_each(|(caller, callee)| callers[*callee as usize].push(*caller));
        callers
    }

    fn path(calls: &[(u32, u32)], failing: &[(u32, i64)]) -> Vec<u32> {
        let callers = graph(calls);
        let failing = failing.iter().map(|(id, at)| (*id, Timestamp::from_secs(*at))).collect();
        longest_path(&failing, |id| &callers[id as usize])
    }

    #[test]
    fn failures_propagate_from_callee_to_caller() {
        let chain = [(2, 1), (1, 0)];
        assert_eq!(path(&chain, &[(0, 10), (1, 11), (2, 12)]), [0, 1, 2]);
        assert_eq!(path(&chain, &[(0, 10), (1, 10), (2, 10)]), [0, 1, 2], "simultaneous failures");
        assert_eq!(path(&chain, &[(2, 10), (1, 11), (0, 12)]), [2], "failures from caller to callee");
        assert_eq!(path(&chain, &[(0, 10), (2, 12)]), [0], "a caller in between did not fail");
        assert_eq!(path(&[], &[]), [0; 0]);
    }

    #[test]
    fn the_path_through_a_cycle_starts_at_the_first_failure() {
        let cycle = [(1, 0), (2, 1), (0, 2)];
        assert_eq!(path(&cycle, &[(0, 12), (1, 10), (2, 11)]), [1, 2, 0]);
        assert_eq!(path(&cycle, &[(0, 10), (1, 10), (2, 10)]).len(), 3, "any start");
    }

    /// Tries every path.
    fn longest_by_brute_force(callers: &[Vec<u32>], failing: &FailingSince, path: &mut Vec<u32>) -> usize {
        let last = *path.last().unwrap();
        let mut longest = path.len();
        for caller in &callers[last as usize] {
            if !path.contains(caller) && failing.get(caller).is_some_and(|since| *since >= failing[&last]) {
                path.push(*caller);
                longest = longest.max(longest_by_brute_force(callers, failing, path));
                path.pop();
            }
        }
        longest
    }

    proptest! {
        #[test]
        fn no_path_is_longer(
            calls in prop::collection::vec((0u32..8, 0u32..8), 0..20),
            times in Just((0i64..8).collect::<Vec<i64>>()).prop_shuffle(),
            fails in prop::collection::vec(any::<bool>(), 8),
        ) {
            let callers = graph(&calls);
            let failing: FailingSince = (0u32..8)
                .filter(|id| fails[*id as usize])
                .map(|id| (id, Timestamp::from_secs(times[id as usize])))
                .collect();
            let expected =
                failing.keys().map(|id| longest_by_brute_force(&callers, &failing, &mut vec![*id])).max().unwrap_or(0);
            let found = longest_path(&failing, |id| &callers[id as usize]);
            prop_assert_eq!(found.len(), expected);
            for pair in found.windows(2) {
                prop_assert!(callers[pair[0] as usize].contains(&pair[1]) && failing[&pair[0]] <= failing[&pair[1]]);
            }
        }

        /// The order of simultaneous failures is unknown, so only the path's validity is checked.
        #[test]
        fn ties_and_cycles_terminate(calls in prop::collection::vec((0u32..8, 0u32..8), 0..40), times in prop::collection::vec(0i64..3, 8)) {
            let callers = graph(&calls);
            let failing: FailingSince = (0u32..8).map(|id| (id, Timestamp::from_secs(times[id as usize]))).collect();
            let found = longest_path(&failing, |id| &callers[id as usize]);
            for pair in found.windows(2) {
                prop_assert!(callers[pair[0] as usize].contains(&pair[1]) && failing[&pair[0]] <= failing[&pair[1]]);
            }
            let mut once = found.clone();
            once.sort_unstable();
            once.dedup();
            prop_assert_eq!(once.len(), found.len());
        }
    }
}
