//! Random numbers that depend on nothing but a key: the same on every machine and in every version of this crate.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a stream of random numbers is for. Two purposes never share a stream, whatever the seed.
#[derive(Clone, Copy)]
#[repr(u64)]
pub(crate) enum Purpose {
    /// The order of an epoch; the counter is the epoch.
    Order = 1,
    /// The choice of the training samples; the counter is the class.
    Split = 2,
    /// The points of a toy distribution; the counter numbers the toys.
    Toy = 3,
}

/// A ChaCha8 generator keyed by `(seed, purpose, counter)`.
pub(crate) struct Stream(ChaCha8Rng);

impl Stream {
    pub(crate) fn new(seed: u64, purpose: Purpose, counter: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&(purpose as u64).to_le_bytes());
        key[16..24].copy_from_slice(&counter.to_le_bytes());
        Self(ChaCha8Rng::from_seed(key))
    }

    /// Uniform in `0..n` without bias (Lemire, "Fast random integer generation in an interval", 2019); `n` is not 0.
    fn below(&mut self, n: u64) -> u64 {
        // Of the 2^64 products, those whose low half is under 2^64 mod n belong to an interval that is one too long.
        let surplus = n.wrapping_neg() % n;
        loop {
            let product = u128::from(self.0.next_u64()) * u128::from(n);
            if product as u64 >= surplus {
                return (product >> 64) as u64;
            }
        }
    }

    /// Uniform in `[0, 1)`, a multiple of 2^-53.
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Standard normal (Box and Muller, 1958; the sine half is dropped so that one call takes two words, always).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.uniform()));
        radius * libm::cos(2.0 * std::f64::consts::PI * self.uniform())
    }

    /// Puts `items` in uniformly random order (Fisher and Yates; Durstenfeld, 1964), in linear time.
    pub(crate) fn shuffle(&mut self, items: &mut [usize]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_is_uniform_and_in_range() {
        let mut stream = Stream::new(3, Purpose::Toy, 0);
        let (draws, bins) = (70_000, 7);
        let mut counts = vec![0f64; bins];
        for _ in 0..draws {
            counts[stream.below(bins as u64) as usize] += 1.0;
        }
        let expected = f64::from(draws) / bins as f64;
        let chi_squared: f64 = counts.iter().map(|c| (c - expected).powi(2) / expected).sum();
        // The 0.999 quantile of the chi-squared distribution with 6 degrees of freedom.
        assert!(chi_squared < 22.46, "{counts:?}");
    }

    #[test]
    fn below_rejects_the_surplus() {
        // With n = 3/4 of 2^64 a quarter of all words must be rejected: without that, multiples of 3 come up half of
        // the time.
        let mut stream = Stream::new(3, Purpose::Toy, 1);
        let multiples = (0..9000).filter(|_| stream.below(3 << 62).is_multiple_of(3)).count() as f64;
        // Binomial with n = 9000, p = 1/3: five standard deviations.
        assert!((multiples - 3000.0).abs() < 5.0 * 2000f64.sqrt(), "{multiples}");
    }

    #[test]
    fn normal_has_the_moments_of_a_standard_normal() {
        let mut stream = Stream::new(11, Purpose::Toy, 0);
        let n = 100_000;
        let draws: Vec<f64> = (0..n).map(|_| stream.normal()).collect();
        let moment = |k: i32| draws.iter().map(|z| z.powi(k)).sum::<f64>() / f64::from(n);
        // Four standard errors: sqrt(Var(z^k) / n) with Var = 1, 2, 15, 96.
        for (k, expected, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)] {
            let bound = 4.0 * (variance / f64::from(n)).sqrt();
            assert!((moment(k) - expected).abs() < bound, "moment {k}: {}", moment(k));
        }
    }

    #[test]
    fn value_stability() {
        // Computed by an independent program from the definition of ChaCha8.
        let mut stream = Stream::new(7, Purpose::Toy, 0);
        assert_eq!([stream.uniform(), stream.uniform()], [0.22447762229643953, 0.14670651075239616]);
    }

    #[test]
    fn every_part_of_the_key_matters() {
        let first = |seed, purpose, counter| Stream::new(seed, purpose, counter).0.next_u64();
        let all = [
            first(0, Purpose::Order, 0),
            first(1, Purpose::Order, 0),
            first(0, Purpose::Split, 0),
            first(0, Purpose::Order, 1),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|b| a != b));
        }
    }
}
