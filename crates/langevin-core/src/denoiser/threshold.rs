//! Static and dynamic thresholding of the estimated clean sample.

use super::{DenoiseError, Denoiser, Estimate, Query};
use crate::level::Level;
use crate::noise::NoiseSource;
use burn::tensor::{Bool, DType, Tensor};

/// How x̂_0 is kept in range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    /// Clamp to `[-range, range]`.
    Static {
        /// Half-width of the allowed interval, > 0; 1 for images in [-1, 1].
        range: f64,
    },
    /// Clamp each sample to its `ratio` quantile of |x̂_0|, kept in `[1, max]`, and divide by that
    /// (Saharia et al. 2022, Imagen, section 2.3).
    Dynamic {
        /// Quantile in [0, 1], 0.995 in the paper.
        ratio: f64,
        /// Largest threshold, >= 1.
        max: f64,
    },
}

/// A denoiser whose x̂_0 is thresholded. ε̂ stays the network's, which is what DDIM and DDPM were published with; solvers that read
/// ε̂ alone refuse it unless [`rederive_eps`](Self::rederive_eps) is called. Made by [`DenoiserExt::thresholded`](super::DenoiserExt::thresholded).
#[derive(Clone, Debug)]
pub struct Thresholded<T> {
    inner: T,
    threshold: Threshold,
    rederive: bool,
}

impl<T> Thresholded<T> {
    pub(super) fn new(inner: T, threshold: Threshold) -> Result<Self, DenoiseError> {
        let bad = |setting, given, expected| Err(DenoiseError::Setting { setting, given, expected });
        match threshold {
            Threshold::Static { range } if !(range > 0.0) => {
                return bad("threshold range", range, "a positive number");
            }
            Threshold::Dynamic { ratio, .. } if !(0.0..=1.0).contains(&ratio) => {
                return bad("quantile of dynamic thresholding", ratio, "a number in [0, 1]");
            }
            Threshold::Dynamic { max, .. } if !(max >= 1.0) => {
                return bad("largest dynamic threshold", max, "at least 1");
            }
            _ => {}
        }
        Ok(Self { inner, threshold, rederive: false })
    }

    /// Derives ε̂ again from the thresholded x̂_0, instead of keeping the network's.
    pub fn rederive_eps(mut self) -> Self {
        self.rederive = true;
        self
    }
}

impl<T> Thresholded<T> {
    fn apply<const D: usize>(&self, estimate: Estimate<D>) -> Result<Estimate<D>, DenoiseError> {
        let x0 = estimate.x0()?;
        let x0 = match self.threshold {
            Threshold::Static { range } => x0.clamp(-range, range),
            Threshold::Dynamic { ratio, max } => dynamic(x0, ratio, max),
        };
        Ok(if self.rederive { estimate.rederive(x0)? } else { estimate.with_x0(x0) })
    }
}

impl<const D: usize, T: Denoiser<D>> Denoiser<D> for Thresholded<T> {
    fn denoise(&self, query: Query<'_, D>) -> Result<Estimate<D>, DenoiseError> {
        self.apply(self.inner.denoise(query)?)
    }

    fn denoise_each(
        &self,
        states: &[Tensor<D>],
        levels: &[Level],
        noise: &dyn NoiseSource,
    ) -> Result<Vec<Estimate<D>>, DenoiseError> {
        self.inner.denoise_each(states, levels, noise)?.into_iter().map(|estimate| self.apply(estimate)).collect()
    }

    fn memory(&self) -> usize {
        self.inner.memory()
    }

    fn is_split(&self) -> bool {
        self.inner.is_split()
    }

    fn beyond_autodiff(&self) -> Option<&'static str> {
        self.inner.beyond_autodiff()
    }

    fn beyond_output(&self) -> Option<&'static str> {
        Some("thresholding")
    }

    fn beyond_eps(&self) -> Option<&'static str> {
        (!self.rederive).then_some("thresholding that keeps ε̂")
    }

    fn check(&self, shape: &[usize]) -> Result<(), DenoiseError> {
        if self.rederive && self.inner.is_split() {
            return Err(DenoiseError::Combination {
                first: "thresholding that derives ε̂ again",
                second: "CFG++",
                reason: "ε̂ would follow the guided x̂_0 again; leave `.rederive_eps()` out",
            });
        }
        self.inner.check(shape)
    }
}

