//! Normalization of rows: over the last axis, with or without a mean that is taken away.

use rayon::prelude::*;

use crate::normalization::{Moments, moments, sum};
use crate::vectors::{kernel, on_vectors};

/// Rows whose sums for the gradients of weight and bias are taken in `f32` before they go on in `f64`. A thread takes as many at once.
pub(crate) const TOGETHER: usize = 64;
/// Numbers that are worth a thread's waking.
const SHARE: usize = 1 << 14;

/// Sizes of a normalization over rows: `(x - mean) / √(variance + epsilon)·weight + bias`, or with zero for the mean and the mean
/// square for the variance.
///
/// # Example
///
/// ```
/// use langevin_kernels::rows::RowSizes;
///
/// let sizes = RowSizes { rows: 1, width: 2, centered: true, epsilon: 0.0 };
/// let mut y = [0.0; 2];
/// sizes.forward(&[3.0, 1.0], Some(&[1.0, 2.0]), None, &mut y);
/// assert_eq!(y, [1.0, -2.0]);
/// ```
///
/// # References
///
/// Ba, Kiros, Hinton 2016, [arXiv:1607.06450](https://arxiv.org/abs/1607.06450); without the mean: Zhang, Sennrich 2019,
/// [arXiv:1910.07467](https://arxiv.org/abs/1910.07467).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowSizes {
    /// Rows that are normalized, each by itself.
    pub rows: usize,
    /// Numbers of a row.
    pub width: usize,
    /// Whether the mean is taken away.
    pub centered: bool,
    /// Added to the variance, or to the mean square.
    pub epsilon: f32,
}

impl RowSizes {
    fn check(&self, x: &[f32], y: &[f32], parameters: [Option<&[f32]>; 2]) {
        assert!(![self.rows, self.width].contains(&0), "a size is zero: {self:?}");
        assert_eq!(x.len(), self.rows * self.width, "numbers of {self:?}");
        assert_eq!(y.len(), x.len(), "results of {self:?}");
        assert!(parameters.iter().flatten().all(|p| p.len() == self.width), "parameters of {self:?}");
    }

    /// Rows that a thread takes at once.
    fn share(&self) -> usize {
        SHARE.div_ceil(self.width)
    }

    /// Writes the normalized rows to `y`, and returns the moments of each, which the gradient needs. Without a weight it is 1,
    /// without a bias 0.
    ///
    /// # Shapes
    ///
    /// - x and y: `[rows, width]`
    /// - weight and bias: `[width]`
    /// - returned: `[rows]`
    ///
    /// # Panics
    ///
    /// If a slice has another length than these, or a size is zero.
    pub fn forward(&self, x: &[f32], weight: Option<&[f32]>, bias: Option<&[f32]>, y: &mut [f32]) -> Vec<Moments> {
        self.check(x, y, [weight, bias]);
        let mut moments = vec![Moments::default(); self.rows];
        let numbers = self.share() * self.width;
        let shares = x.par_chunks(numbers).zip(y.par_chunks_mut(numbers)).zip(moments.par_chunks_mut(self.share()));
        shares.for_each(|((x, y), moments)| on_vectors(ForwardRows, (self, x, [weight, bias], y, moments)));
        moments
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
        weight: Option<&[f32]>,
        moments: &[Moments],
        gradient: &mut [f32],
    ) -> [Vec<f32>; 2] {
        self.check(x, gradient, [weight, None]);
        assert_eq!(moments.len(), self.rows, "moments of {self:?}");
        let width = self.width;
        let parts = self.rows.div_ceil(TOGETHER);
        // Of each part of the rows: the sums for the weight, and those for the bias.
        let mut sums = vec![0.0f32; parts * 2 * width];
        let shares = x.par_chunks(TOGETHER * width).zip(gradient.par_chunks_mut(TOGETHER * width));
        shares.zip(moments.par_chunks(TOGETHER)).zip(sums.par_chunks_mut(2 * width)).for_each(
            |(((x, gradient), moments), sums)| {
                on_vectors(GradientRows, (self, x, weight, moments, gradient, sums));
            },
        );
        let mut total = vec![0.0f64; 2 * width];
        for sums in sums.chunks_exact(2 * width) {
            total.iter_mut().zip(sums).for_each(|(total, sum)| *total += f64::from(*sum));
        }
        let [of_weight, of_bias] = [&total[..width], &total[width..]];
        [of_weight, of_bias].map(|total| total.iter().map(|sum| *sum as f32).collect())
    }
}

