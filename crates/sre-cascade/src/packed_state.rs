use sre_core::BreakerState;

/// What admitting a call depends on, in one word: state, generation, failures and whether a rate limit is set.
/// Written under the breaker's lock, read without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PackedState(pub(crate) u64);

const STATE: u64 = 0b111;
const LIMITED: u64 = 0b1000;
const FAILURES_SHIFT: u32 = 8;
const FAILURES: u64 = 0xff_ffff;
const GENERATION_SHIFT: u32 = 32;

impl PackedState {
    /// `failures` is at most 1,000,000.
    pub(crate) const fn new(state: BreakerState, generation: u32, failures: u32, limited: bool) -> Self {
        let limited = if limited { LIMITED } else { 0 };
        Self((generation as u64) << GENERATION_SHIFT | (failures as u64) << FAILURES_SHIFT | limited | state as u64)
    }

    /// Returns true when every call is admitted: closed, without a rate limit.
    pub(crate) const fn admits_all(self) -> bool {
        self.0 & (STATE | LIMITED) == BreakerState::Closed as u64
    }

    /// Returns true when the success of a call of `generation` changes nothing: closed, without consecutive failures.
    pub(crate) const fn ignores_success(self, generation: u32) -> bool {
        self.0 & !LIMITED == (generation as u64) << GENERATION_SHIFT
    }

    pub(crate) const fn state(self) -> BreakerState {
        match self.0 & STATE {
            0 => BreakerState::Closed,
            1 => BreakerState::Open,
            2 => BreakerState::HalfOpen,
            3 => BreakerState::ForcedOpen,
            _ => BreakerState::Disabled,
        }
    }

    pub(crate) const fn generation(self) -> u32 {
        (self.0 >> GENERATION_SHIFT) as u32
    }

    pub(crate) const fn failures(self) -> u32 {
        (self.0 >> FAILURES_SHIFT & FAILURES) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_survives_packing() {
        use BreakerState::{Closed, Disabled, ForcedOpen, HalfOpen, Open};
        for state in [Closed, Open, HalfOpen, ForcedOpen, Disabled] {
            for (generation, failures, limited) in
                [(0, 0, false), (u32::MAX, 1_000_000, true), (7, 3, false), (7, 0, true)]
            {
                let packed = PackedState::new(state, generation, failures, limited);
                let unpacked = (packed.state(), packed.generation(), packed.failures());
                assert_eq!(unpacked, (state, generation, failures));
                assert_eq!(packed.admits_all(), state == Closed && !limited);
                assert_eq!(packed.ignores_success(generation), state == Closed && failures == 0);
                assert!(!packed.ignores_success(generation ^ 1));
            }
        }
    }
}
