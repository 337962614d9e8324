//! Adam with decoupled weight decay: a parameter and its two moments in one pass.

use rayon::prelude::*;

use crate::vectors::{kernel, on_vectors};

/// Numbers that a thread takes at once.
const PORTION: usize = 1 << 14;

/// The numbers of one update, the `t`-th of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// Decay of the mean of the gradients, β₁.
    pub beta_1: f32,
    /// Decay of the mean of the squared gradients, β₂.
    pub beta_2: f32,
    /// The learning rate over 1 − β₁ᵗ.
    pub rate: f32,
    /// 1/(1 − β₂ᵗ).
    pub correction: f32,
    /// Added to the root of the mean square.
    pub epsilon: f32,
    /// What the parameter is multiplied by: 1 − learning rate · weight decay.
    pub decay: f32,
}

type Part<'a> = (AdamStep, &'a mut [f32], &'a [f32], &'a mut [f32], &'a mut [f32]);

kernel!(Update: update(Part<'a>) -> ());

#[inline(always)]
fn update((step, parameter, gradient, mean, square): Part<'_>) {
    let AdamStep { beta_1, beta_2, rate, correction, epsilon, decay } = step;
    let moments = mean.iter_mut().zip(square);
    for ((p, &g), (m, v)) in parameter.iter_mut().zip(gradient).zip(moments) {
        *m = beta_1 * *m + (1.0 - beta_1) * g;
        *v = beta_2 * *v + (1.0 - beta_2) * (g * g);
        *p = decay * *p - rate * *m / ((correction * *v).sqrt() + epsilon);
    }
}

/// Overwrites a parameter, the mean of its gradients and that of their squares:
///
/// `m ← β₁·m + (1 − β₁)·g`, `v ← β₂·v + (1 − β₂)·g²`, `p ← decay·p − rate·m/(√(correction·v) + ε)`.
///
/// # References
///
/// Loshchilov & Hutter 2019, [arXiv:1711.05101](https://arxiv.org/abs/1711.05101).
///
/// # Panics
///
/// If the four have different lengths.
///
/// # Example
///
/// ```
/// use langevin_kernels::adam::{AdamStep, adam};
/// // The first update, with a learning rate of 0.01.
/// let step = AdamStep { beta_1: 0.9, beta_2: 0.999, rate: 0.1, correction: 1000.0, epsilon: 1e-8, decay: 1.0 };
/// let (mut p, mut m, mut v) = ([1.0], [0.0], [0.0]);
/// adam(step, &mut p, &[-3.0], [&mut m, &mut v]);
/// assert!((p[0] - 1.01_f32).abs() < 1e-6, "a step as long as the learning rate, against the gradient");
/// ```
pub fn adam(step: AdamStep, parameter: &mut [f32], gradient: &[f32], [mean, square]: [&mut [f32]; 2]) {
    let lengths = [parameter.len(), mean.len(), square.len()];
    assert!(lengths == [gradient.len(); 3], "a parameter, gradient and moments of one length");
    let parts = parameter.par_chunks_mut(PORTION).zip(gradient.par_chunks(PORTION));
    let moments = mean.par_chunks_mut(PORTION).zip(square.par_chunks_mut(PORTION));
    parts.zip(moments).for_each(|((p, g), (m, v))| on_vectors(Update, (step, p, g, m, v)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

    #[test]
    fn follows_the_definition() {
        for count in [1, 15, PORTION, 2 * PORTION + 7] {
            let (gradient, start) = (numbers(count, 1), numbers(count, 2));
            let (beta_1, beta_2, rate, decay) = (0.8_f32, 0.95_f32, 0.02_f64, 0.998_f32);
            let (mut p, mut m, mut v) = (start.clone(), vec![0.0; count], vec![0.0; count]);
            let mut expected: Vec<[f64; 3]> = start.iter().map(|&p| [p.into(), 0.0, 0.0]).collect();
            for t in 1..=3 {
                let [unbiased_1, unbiased_2] = [beta_1, beta_2].map(|beta| 1.0 - f64::from(beta).powi(t));
                let (correction, epsilon) = ((1.0 / unbiased_2) as f32, 1e-3);
                let step = AdamStep { beta_1, beta_2, rate: (rate / unbiased_1) as f32, correction, epsilon, decay };
                adam(step, &mut p, &gradient, [&mut m, &mut v]);
                for ([p, m, v], g) in expected.iter_mut().zip(&gradient) {
                    let g = f64::from(*g);
                    *m = f64::from(beta_1) * *m + (1.0 - f64::from(beta_1)) * g;
                    *v = f64::from(beta_2) * *v + (1.0 - f64::from(beta_2)) * g * g;
                    let root = (*v / unbiased_2).sqrt() + 1e-3;
                    *p = f64::from(decay) * *p - rate * (*m / unbiased_1) / root;
                }
            }
            for (at, expected) in expected.iter().enumerate() {
                for (found, expected) in [p[at], m[at], v[at]].into_iter().zip(expected) {
                    assert!(
                        (f64::from(found) - expected).abs() < 2e-6 * (1.0 + expected.abs()),
                        "{at}: {found} {expected}"
                    );
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "one length")]
    fn refuses_other_lengths() {
        let step = AdamStep { beta_1: 0.9, beta_2: 0.9, rate: 0.1, correction: 1.0, epsilon: 1e-8, decay: 1.0 };
        adam(step, &mut [0.0], &[1.0], [&mut [0.0; 2], &mut [0.0]]);
    }
}