kernel!(ForwardRows: forward_rows(OfRows<'a>) -> ());
kernel!(GradientRows: gradient_of_rows(GradientOfRows<'a>) -> ());

#[inline(always)]
fn of_row(sizes: &RowSizes, x: &[f32]) -> Moments {
    if sizes.centered {
        return moments(x, sizes.epsilon);
    }
    let square = sum(x, |x| x * x) / x.len() as f64;
    Moments { inverse: (1.0 / (square + f64::from(sizes.epsilon)).sqrt()) as f32, ..Moments::default() }
}

type OfRows<'a> = (&'a RowSizes, &'a [f32], [Option<&'a [f32]>; 2], &'a mut [f32], &'a mut [Moments]);

#[inline(always)]
fn forward_rows((sizes, x, [weight, bias], y, moments): OfRows<'_>) {
    let rows = x.chunks_exact(sizes.width).zip(y.chunks_exact_mut(sizes.width));
    for ((x, y), moments) in rows.zip(moments) {
        *moments = of_row(sizes, x);
        let Moments { mean, rest, inverse } = *moments;
        // The mean first: a large one would take the digits of what is left.
        let numbers = y.iter_mut().zip(x);
        match (weight, bias) {
            (None, None) => numbers.for_each(|(y, x)| *y = (x - mean - rest) * inverse),
            (Some(weight), None) => {
                numbers.zip(weight).for_each(|((y, x), w)| *y = (x - mean - rest) * inverse * w);
            }
            (None, Some(bias)) => numbers.zip(bias).for_each(|((y, x), b)| *y = (x - mean - rest) * inverse + b),
            (Some(weight), Some(bias)) => {
                let parameters = weight.iter().zip(bias);
                numbers.zip(parameters).for_each(|((y, x), (w, b))| *y = (x - mean - rest) * inverse * w + b);
            }
        }
    }
}

type GradientOfRows<'a> = (&'a RowSizes, &'a [f32], Option<&'a [f32]>, &'a [Moments], &'a mut [f32], &'a mut [f32]);

#[inline(always)]
fn gradient_of_rows((sizes, x, weight, moments, gradient, sums): GradientOfRows<'_>) {
    let width = sizes.width;
    let (of_weight, of_bias) = sums.split_at_mut(width);
    let rows = x.chunks_exact(width).zip(gradient.chunks_exact_mut(width));
    for ((x, g), Moments { mean, rest, inverse }) in rows.zip(moments) {
        let sums = of_weight.iter_mut().zip(of_bias.iter_mut());
        for ((x, g), (of_weight, of_bias)) in x.iter().zip(g.iter()).zip(sums) {
            *of_weight += g * ((x - mean - rest) * inverse);
            *of_bias += g;
        }
        if let Some(weight) = weight {
            g.iter_mut().zip(weight).for_each(|(g, w)| *g *= w);
        }
        // dx = inverse·(g - mean(g) - normalized·mean(g·normalized)), where g has met the weight.
        let [plain, weighted] = crate::normalization::sums_with(x, *mean, g);
        let count = width as f64;
        let weighted = (weighted - plain * f64::from(*rest)) / count * f64::from(*inverse);
        let constant = if sizes.centered { (plain / count) as f32 } else { 0.0 };
        let slope = (weighted * f64::from(*inverse)) as f32;
        g.iter_mut().zip(x).for_each(|(g, x)| *g = inverse * (*g - constant - (x - mean - rest) * slope));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, numbers};

    /// The definition in f64.
    fn by_hand(s: &RowSizes, x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
        let count = s.width as f64;
        let mut y = Vec::new();
        for row in x.chunks(s.width) {
            let mean = if s.centered { row.iter().sum::<f64>() / count } else { 0.0 };
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
            let inverse = 1.0 / (variance + f64::from(s.epsilon)).sqrt();
            y.extend(row.iter().enumerate().map(|(i, x)| (x - mean) * inverse * weight[i] + bias[i]));
        }
        y
    }

    fn wide(x: &[f32]) -> Vec<f64> {
        x.iter().map(|x| f64::from(*x)).collect()
    }

    #[test]
    fn values_and_gradients_agree_with_the_definition() {
        for centered in [true, false] {
            for (rows, width) in [(1, 1), (3, 5), (70, 9), (2, 35)] {
                let s = RowSizes { rows, width, centered, epsilon: 1e-3 };
                let x: Vec<f32> = numbers(rows * width, 1).iter().map(|x| 3.0 * x + 0.7).collect();
                let (weight, bias, g) = (numbers(width, 2), numbers(width, 3), numbers(rows * width, 4));
                let (ones, zeros) = (vec![1.0; width], vec![0.0; width]);
                for which in 0..4 {
                    let w = (which & 1 > 0).then_some(&weight[..]);
                    let b = (which & 2 > 0).then_some(&bias[..]);
                    let (wide_w, wide_b) = (wide(w.unwrap_or(&ones)), wide(b.unwrap_or(&zeros)));
                    let mut y = vec![f32::NAN; rows * width];
                    let moments = s.forward(&x, w, b, &mut y);
                    assert_close(&y, &by_hand(&s, &wide(&x), &wide_w, &wide_b), 2e-6);
                    let mut of_x = g.clone();
                    let [of_weight, of_bias] = s.gradient(&x, w, &moments, &mut of_x);
                    let inputs = [wide(&x), wide_w, wide_b];
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
                        // Of one number nothing is left but the difference of terms of order one.
                        if width > 1 {
                            assert_close(given, &expected, 5e-6);
                        } else {
                            let off = |(g, e): (&f32, &f64)| (f64::from(*g) - e).abs();
                            assert!(given.iter().zip(&expected).map(off).all(|off| off < 1e-6), "{s:?}: {given:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_large_mean_is_not_lost() {
        let s = RowSizes { rows: 3, width: 1000, centered: true, epsilon: 1e-6 };
        let x: Vec<f32> = numbers(3000, 5).iter().map(|x| x + 1000.0).collect();
        let mut y = vec![0.0; 3000];
        let moments = s.forward(&x, None, None, &mut y);
        assert_close(&y, &by_hand(&s, &wide(&x), &[1.0; 1000], &[0.0; 1000]), 1e-6);
        // Gradients do not see a shift.
        let near: Vec<f32> = x.iter().map(|x| x - 1000.0).collect();
        let (mut far_g, mut near_g) = (numbers(3000, 6), numbers(3000, 6));
        let far = s.gradient(&x, None, &moments, &mut far_g);
        let moments = s.forward(&near, None, None, &mut y);
        let near = s.gradient(&near, None, &moments, &mut near_g);
        assert_close(&far_g, &wide(&near_g), 2e-6);
        far.iter().zip(&near).for_each(|(far, near)| assert_close(far, &wide(near), 2e-6));
    }

    #[test]
    #[should_panic(expected = "parameters of")]
    fn refuses_a_weight_of_another_width() {
        let s = RowSizes { rows: 1, width: 2, centered: false, epsilon: 1e-6 };
        s.forward(&[1.0; 2], Some(&[1.0; 3]), None, &mut [0.0; 2]);
    }
}
