use sre_core::BreakerState;

/// All that a call must know before it starts, in one word: the state, its number, and how many failures in a row it has
/// seen. Written under the breaker's lock, read by everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gate(pub(crate) u64);

const STATE: u64 = 0b111;
const LIMITED: u64 = 0b1000;
const STREAK_SHIFT: u32 = 8;
const GENERATION_SHIFT: u32 = 32;

impl Gate {
    /// `streak` is at most a million.
    pub(crate) const fn new(state: BreakerState, generation: u32, streak: u32, limited: bool) -> Self {
        let limited = if limited { LIMITED } else { 0 };
        Self((generation as u64) << GENERATION_SHIFT | (streak as u64) << STREAK_SHIFT | limited | state as u64)
    }

    /// Calls are let through, and nothing more has to be looked at.
    pub(crate) const fn is_free(self) -> bool {
        self.0 & (STATE | LIMITED) == BreakerState::Closed as u64
    }

    /// A call of that number went well, and nothing has to be written down for it.
    pub(crate) const fn is_well(self, generation: u32) -> bool {
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

    pub(crate) const fn streak(self) -> u32 {
        (self.0 >> STREAK_SHIFT) as u32 & 0xff_ffff
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_keeps_what_was_put_in() {
        use BreakerState::{Closed, Disabled, ForcedOpen, HalfOpen, Open};
        for state in [Closed, Open, HalfOpen, ForcedOpen, Disabled] {
            for (generation, streak, limited) in
                [(0, 0, false), (u32::MAX, 1_000_000, true), (7, 3, false), (7, 0, true)]
            {
                let gate = Gate::new(state, generation, streak, limited);
                assert_eq!((gate.state(), gate.generation(), gate.streak()), (state, generation, streak));
                assert_eq!(gate.is_free(), state == Closed && !limited);
                assert_eq!(gate.is_well(generation), state == Closed && streak == 0);
                assert!(!gate.is_well(generation ^ 1));
            }
        }
    }
}