fn dynamic<const D: usize>(x0: Tensor<D>, ratio: f64, max: f64) -> Tensor<D> {
    let dims = x0.dims();
    let numel: usize = dims[1..].iter().product();
    // Linear interpolation between the two order statistics next to the quantile, as torch and numpy do.
    let position = ratio * (numel - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(numel - 1);
    let magnitudes = x0.clone().abs().reshape([dims[0], numel]);
    let low = at_position(&magnitudes, below);
    let high = if above == below { low.clone() } else { behind(&magnitudes, &low, above) };
    let quantile = low.clone().add(high.sub(low).mul_scalar(position - below as f64));
    let mut column = [1; D];
    column[0] = dims[0];
    let s = quantile.clamp(1.0, max).reshape(column).expand(dims);
    x0.max_pair(s.clone().neg()).min_pair(s.clone()).div(s)
}

/// How often intervals are halved: until they are shorter than the digits of a dtype, for thresholds up to some hundreds.
fn halvings(dtype: DType) -> usize {
    match dtype {
        DType::F64 => 62,
        DType::F16 | DType::BF16 => 20,
        _ => 33,
    }
}

/// The element of each row that would be at a position of the sorted row, `[rows, 1]`, of numbers that are not negative.
///
/// It is searched for between two bounds by counting, since Burn sorts on the host: on a GPU each step would wait for the device, and in
/// a browser it could not. The element is one of the row, and at the position but for others that lie within the last interval.
fn at_position(rows: &Tensor<2>, position: usize) -> Tensor<2> {
    let plain = rows.clone().detach();
    let finite = plain.clone().is_finite();
    let mut high = plain.clone().mask_fill(finite.bool_not(), 0.0).max_dim(1);
    let mut low = high.zeros_like().sub_scalar(1.0);
    for _ in 0..halvings(rows.dtype()) {
        // Not half of the sum, which f16 may not hold.
        let middle = low.clone().mul_scalar(0.5).add(high.clone().mul_scalar(0.5));
        let reached = reaches(&plain, &middle, position);
        low = middle.clone().mask_where(reached.clone(), low);
        high = high.mask_where(reached, middle);
    }
    least_above(rows, &low, &high)
}

/// Whether the element of each row at a position of the sorted row is no more than a bound: `[rows, 1]`, as the bound.
fn reaches(rows: &Tensor<2>, bound: &Tensor<2>, position: usize) -> Tensor<2, Bool> {
    let up_to = rows.clone().lower_equal(bound.clone().expand(rows.dims()));
    up_to.int().sum_dim(1).greater_elem(position as i64)
}

/// The element at a position, of which `before`, `[rows, 1]`, is that at the position before.
fn behind(rows: &Tensor<2>, before: &Tensor<2>, position: usize) -> Tensor<2> {
    let bound = before.clone().detach();
    // Equal numbers stand behind one another.
    let same = reaches(&rows.clone().detach(), &bound, position);
    least_above(rows, &bound, &bound).mask_where(same, before.clone())
}

/// The least element of each row above a bound, `[rows, 1]`; another number where there is none. What is no number is not above
/// anything.
fn least_above(rows: &Tensor<2>, bound: &Tensor<2>, otherwise: &Tensor<2>) -> Tensor<2> {
    let dims = rows.dims();
    let above = rows.clone().greater(bound.clone().expand(dims));
    let least = rows.clone().mask_fill(above.clone().bool_not(), f64::INFINITY).min_dim(1);
    let none = above.int().sum_dim(1).equal_elem(0);
    least.mask_where(none, otherwise.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::denoiser::{DenoiserExt, from_fn};
    use crate::level::Levels;
    use crate::noise::Seeded;
    use crate::prediction::Prediction;
    use burn::tensor::{Device, TensorData};

    const LEVEL: Level = Level { alpha: 0.8, sigma: 0.6, time: 0.0 };

    /// Asks, at x = 0.8·x_0 + 0.6, a denoiser that answers x_0.
    fn ask(x0: Tensor<2>, threshold: Threshold, rederive: bool) -> Estimate<2> {
        let answer = x0.clone();
        let inner = from_fn(Prediction::Sample, move |_: Tensor<2>, _: &Levels| Ok(answer.clone()));
        let denoiser = DenoiserExt::<2>::thresholded(inner, threshold).unwrap();
        let denoiser = if rederive { denoiser.rederive_eps() } else { denoiser };
        let x = x0.mul_scalar(0.8).add_scalar(0.6);
        denoiser.denoise(Query { x, levels: &LEVEL.into(), past: &[], noise: &Seeded::new(0) }).unwrap()
    }

    fn close(got: Tensor<2>, expected: &[f64]) {
        let got: Vec<f64> = got.into_data().iter::<f64>().collect();
        assert!(got.len() == expected.len() && got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 2e-6), "{got:?}");
    }

    fn x0(rows: [[f32; 5]; 2]) -> Tensor<2> {
        Tensor::from_floats(rows, &Device::flex())
    }

    #[test]
    fn static_threshold_clamps_and_keeps_or_rederives_eps() {
        let x0 = x0([[-2.0, -0.5, 0.0, 1.4, 0.9], [1.5, 1.6, -1.7, 0.1, 0.2]]);
        let clamped = [-1.5, -0.5, 0.0, 1.4, 0.9, 1.5, 1.5, -1.5, 0.1, 0.2];
        let kept = ask(x0.clone(), Threshold::Static { range: 1.5 }, false);
        close(kept.x0().unwrap(), &clamped);
        close(kept.eps().unwrap(), &[1.0; 10]);
        let derived = ask(x0, Threshold::Static { range: 1.5 }, true);
        close(derived.x0().unwrap(), &clamped);
        // ε̂ = (x − 0.8·x̂_0)/0.6 moves by 4/3 of what was cut off.
        let third = 4.0 / 3.0;
        let moved = [-0.5 * third, 0.0, 0.0, 0.0, 0.0, 0.0, 0.1 * third, -0.2 * third, 0.0, 0.0];
        close(derived.eps().unwrap(), &moved.map(|m| 1.0 + m));
    }

    #[test]
    fn dynamic_threshold_by_hand() {
        // |x_0| sorted: 0, 1, 2, 3, 4 and 0.1, …, 0.5. The 0.9 quantile is at position 3.6 of 0..=4.
        let x0 = x0([[-4.0, 3.0, 0.0, 1.0, -2.0], [0.1, -0.2, 0.3, 0.4, -0.5]]);
        let estimate = ask(x0.clone(), Threshold::Dynamic { ratio: 0.9, max: 100.0 }, false);
        let s = 3.6;
        let first = [-1.0, 3.0 / s, 0.0, 1.0 / s, -2.0 / s];
        // The second row's quantile 0.46 is below 1: nothing changes.
        let second = [0.1, -0.2, 0.3, 0.4, -0.5];
        close(estimate.x0().unwrap(), &[first, second].concat());
        close(estimate.eps().unwrap(), &[1.0; 10]);
        // A maximum of 2 cuts the first row there.
        let estimate = ask(x0.clone(), Threshold::Dynamic { ratio: 0.9, max: 2.0 }, false);
        close(estimate.x0().unwrap(), &[[-1.0, 1.0, 0.0, 0.5, -1.0], second].concat());
        // Quantiles 0 and 1 are the smallest and the largest value.
        let estimate = ask(x0.clone(), Threshold::Dynamic { ratio: 1.0, max: 100.0 }, false);
        close(estimate.x0().unwrap(), &[[-1.0, 0.75, 0.0, 0.25, -0.5], second].concat());
        let estimate = ask(x0, Threshold::Dynamic { ratio: 0.0, max: 100.0 }, false);
        close(estimate.x0().unwrap(), &[[-1.0, 1.0, 0.0, 1.0, -1.0], second].concat());
    }

    /// Whatever the numbers are: equal ones, zeros, and those of very different sizes.
    #[test]
    fn elements_are_those_of_the_sorted_row() {
        let number = |i: usize| ((i * i) as f64 * 0.37).sin();
        let rows: [Vec<f64>; 5] = [
            (0..40).map(|i| 3.0 * number(i).abs()).collect(),
            (0..40).map(|i| (4.0 * number(i).abs()).floor()).collect(),
            vec![0.0; 40],
            (0..40).map(|i| if i < 3 { 200.0 + i as f64 } else { 1.0 + number(i) }).collect(),
            vec![1.25; 40],
        ];
        for (dtype, within) in [(DType::F64, 1e-14), (DType::F32, 1e-7), (DType::F16, 1e-3), (DType::BF16, 1e-2)] {
            let x = Tensor::<2>::from_data(TensorData::new(rows.concat(), [5, 40]), (&Device::flex(), dtype));
            for position in [0, 1, 17, 38, 39] {
                let low = at_position(&x, position);
                let next = (position < 39).then(|| behind(&x, &low, position + 1));
                for (found, position) in std::iter::once(low).chain(next).zip(position..) {
                    let found: Vec<f64> = found.into_data().iter::<f64>().collect();
                    let sorted: Vec<f64> = x.clone().sort(1).narrow(1, position, 1).into_data().iter::<f64>().collect();
                    for (found, sorted) in found.iter().zip(&sorted) {
                        assert!((found - sorted).abs() <= within, "{dtype:?} at {position}: {found} and {sorted}");
                    }
                }
            }
        }
    }

    /// What is no number stays none, and does not move the threshold of the others.
    #[test]
    fn numbers_beside_a_nan_have_their_threshold() {
        let rows = x0([[f32::NAN, 4.0, -2.0, 1.0, 0.5], [0.1, -0.2, 0.3, 0.4, -0.5]]);
        let found = ask(rows, Threshold::Dynamic { ratio: 0.75, max: 100.0 }, false).x0().unwrap();
        let found: Vec<f64> = found.into_data().iter::<f64>().collect();
        assert!(found[0].is_nan() && (found[1] - 1.0).abs() < 1e-6 && (found[2] + 0.5).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn thresholds_have_gradients_of_the_elements_that_they_are() {
        let x = x0([[-4.0, 3.0, 0.0, 1.0, -2.0], [0.1, -0.2, 0.3, 0.4, -0.5]]).autodiff().require_grad();
        let sum = dynamic(x.clone(), 0.75, 100.0).sum();
        let gradient = x.grad(&sum.backward()).expect("a gradient");
        // s = 3 = x_1: the row is (−1, 1, 0, x_3/s, x_4/s), and the sum changes by −(x_3 + x_4)/s² = 1/9 with s.
        let third = 1.0 / 3.0;
        close(gradient, &[0.0, 1.0 / 9.0, third, third, third, 1.0, 1.0, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn dynamic_threshold_looks_at_each_sample_as_a_whole() {
        let x0 = Tensor::<4>::from_floats([[[[3.0]], [[-1.0]]], [[[0.5]], [[9.0]]]], &Device::flex());
        let answer = x0.clone();
        let inner = from_fn(Prediction::Sample, move |_: Tensor<4>, _: &Levels| Ok(answer.clone()));
        let denoiser = DenoiserExt::<4>::thresholded(inner, Threshold::Dynamic { ratio: 1.0, max: 6.0 }).unwrap();
        let query = Query { x: x0, levels: &LEVEL.into(), past: &[], noise: &Seeded::new(0) };
        let got: Vec<f64> = denoiser.denoise(query).unwrap().x0().unwrap().into_data().iter::<f64>().collect();
        let expected = [1.0, -1.0 / 3.0, 0.5 / 6.0, 1.0];
        assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?}");
    }

    #[test]
    fn bad_settings_are_errors() {
        let new = |threshold| Thresholded::new((), threshold).unwrap_err();
        let name = |error| match error {
            DenoiseError::Setting { setting, .. } => setting,
            other => panic!("{other}"),
        };
        for range in [0.0, -1.0, f64::NAN] {
            assert_eq!(name(new(Threshold::Static { range })), "threshold range");
        }
        for ratio in [-0.1, 1.1, f64::NAN] {
            assert_eq!(name(new(Threshold::Dynamic { ratio, max: 1.0 })), "quantile of dynamic thresholding");
        }
        for max in [0.9, f64::NAN] {
            assert_eq!(name(new(Threshold::Dynamic { ratio: 0.995, max })), "largest dynamic threshold");
        }
    }
}
