//! Charges agents in random order, for a simulated cache to count the lines of memory that a charge touches:
//! `cargo xtask verify charge-lines`. The first argument is `guard` or `governor`, the second the number of rounds.

use std::num::NonZeroU32;
use std::sync::Arc;

use fastrand::Rng;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use sre_core::{ManualClock, Timestamp, Usd};
use sre_cost::{CostGuard, Limits};

/// Far more than any cache holds.
const AGENTS: u32 = 200_000;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().expect("guard or governor, and a number of rounds");
    let (what, rounds) = (next(), next().parse::<u32>().expect("a number of rounds"));
    let much: Usd = "1000000000".parse().expect("an amount");
    let limits = Limits { per_agent_daily: much, org_monthly: much, max_agents: AGENTS as usize, ..Limits::default() };
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_790_000_000)));
    let guard = CostGuard::with_limits(limits).expect("valid limits").with_clock(clock);
    let limiter: DefaultKeyedRateLimiter<String> = RateLimiter::keyed(Quota::per_second(NonZeroU32::MAX));
    let mut key = String::new();
    let mut charge = |number: u32| {
        key.clear();
        // Written by hand, since formatting would touch memory too.
        key.push_str("agent-");
        (0..7).rev().for_each(|digit| key.push(char::from(b'0' + (number / 10_u32.pow(digit) % 10) as u8)));
        match what.as_str() {
            "guard" => drop(guard.check_and_charge(&key, Usd::from_nanos(1_000))),
            _ => drop(limiter.check_key(&key)),
        }
    };
    (0..AGENTS).for_each(&mut charge);
    let mut rng = Rng::with_seed(1);
    (0..rounds * AGENTS).for_each(|_| charge(rng.u32(..AGENTS)));
}
