//! How samples enter a stage.

use crate::consistency::Resize;
use crate::sampler::SampleError;
use burn::tensor::Tensor;
use langevin_core::{Key, NoiseSource, noise};

/// The way into a stage: every pixel becomes a block of two by two, and noise that is correlated within blocks makes that
/// a state of the stage's flow again.
///
/// `x' = a·enlarged + b·z`, where the signal had the share s: `a = 1/(√(1 + 1/γ)·(1 − s) + s)` and `b = a·(1 − s)/√γ`. The noise z has
/// variance 1 and covariance −γ between the pixels of a block. Enlarged noise, which is one number in a block, and z together are
/// white.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StageEntry {
    stage: usize,
    signal: f64,
    noise: f64,
    gamma: f64,
}

/// What the enlarged samples are multiplied by.
pub(super) fn scale(signal: f64, gamma: f64) -> f64 {
    1.0 / ((1.0 + 1.0 / gamma).sqrt() * (1.0 - signal) + signal)
}

/// What is added to variances, as in the original, so that the last pixel of a block has one of its own.
const MORE: f64 = 1e-8;

/// The lower root of the covariance within blocks.
fn root(gamma: f64) -> [[f64; 4]; 4] {
    let mut root = [[0.0f64; 4]; 4];
    for i in 0..4 {
        for j in 0..=i {
            let known: f64 = (0..j).map(|k| root[i][k] * root[j][k]).sum();
            root[i][j] = if i == j { (1.0 + MORE - known).max(0.0).sqrt() } else { (-gamma - known) / root[j][j] };
        }
    }
    root
}

impl StageEntry {
    pub(super) fn new(stage: usize, signal: f64, gamma: f64) -> Self {
        let scale = scale(signal, gamma);
        Self { stage, signal: scale, noise: scale * (1.0 - signal) / gamma.sqrt(), gamma }
    }

    /// What the enlarged samples are multiplied by.
    pub fn of_samples(&self) -> f64 {
        self.signal
    }

    /// What the noise is multiplied by.
    pub fn of_noise(&self) -> f64 {
        self.noise
    }

    /// Noise of the shape of `x`, `[batch, channels, .., height, width]` with even sides: variance 1, covariance −γ within blocks of
    /// two by two.
    ///
    /// `first` is the number of the first sample in the whole run.
    ///
    /// # Errors
    /// [`SampleError::ResizedRank`] unless it has 4 or 5 dimensions, [`SampleError::OddSides`] for odd sides,
    /// [`SampleError::Noise`] where the source fails.
    pub fn block_noise<const D: usize>(
        &self,
        x: &Tensor<D>,
        noise: &dyn NoiseSource,
        first: u64,
    ) -> Result<Tensor<D>, SampleError> {
        let dims = x.dims();
        check_rank(D)?;
        let (height, width) = (dims[D - 2], dims[D - 1]);
        if height % 2 != 0 || width % 2 != 0 {
            return Err(SampleError::OddSides { height, width });
        }
        let white = noise::like(noise, x, first, Key::step(self.stage as u64, 0))?;
        let others: usize = dims[..D - 2].iter().product();
        let white: Tensor<5> = white.reshape([others, height / 2, 2, width / 2, 2]);
        let pixel = |i: usize| white.clone().narrow(2, i / 2, 1).narrow(4, i % 2, 1);
        let mixed = root(self.gamma).map(|row| {
            let parts = row.into_iter().enumerate().filter(|(_, factor)| *factor != 0.0);
            let parts = parts.map(|(i, factor)| pixel(i).mul_scalar(factor));
            parts.reduce(Tensor::add).unwrap_or_else(|| white.clone().narrow(2, 0, 1).narrow(4, 0, 1).zeros_like())
        });
        let [a, b, c, d] = mixed;
        let rows = vec![Tensor::cat(vec![a, b], 4), Tensor::cat(vec![c, d], 4)];
        Ok(Tensor::cat(rows, 2).reshape(dims))
    }

    /// Samples that have left the stage before, `[batch, channels, .., height, width]`, as this one begins with them, twice as high and
    /// wide.
    ///
    /// `first` is the number of the first sample in the whole run.
    ///
    /// # Errors
    /// [`SampleError::ResizedRank`] unless they have 4 or 5 dimensions, [`SampleError::Noise`] where the source fails.
    pub fn enter<const D: usize>(
        &self,
        x: Tensor<D>,
        noise: &dyn NoiseSource,
        first: u64,
    ) -> Result<Tensor<D>, SampleError> {
        check_rank(D)?;
        let mut sides = x.dims()[2..].to_vec();
        let count = sides.len();
        sides[count - 2..].iter_mut().for_each(|side| *side *= 2);
        let enlarged = Resize::Nearest.apply(x, &sides);
        let noise = self.block_noise(&enlarged, noise, first)?;
        Ok(enlarged.mul_scalar(self.signal).add(noise.mul_scalar(self.noise)))
    }
}

fn check_rank(given: usize) -> Result<(), SampleError> {
    if (4..=5).contains(&given) {
        return Ok(());
    }
    Err(SampleError::ResizedRank { resize: "the entry of a stage", expected: "4 and 5", given })
}
