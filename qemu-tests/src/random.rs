//! Random moments that can be had again: a seed is printed, and `IOTWASM_SEED` gives the same ones.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A small generator (splitmix64): good enough to choose moments, the same everywhere.
#[derive(Debug)]
pub struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    /// From `IOTWASM_SEED`, or the clock.
    pub fn from_environment() -> Self {
        let given = std::env::var("IOTWASM_SEED").ok().and_then(|s| s.parse().ok());
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| u64::from(d.subsec_nanos()));
        Self::new(given.unwrap_or_else(clock))
    }

    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, state: seed }
    }

    /// What to set `IOTWASM_SEED` to.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }

    /// A time within the part `index` of `parts` equal parts of `whole`: moments that are random and still cover it.
    pub fn within(&mut self, whole: Duration, index: u32, parts: u32) -> Duration {
        let part = whole / parts.max(1);
        let micros = u64::try_from(part.as_micros()).unwrap_or(u64::MAX);
        part * (index % parts.max(1)) + Duration::from_micros(self.below(micros))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_gives_the_same_moments() {
        let moments = |mut r: Random| (0..4).map(|i| r.within(Duration::from_secs(8), i, 4)).collect::<Vec<_>>();
        assert_eq!(moments(Random::new(7)), moments(Random::new(7)));
        assert_ne!(moments(Random::new(7)), moments(Random::new(8)));
    }

    #[test]
    fn moment_lies_in_its_part() {
        let mut random = Random::new(3);
        for index in 0..10 {
            let moment = random.within(Duration::from_secs(10), index, 10);
            assert_eq!(moment.as_secs(), u64::from(index));
        }
    }
}
