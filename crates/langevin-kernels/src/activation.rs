//! Functions of every number of a slice, and their derivatives.

use rayon::prelude::*;

use crate::exponential::{erf, exp, sigmoid, tanh};
use crate::vectors::{Kernel, on_vectors};

/// Numbers that a thread takes at once.
const PORTION: usize = 1 << 14;

/// A function of one number.
///
/// # Example
///
/// ```
/// use langevin_kernels::activation::Activation;
///
/// let mut x = [0.0, 1.0];
/// Activation::Silu.apply(&mut x);
/// assert!((x[1] - 0.731_058_6).abs() < 1e-6);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x / (1 + e⁻ˣ)`
    Silu,
    /// `x·(1 + erf(x/√2))/2`
    Gelu,
    /// `x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2`
    GeluTanh,
    /// `x / (1 + e^(-1.702·x))`
    QuickGelu,
}

const ROOT: f32 = 0.797_884_6;
const CUBIC: f32 = 0.044_715;
const QUICK: f32 = 1.702;

#[inline(always)]
fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}

#[inline(always)]
fn silu_slope(x: f32) -> f32 {
    let s = sigmoid(x);
    s * (1.0 + x * (1.0 - s))
}

#[inline(always)]
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

#[inline(always)]
fn gelu_slope(x: f32) -> f32 {
    // The density of the normal distribution is 1/√(2π)·e^(-x²/2).
    0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)) + x * 0.398_942_3 * exp(-0.5 * x * x)
}

#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    0.5 * x * (1.0 + tanh(ROOT * (x + CUBIC * x * x * x)))
}

#[inline(always)]
fn gelu_tanh_slope(x: f32) -> f32 {
    let t = tanh(ROOT * (x + CUBIC * x * x * x));
    0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * ROOT * (1.0 + 3.0 * CUBIC * x * x)
}

#[inline(always)]
fn quick_gelu(x: f32) -> f32 {
    x * sigmoid(QUICK * x)
}

#[inline(always)]
fn quick_gelu_slope(x: f32) -> f32 {
    let s = sigmoid(QUICK * x);
    s * (1.0 + QUICK * x * (1.0 - s))
}

/// Replaces numbers by a function of each.
struct MapSome;

impl<F: Fn(f32) -> f32> Kernel<(&mut [f32], F)> for MapSome {
    type Output = ();

    #[inline(always)]
    fn compute(self, (x, f): (&mut [f32], F)) {
        x.iter_mut().for_each(|x| *x = f(*x));
    }
}

/// Multiplies numbers by a function of others.
struct ScaleSome;

impl<F: Fn(f32) -> f32> Kernel<(&mut [f32], &[f32], F)> for ScaleSome {
    type Output = ();

    #[inline(always)]
    fn compute(self, (y, x, f): (&mut [f32], &[f32], F)) {
        y.iter_mut().zip(x).for_each(|(y, x)| *y *= f(*x));
    }
}

/// Replaces each number by `f` of it.
fn map(x: &mut [f32], f: impl Fn(f32) -> f32 + Sync + Send + Copy) {
    x.par_chunks_mut(PORTION).for_each(|x| on_vectors(MapSome, (x, f)));
}

/// Multiplies each number by `f` of another.
fn scale(y: &mut [f32], x: &[f32], f: impl Fn(f32) -> f32 + Sync + Send + Copy) {
    assert_eq!(y.len(), x.len(), "as many gradients as numbers");
    y.par_chunks_mut(PORTION).zip(x.par_chunks(PORTION)).for_each(|(y, x)| on_vectors(ScaleSome, (y, x, f)));
}

impl Activation {
    /// Replaces each number by the function of it.
    pub fn apply(self, x: &mut [f32]) {
        match self {
            Self::Silu => map(x, silu),
            Self::Gelu => map(x, gelu),
            Self::GeluTanh => map(x, gelu_tanh),
            Self::QuickGelu => map(x, quick_gelu),
        }
    }

    /// Multiplies gradients with respect to the results by the derivatives at `x`: what was given becomes the gradient with
    /// respect to `x`.
    ///
    /// # Panics
    ///
    /// If the slices have different lengths.
    pub fn gradient(self, x: &[f32], gradient: &mut [f32]) {
        match self {
            Self::Silu => scale(gradient, x, silu_slope),
            Self::Gelu => scale(gradient, x, gelu_slope),
            Self::GeluTanh => scale(gradient, x, gelu_tanh_slope),
            Self::QuickGelu => scale(gradient, x, quick_gelu_slope),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_slopes_match_the_formulas() {
        type Formula = fn(f64) -> f64;
        let formulas: [(Activation, Formula); 4] = [
            (Activation::Silu, |x| x / (1.0 + (-x).exp())),
            (Activation::Gelu, |x| 0.5 * x * (1.0 + libm::erf(x / std::f64::consts::SQRT_2))),
            (Activation::GeluTanh, |x| {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
            }),
            (Activation::QuickGelu, |x| x / (1.0 + (-1.702 * x).exp())),
        ];
        let x: Vec<f32> = (-1000..=1000).map(|i| i as f32 * 0.0097).collect();
        for (activation, f) in formulas {
            let (mut y, mut slope) = (x.clone(), vec![2.0; x.len()]);
            activation.apply(&mut y);
            activation.gradient(&x, &mut slope);
            for (at, x) in x.iter().enumerate() {
                let x = f64::from(*x);
                let difference = (f(x + 1e-5) - f(x - 1e-5)) / 2e-5;
                assert!((f64::from(y[at]) - f(x)).abs() < 1e-6 * x.abs().max(1.0), "{activation:?} {x}");
                assert!((f64::from(slope[at]) - 2.0 * difference).abs() < 5e-6, "{activation:?} {x}");
            }
        }
    }
}
