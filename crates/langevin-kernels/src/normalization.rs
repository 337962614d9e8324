//! Normalization of groups of channels, with SiLU after it if asked for.

use rayon::prelude::*;

use crate::exponential::sigmoid;
use crate::vectors::{kernel, on_vectors};

/// Numbers that are summed side by side.
const LANES: usize = 16;

/// Sizes of a normalization over groups of channels: `(x - mean) / √(variance + epsilon)·weight + bias`.
///
/// # Example
///
/// ```
/// use langevin_kernels::normalization::GroupSizes;
///
/// let groups = GroupSizes { batch: 1, channels: 2, pixels: 2, groups: 1, epsilon: 0.0, silu: false };
/// let mut y = [0.0; 4];
/// groups.forward(&[1.0, -1.0, 1.0, -1.0], &[1.0, 2.0], &[0.0, 0.5], &mut y);
/// assert_eq!(y, [1.0, -1.0, 2.5, -1.5]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupSizes {
    /// Samples.
    pub batch: usize,
    /// Channels of a sample.
    pub channels: usize,
    /// Numbers of a channel.
    pub pixels: usize,
    /// Groups of channels, a divisor of their number.
    pub groups: usize,
    /// Added to the variance.
    pub epsilon: f32,
    /// Whether the result `y` is taken to `y / (1 + e⁻ʸ)`.
    pub silu: bool,
}

/// Mean and one over the standard deviation of numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Moments {
    /// Mean.
    pub mean: f32,
    /// What rounding took from the mean: `mean + rest` has its digits even where it is large beside the deviation.
    pub rest: f32,
    /// `1/√(variance + epsilon)`
    pub inverse: f32,
}

/// The sum of `f` over a slice: of 16 numbers side by side, and of portions in f64.
#[inline(always)]
pub(crate) fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f64 {
    let mut total = 0.0f64;
    for portion in x.chunks(256 * LANES) {
        let mut sums = [0.0f32; LANES];
        let (whole, rest) = portion.as_chunks::<LANES>();
        for some in whole {
            for (sum, x) in sums.iter_mut().zip(some) {
                *sum += f(*x);
            }
        }
        for (sum, x) in sums.iter_mut().zip(rest) {
            *sum += f(*x);
        }
        total += sums.iter().map(|s| f64::from(*s)).sum::<f64>();
    }
    total
}

/// The sums of `g` and of `g·(x - mean)`.
#[inline(always)]
pub(crate) fn sums_with(x: &[f32], mean: f32, g: &[f32]) -> [f64; 2] {
    let mut total = [0.0f64; 2];
    for (x, g) in x.chunks(256 * LANES).zip(g.chunks(256 * LANES)) {
        let (mut plain, mut weighted) = ([0.0f32; LANES], [0.0f32; LANES]);
        let ((x, rest_x), (g, rest_g)) = (x.as_chunks::<LANES>(), g.as_chunks::<LANES>());
        for (x, g) in x.iter().zip(g) {
            for lane in 0..LANES {
                plain[lane] += g[lane];
                weighted[lane] += g[lane] * (x[lane] - mean);
            }
        }
        for lane in 0..rest_x.len() {
            plain[lane] += rest_g[lane];
            weighted[lane] += rest_g[lane] * (rest_x[lane] - mean);
        }
        total[0] += plain.iter().map(|s| f64::from(*s)).sum::<f64>();
        total[1] += weighted.iter().map(|s| f64::from(*s)).sum::<f64>();
    }
    total
}

/// The sums of `x - mean` and of its square.
#[inline(always)]
fn deviations(x: &[f32], mean: f32) -> [f64; 2] {
    let mut total = [0.0f64; 2];
    for portion in x.chunks(256 * LANES) {
        let (mut plain, mut square) = ([0.0f32; LANES], [0.0f32; LANES]);
        let (whole, rest) = portion.as_chunks::<LANES>();
        for some in whole {
            for lane in 0..LANES {
                let x = some[lane] - mean;
                plain[lane] += x;
                square[lane] += x * x;
            }
        }
        for lane in 0..rest.len() {
            let x = rest[lane] - mean;
            plain[lane] += x;
            square[lane] += x * x;
        }
        total[0] += plain.iter().map(|s| f64::from(*s)).sum::<f64>();
        total[1] += square.iter().map(|s| f64::from(*s)).sum::<f64>();
    }
    total
}

