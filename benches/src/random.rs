//! Random numbers that a seed determines, so that runs repeat.

/// A generator after Steele, Lea and Flood ("SplitMix64").
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts from a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The stream of one part of a whole: the same seed and parts always give the same numbers.
    pub fn of(seed: u64, parts: &[u64]) -> Self {
        parts.iter().fold(Self(seed), |random, part| Self(random.clone().bits() ^ part))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not zero.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.bits() % limit
    }

    /// A number from 0 to below 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Sixteen bytes.
    pub fn bytes(&mut self) -> [u8; 16] {
        let (high, low) = (self.bits().into(), u128::from(self.bits()));
        let whole: u128 = high;
        ((whole << 64) | low).to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_parts_differ() {
        let first = |parts: &[u64]| Random::of(7, parts).bytes();
        assert_eq!(first(&[1, 2]), first(&[1, 2]));
        assert_ne!(first(&[1, 2]), first(&[2, 1]));
        assert_ne!(first(&[1, 2]), first(&[1, 3]));
    }

    #[test]
    fn numbers_fill_their_range() {
        let mut random = Random::new(1);
        let tenths: Vec<_> = (0..10_000).map(|_| (random.unit() * 10.0) as usize).collect();
        for tenth in 0..10 {
            let count = tenths.iter().filter(|found| **found == tenth).count();
            assert!((850..1_150).contains(&count), "{tenth}: {count}");
        }
    }
}
