use sre_core::BreakerState;

/// All that a call must know before it starts, in one word: the state, its number, and how many failures in a row it has
/// seen. Written under the breaker's lock, read by everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PackedState(pub(crate) u64);

const STATE: u64 = 0b111;
const LIMITED: u64 = 0b1000;
const FAILURES_SHIFT: u32 = 8;
const GENERATION_SHIFT: u32 = 32;

impl PackedState {
    /// `streak` is at most a million.
    pub(crate) const fn new(state: BreakerState, generation: u32, consecutive_failures: u32, limited: bool) -> Self {
        let limited = if limited { LIMITED } else { 0 };
        Self(
            (generation as u64) << GENERATION_SHIFT
                | (consecutive_failures as u64) << FAILURES_SHIFT
                | limited
                | state as u64,
        )
    }

    /// Calls are let through, and nothing more has to be looked at.
    pub(crate) const fn admits_all(self) -> bool {
        self.0 & (STATE | LIMITED) == BreakerState::Closed as u64
    }

    /// A call of that number went well, and nothing has to be written down for it.
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

    pub(crate) const fn consecutive_failures(self) -> u32 {
        (self.0 >> FAILURES_SHIFT) as u32 & 0xff_ffff
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_keeps_what_was_put_in() {
        use BreakerState::{Closed, Disabled, ForcedOpen, HalfOpen, Open};
        for state in [Closed, Open, HalfOpen, ForcedOpen, Disabled] {
            for (generation, consecutive_failures, limited) in
                [(0, 0, false), (u32::MAX, 1_000_000, true), (7, 3, false), (7, 0, true)]
            {
                let packed = PackedState::new(state, generation, consecutive_failures, limited);
                assert_eq!(
                    (packed.state(), packed.generation(), packed.consecutive_failures()),
                    (state, generation, consecutive_failures)
                );
                assert_eq!(packed.admits_all(), state == Closed && !limited);
                assert_eq!(packed.ignores_success(generation), state == Closed && consecutive_failures == 0);
                assert!(!packed.ignores_success(generation ^ 1));
            }
        }
    }
}