#[inline(always)]
pub(crate) fn moments(x: &[f32], epsilon: f32) -> Moments {
    let count = x.len() as f64;
    // A first sum may be off where the mean is large; the deviations from it say by how much, for little is lost of them.
    let mean = (sum(x, |x| x) / count) as f32;
    let [rest, square] = deviations(x, mean).map(|sum| sum / count);
    let variance = (square - rest * rest).max(0.0);
    Moments { mean, rest: rest as f32, inverse: (1.0 / (variance + f64::from(epsilon)).sqrt()) as f32 }
}

impl GroupSizes {
    fn check(&self, x: &[f32], y: &[f32], weight: &[f32], bias: &[f32]) {
        assert!(
            self.groups > 0 && self.channels.is_multiple_of(self.groups),
            "groups that divide the channels: {self:?}"
        );
        assert!(![self.batch, self.channels, self.pixels].contains(&0), "a size is zero: {self:?}");
        assert_eq!(x.len(), self.batch * self.channels * self.pixels, "numbers of {self:?}");
        assert_eq!(y.len(), x.len(), "results of {self:?}");
        assert_eq!([weight.len(), bias.len()], [self.channels; 2], "parameters of {self:?}");
    }

    /// Numbers of a group.
    fn count(&self) -> usize {
        self.channels / self.groups * self.pixels
    }

    /// Writes the normalized numbers to `y`, and returns the moments of each group, which the gradient needs.
    ///
    /// # Shapes
    ///
    /// - x and y: `[batch, channels, pixels]`
    /// - weight and bias: `[channels]`
    /// - returned: `[batch, groups]`
    ///
    /// # Panics
    ///
    /// If a slice has another length than these, a size is zero, or the groups do not divide the channels.
    pub fn forward(&self, x: &[f32], weight: &[f32], bias: &[f32], y: &mut [f32]) -> Vec<Moments> {
        self.check(x, y, weight, bias);
        let count = self.count();
        let groups = x.par_chunks(count).zip(y.par_chunks_mut(count)).enumerate();
        groups.map(|(at, (x, y))| on_vectors(GroupForward, (self, at, x, [weight, bias], y))).collect()
    }

    /// The gradients with respect to `x`, written over those with respect to the results, and with respect to weight and bias,
    /// returned. `moments` is what [`forward`](Self::forward) returned; shapes are those given there.
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward) does.
    pub fn gradient(
        &self,
        x: &[f32],
        weight: &[f32],
        bias: &[f32],
        moments: &[Moments],
        gradient: &mut [f32],
    ) -> [Vec<f32>; 2] {
        self.check(x, gradient, weight, bias);
        assert_eq!(moments.len(), self.batch * self.groups, "moments of {self:?}");
        let count = self.count();
        let per_group = count / self.pixels;
        // Of each channel of each sample: the sums of the gradient of what was shifted, and of that times the normalized.
        let mut sums = vec![[0.0f64; 2]; self.batch * self.channels];
        let groups = x.par_chunks(count).zip(gradient.par_chunks_mut(count)).zip(sums.par_chunks_mut(per_group));
        groups.zip(moments).enumerate().for_each(|(at, (((x, gradient), sums), moments))| {
            on_vectors(GroupGradient, (self, at, x, [weight, bias], *moments, gradient, sums));
        });
        let total = |which: usize| {
            let of = |channel| sums.iter().skip(channel).step_by(self.channels).map(|s| s[which]).sum::<f64>() as f32;
            (0..self.channels).map(of).collect()
        };
        [total(1), total(0)]
    }
}

type ToNormalize<'a> = (&'a GroupSizes, usize, &'a [f32], [&'a [f32]; 2], &'a mut [f32]);

