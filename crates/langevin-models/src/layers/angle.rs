//! Sines and cosines of large angles.

use burn::tensor::Tensor;
use std::f64::consts::TAU;

/// 2π in two parts: the first has 8 significant bits, so its products with whole numbers below 2^16 are exact in `f32`.
const COARSE: f64 = 6.281_25;
const FINE: f64 = TAU - COARSE;

/// Sine and cosine, `f32`, of angles up to 1e4.
///
/// Shading languages promise precision in `[-π, π]` only, and GPUs lose three digits at angles near 1000, the times of
/// a diffusion model. So the turns are taken off first (Cody & Waite 1980).
pub(crate) fn sin_cos<const D: usize>(angles: Tensor<D>) -> (Tensor<D>, Tensor<D>) {
    let turns = angles.clone().div_scalar(TAU).round();
    let rest = angles - turns.clone().mul_scalar(COARSE) - turns.mul_scalar(FINE);
    (rest.clone().sin(), rest.cos())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, flex};

    #[test]
    fn large_angles_keep_their_digits() {
        let angles: Vec<f32> = (-40..=40).map(|i| i as f32 * 31.37).chain([0.0, 999.0, 1e4, -1e4]).collect();
        let (sine, cosine) = sin_cos(Tensor::<1>::from_data(angles.as_slice(), &flex()));
        let exact = |f: fn(f64) -> f64| angles.iter().map(|a| f(f64::from(*a))).collect::<Vec<_>>();
        assert_close(&sine, &exact(f64::sin), 3e-7);
        assert_close(&cosine, &exact(f64::cos), 3e-7);
    }
}
