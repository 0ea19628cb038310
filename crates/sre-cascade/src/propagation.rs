use rustc_hash::FxHashMap;
use sre_core::Timestamp;

/// Who fails, and since when.
pub(crate) type FailingSince = FxHashMap<u32, Timestamp>;

/// The longest way that failures can have gone: each of it calls the one before it, and did not fail before that one did.
/// Of ways of the same length, the one whose end failed first; among equals the lowest number.
///
/// Takes time in proportion to the failing ones and their callers.
pub(crate) fn longest_path<'a>(failing: &FailingSince, callers: impl Fn(u32) -> &'a [u32]) -> Vec<u32> {
    let mut order: Vec<(Timestamp, u32)> = failing.iter().map(|(id, since)| (*since, *id)).collect();
    order.sort_unstable();
    let place: FxHashMap<u32, usize> = order.iter().enumerate().map(|(place, (_, id))| (*id, place)).collect();
    // Whom a failure can have come to from each, by place in that order: those who did not fail earlier.
    let reached = |from: usize| {
        let (since, id) = order[from];
        let later = callers(id).iter().filter_map(|caller| place.get(caller).copied());
        later.filter(|to| order[*to].0 >= since && *to != from).collect::<Vec<usize>>()
    };
    let edges: Vec<Vec<usize>> = (0..order.len()).map(reached).collect();
    let mut waits_for = vec![0u32; order.len()];
    edges.iter().flatten().for_each(|to| waits_for[*to] += 1);

    let mut before: Vec<Option<usize>> = vec![None; order.len()];
    let mut length = vec![1u32; order.len()];
    let mut is_done = vec![false; order.len()];
    let mut ready: Vec<usize> = (0..order.len()).filter(|place| waits_for[*place] == 0).rev().collect();
    let mut next = 0;
    loop {
        let Some(from) = ready.pop() else {
            // What is left calls itself in a circle, all of it failing since the same moment: it is cut at the first.
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
                (length[to], before[to]) = (length[from] + 1, Some(from));
            }
            waits_for[to] = waits_for[to].saturating_sub(1);
            if waits_for[to] == 0 {
                ready.push(to);
            }
        }
    }

    let mut path = Vec::new();
    let mut at = (0..order.len()).max_by_key(|place| (length[*place], std::cmp::Reverse(*place)));
    while let Some(place) = at {
        path.push(order[place].1);
        at = before[place];
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
    fn failures_go_from_the_callee_to_its_callers() {
        let chain = [(2, 1), (1, 0)];
        assert_eq!(path(&chain, &[(0, 10), (1, 11), (2, 12)]), [0, 1, 2]);
        assert_eq!(path(&chain, &[(0, 10), (1, 10), (2, 10)]), [0, 1, 2], "at once counts too");
        assert_eq!(path(&chain, &[(2, 10), (1, 11), (0, 12)]), [2], "the other way is no cascade");
        assert_eq!(path(&chain, &[(0, 10), (2, 12)]), [0], "a gap ends it");
        assert_eq!(path(&[], &[]), [0; 0]);
    }

    #[test]
    fn a_circle_has_the_first_failure_as_its_origin() {
        let circle = [(1, 0), (2, 1), (0, 2)];
        assert_eq!(path(&circle, &[(0, 12), (1, 10), (2, 11)]), [1, 2, 0]);
        assert_eq!(path(&circle, &[(0, 10), (1, 10), (2, 10)]).len(), 3, "cut at one of them");
    }

    /// Every way there is, by trying all of them.
    fn longest_by_brute_force(callers: &[Vec<u32>], failing: &FailingSince, way: &mut Vec<u32>) -> usize {
        let last = *way.last().unwrap();
        let mut longest = way.len();
        for caller in &callers[last as usize] {
            if !way.contains(caller) && failing.get(caller).is_some_and(|since| *since >= failing[&last]) {
                way.push(*caller);
                longest = longest.max(longest_by_brute_force(callers, failing, way));
                way.pop();
            }
        }
        longest
    }

    proptest! {
        #[test]
        fn no_way_is_longer(
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

        /// Among failures of the same moment nobody can say which came first; the way is a way all the same.
        #[test]
        fn ties_and_circles_end(calls in prop::collection::vec((0u32..8, 0u32..8), 0..40), times in prop::collection::vec(0i64..3, 8)) {
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