kernel!(GroupForward: group_forward(ToNormalize<'a>) -> Moments);
kernel!(GroupGradient: group_gradient(OfGroup<'a>) -> ());

/// Normalizes group `at`, counted through all samples.
#[inline(always)]
fn group_forward((sizes, at, x, [weight, bias], y): ToNormalize<'_>) -> Moments {
    let pixels = sizes.pixels;
    let first = at % sizes.groups * (sizes.channels / sizes.groups);
    let moments = moments(x, sizes.epsilon);
    for (channel, (x, y)) in x.chunks_exact(pixels).zip(y.chunks_exact_mut(pixels)).enumerate() {
        let scale = moments.inverse * weight[first + channel];
        let bias = bias[first + channel] - moments.rest * scale;
        // The mean first: a large one would take the digits of what is left.
        let mean = moments.mean;
        let numbers = y.iter_mut().zip(x);
        if sizes.silu {
            numbers.for_each(|(y, x)| {
                let z = (x - mean) * scale + bias;
                *y = z * sigmoid(z);
            });
        } else {
            numbers.for_each(|(y, x)| *y = (x - mean) * scale + bias);
        }
    }
    moments
}

type OfGroup<'a> = (&'a GroupSizes, usize, &'a [f32], [&'a [f32]; 2], Moments, &'a mut [f32], &'a mut [[f64; 2]]);

/// Takes the gradient of group `at` back, and writes the sums of its channels.
#[inline(always)]
fn group_gradient((sizes, at, x, [weight, bias], moments, gradient, sums): OfGroup<'_>) {
    let pixels = sizes.pixels;
    let first = at % sizes.groups * (sizes.channels / sizes.groups);
    let Moments { mean, rest, inverse } = moments;
    let mut of_group = [0.0f64; 2];
    for (channel, (x, g)) in x.chunks_exact(pixels).zip(gradient.chunks_exact_mut(pixels)).enumerate() {
        let weight = weight[first + channel];
        if sizes.silu {
            let scale = inverse * weight;
            let bias = bias[first + channel] - rest * scale;
            g.iter_mut().zip(x).for_each(|(g, x)| {
                let z = (x - mean) * scale + bias;
                let s = sigmoid(z);
                *g *= s * (1.0 + z * (1.0 - s));
            });
        }
        let [plain, weighted] = sums_with(x, mean, g);
        let weighted = (weighted - plain * f64::from(rest)) * f64::from(inverse);
        sums[channel] = [plain, weighted];
        of_group[0] += plain * f64::from(weight);
        of_group[1] += weighted * f64::from(weight);
    }
    // dx = inverse·(w·g - mean(w·g) - normalized·mean(w·g·normalized)), a line in g and x for each channel.
    let [plain, weighted] = of_group.map(|s| (s / x.len() as f64) as f32);
    let of_x = -inverse * inverse * weighted;
    let constant = -inverse * plain - of_x * rest;
    for (channel, (x, g)) in x.chunks_exact(pixels).zip(gradient.chunks_exact_mut(pixels)).enumerate() {
        let of_g = inverse * weight[first + channel];
        g.iter_mut().zip(x).for_each(|(g, x)| *g = of_g * *g + of_x * (x - mean) + constant);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, numbers};

    /// The definition in f64.
    fn by_hand(s: &GroupSizes, x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
        let count = s.count();
        let mut y = Vec::new();
        for (at, group) in x.chunks(count).enumerate() {
            let mean = group.iter().sum::<f64>() / count as f64;
            let variance = group.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count as f64;
            for (i, x) in group.iter().enumerate() {
                let channel = at % s.groups * (count / s.pixels) + i / s.pixels;
                let z = (x - mean) / (variance + f64::from(s.epsilon)).sqrt() * weight[channel] + bias[channel];
                y.push(if s.silu { z / (1.0 + (-z).exp()) } else { z });
            }
        }
        y
    }

    fn wide(x: &[f32]) -> Vec<f64> {
        x.iter().map(|x| f64::from(*x)).collect()
    }

    #[test]
    fn values_and_gradients_agree_with_the_definition() {
        for silu in [false, true] {
            for (batch, channels, pixels, groups) in [(1, 4, 1, 1), (2, 6, 35, 3), (3, 4, 17, 4), (1, 8, 16, 2)] {
                let s = GroupSizes { batch, channels, pixels, groups, epsilon: 1e-5, silu };
                let count = batch * channels * pixels;
                let x: Vec<f32> = numbers(count, 1).iter().map(|x| 3.0 * x + 0.7).collect();
                let (weight, bias, g) = (numbers(channels, 2), numbers(channels, 3), numbers(count, 4));
                let mut y = vec![f32::NAN; count];
                let moments = s.forward(&x, &weight, &bias, &mut y);
                assert_close(&y, &by_hand(&s, &wide(&x), &wide(&weight), &wide(&bias)), 2e-6);
                let mut of_x = g.clone();
                let [of_weight, of_bias] = s.gradient(&x, &weight, &bias, &moments, &mut of_x);
                // Differences of the sum of y·g, by each input in turn.
                let inputs = [wide(&x), wide(&weight), wide(&bias)];
                for (which, given) in [of_x, of_weight, of_bias].iter().enumerate() {
                    let expected: Vec<f64> = (0..given.len())
                        .map(|at| {
                            let moved = |step: f64| {
                                let mut inputs = inputs.clone();
                                inputs[which][at] += step;
                                let y = by_hand(&s, &inputs[0], &inputs[1], &inputs[2]);
                                y.iter().zip(&g).map(|(y, g)| y * f64::from(*g)).sum::<f64>()
                            };
                            (moved(1e-5) - moved(-1e-5)) / 2e-5
                        })
                        .collect();
                    assert_close(given, &expected, 5e-6);
                }
            }
        }
    }

    #[test]
    fn what_is_the_same_everywhere_becomes_the_bias() {
        for value in [1e-6, 0.1, 1000.3, 1e4] {
            let s = GroupSizes { batch: 1, channels: 2, pixels: 5_001, groups: 1, epsilon: 1e-5, silu: false };
            let mut y = vec![f32::NAN; 10_002];
            let moments = s.forward(&[value; 10_002], &[1.0, 2.0], &[0.0, 0.5], &mut y);
            assert_close(&y, &[[0.0; 5_001], [0.5; 5_001]].concat(), 1e-6);
            let mut g = numbers(10_002, 6);
            let [of_weight, _] = s.gradient(&[value; 10_002], &[1.0, 2.0], &[0.0, 0.5], &moments, &mut g);
            // One over the root of epsilon times what rounding left of the deviation, times a sum of 5,000 numbers.
            assert!(of_weight.iter().all(|slope| slope.abs() < 1e-3), "{value}: {of_weight:?}");
        }
    }

    #[test]
    fn a_large_mean_is_not_lost() {
        for silu in [false, true] {
            let s = GroupSizes { batch: 1, channels: 1, pixels: 10_000, groups: 1, epsilon: 1e-6, silu };
            let x: Vec<f32> = numbers(10_000, 5).iter().map(|x| x + 1000.0).collect();
            let mut y = vec![0.0; 10_000];
            let moments = s.forward(&x, &[1.0], &[0.0], &mut y);
            assert_close(&y, &by_hand(&s, &wide(&x), &[1.0], &[0.0]), 1e-6);
            // Gradients do not see a shift.
            let near: Vec<f32> = x.iter().map(|x| x - 1000.0).collect();
            let (mut far_g, mut near_g) = (numbers(10_000, 6), numbers(10_000, 6));
            let far = s.gradient(&x, &[1.0], &[0.0], &moments, &mut far_g);
            let moments = s.forward(&near, &[1.0], &[0.0], &mut y);
            let near = s.gradient(&near, &[1.0], &[0.0], &moments, &mut near_g);
            assert_close(&far_g, &wide(&near_g), 2e-6);
            for (far, near) in far.iter().zip(&near) {
                assert_close(far, &wide(near), 2e-6);
            }
        }
    }
}
