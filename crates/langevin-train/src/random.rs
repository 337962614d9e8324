//! Random numbers of a training run: pure functions of (seed, purpose, step), so a run resumes at any step.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a stream of random numbers is for. Two purposes never share a stream, whatever the seed.
#[derive(Clone, Copy)]
#[repr(u64)]
pub(crate) enum Purpose {
    /// Noise levels of the samples of a step.
    Times = 0x7472_6169_6e01,
    /// Which conditions of a step are dropped.
    ConditionDropout = 0x7472_6169_6e02,
    /// The seed that Burn's generator gets in a step (dropout).
    Device = 0x7472_6169_6e03,
}

/// A ChaCha8 generator keyed by (seed, purpose, step).
pub(crate) struct Stream(ChaCha8Rng);

impl Stream {
    pub(crate) fn new(seed: u64, purpose: Purpose, step: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&(purpose as u64).to_le_bytes());
        key[16..24].copy_from_slice(&step.to_le_bytes());
        Self(ChaCha8Rng::from_seed(key))
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in `[0, 1)`, a multiple of 2^-53.
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}
