use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use siphasher::sip128::{Hasher128, SipHasher13};
use sre_core::Alert;

/// A hash of an incident's dedup key: 128 bits under a random seed, so that collisions neither happen nor can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Fingerprint(u128);

/// Computes fingerprints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fingerprinter(u64, u64);

impl Fingerprinter {
    /// Creates a fingerprinter with a random seed.
    pub(crate) fn new() -> Self {
        Self(fastrand::u64(..), fastrand::u64(..))
    }

    /// Creates a fingerprinter with a fixed seed.
    #[cfg(test)]
    pub(crate) const fn unseeded() -> Self {
        Self(0, 0)
    }

    /// Returns the fingerprint of an alert's [key](Alert::key) without allocating.
    pub(crate) fn of(self, alert: &Alert) -> Fingerprint {
        if !alert.dedup_key.is_empty() {
            return self.of_key(&alert.dedup_key);
        }
        let mut hasher = SipHasher13::new_with_keys(self.0, self.1);
        for part in [&alert.agent_id, "/", &alert.slo_name, "/", &alert.source, "/", &alert.title] {
            hasher.write(part.as_bytes());
        }
        Fingerprint(hasher.finish128().as_u128())
    }

    /// Returns the fingerprint of a dedup key.
    pub(crate) fn of_key(self, key: &str) -> Fingerprint {
        let mut hasher = SipHasher13::new_with_keys(self.0, self.1);
        hasher.write(key.as_bytes());
        Fingerprint(hasher.finish128().as_u128())
    }
}

/// A map by fingerprint, which does not hash again.
pub(crate) type ByFingerprint<T> = HashMap<Fingerprint, T, BuildHasherDefault<IdentityHasher>>;

/// Takes the low bits of a fingerprint as its hash.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_key_is_agent_objective_source_and_title() {
        let fingerprinter = Fingerprinter::new();
        let plain = Alert { agent_id: "a".into(), slo_name: "s".into(), ..Alert::new("t", "m") };
        let keyed = Alert { dedup_key: plain.key().into_owned(), ..plain.clone() };
        assert_eq!(fingerprinter.of(&plain), fingerprinter.of(&keyed));
        assert_eq!(fingerprinter.of(&plain), fingerprinter.of_key("a/s/agent-sre/t"));
        for alert in [plain, Alert::new("t", "m")] {
            let other = Alert { title: "Model quota spent".into(), ..alert.clone() };
            assert_ne!(fingerprinter.of(&alert), fingerprinter.of(&other));
        }
    }
}
