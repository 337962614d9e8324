//! Resizing samples, as torch's `interpolate` does.

use crate::sampler::rows::widen;
use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// How samples are resized along their sides: torch's `interpolate` without `align_corners` and without antialiasing, and by
/// its names.
///
/// Pixels are squares of equal size, so that the corner pixels of both sizes do not share a center. Where the sizes are the
/// same, nothing changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resize {
    /// The pixel at `⌊i·n/m⌋` of n for i of m, with n/m in `f32` as torch has it. For 3 to 5 dimensions.
    Nearest,
    /// The pixel in which the new one's center lies. For 3 to 5 dimensions.
    NearestExact,
    /// The mean of the pixels that the new one touches. For 3 to 5 dimensions.
    Area,
    /// Between two pixels. For 3 dimensions, `[batch, channels, length]`.
    Linear,
    /// Between two pixels along both sides. For 4 dimensions, `[batch, channels, height, width]`.
    Bilinear,
    /// By cubic polynomials through four pixels along both sides (Keys 1981, with a = −0.75). For 4 dimensions.
    #[default]
    Bicubic,
    /// Between two pixels along three sides. For 5 dimensions, `[batch, channels, depth, height, width]`.
    Trilinear,
}

/// The pixels of which a new one is made, and their weights.
type Taps = Vec<(usize, f64)>;

impl Resize {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Nearest, Self::NearestExact, Self::Area, Self::Linear, Self::Bilinear, Self::Bicubic, Self::Trilinear];

    /// Torch's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nearest => "nearest",
            Self::NearestExact => "nearest-exact",
            Self::Area => "area",
            Self::Linear => "linear",
            Self::Bilinear => "bilinear",
            Self::Bicubic => "bicubic",
            Self::Trilinear => "trilinear",
        }
    }

    /// The one that torch calls so.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|resize| resize.name() == name)
    }

    /// How many dimensions the samples have that it resizes, batch and channels counted.
    pub fn dimensions(self) -> RangeInclusive<usize> {
        match self {
            Self::Nearest | Self::NearestExact | Self::Area => 3..=5,
            Self::Linear => 3..=3,
            Self::Bilinear | Self::Bicubic => 4..=4,
            Self::Trilinear => 5..=5,
        }
    }

    /// The same in words.
    pub(super) fn dimensions_in_words(self) -> &'static str {
        match self {
            Self::Nearest | Self::NearestExact | Self::Area => "3 to 5",
            Self::Linear => "3",
            Self::Bilinear | Self::Bicubic => "4",
            Self::Trilinear => "5",
        }
    }

    /// Resizes the dimensions after the second to `sides`. Half precision is widened between.
    pub(crate) fn apply<const D: usize>(self, x: Tensor<D>, sides: &[usize]) -> Tensor<D> {
        let dtype = x.dtype();
        // The last side first, as torch sums.
        let axes = sides.iter().enumerate().rev();
        axes.fold(widen(&x), |x, (axis, side)| self.along(x, axis + 2, *side)).cast(dtype)
    }

    fn along<const D: usize>(self, x: Tensor<D>, axis: usize, to: usize) -> Tensor<D> {
        let from = x.dims()[axis];
        if from == to {
            return x;
        }
        let taps: Vec<Taps> = (0..to).map(|i| self.taps(i, from, to)).collect();
        let most = taps.iter().map(Vec::len).max().unwrap_or(0);
        let mut shape = [1; D];
        shape[axis] = to;
        // Where a pixel has fewer, its last one stands in without weight.
        let part = |k: usize| {
            let pixels: Vec<i64> = taps.iter().map(|taps| taps[k.min(taps.len() - 1)].0 as i64).collect();
            let weights: Vec<f64> = taps.iter().map(|taps| taps.get(k).map_or(0.0, |tap| tap.1)).collect();
            let pixels = Tensor::<1, Int>::from_data(pixels.as_slice(), &x.device());
            let part = x.clone().select(axis, pixels);
            if weights.iter().all(|weight| *weight == 1.0) {
                return part;
            }
            let weights = Tensor::<1>::from_data(weights.as_slice(), (&x.device(), x.dtype()));
            part.mul(weights.reshape(shape))
        };
        (1..most).fold(part(0), |sum, k| sum.add(part(k)))
    }

    fn taps(self, i: usize, from: usize, to: usize) -> Taps {
        let last = from - 1;
        let scale = from as f64 / to as f64;
        // Where the center of the new pixel is among the old ones.
        let center = scale * (i as f64 + 0.5) - 0.5;
        match self {
            Self::Nearest if to == 2 * from => vec![(i / 2, 1.0)],
            Self::Nearest => vec![(((i as f32 * (from as f32 / to as f32)) as usize).min(last), 1.0)],
            Self::NearestExact => {
                vec![((((i as f32 + 0.5) * (from as f32 / to as f32)) as usize).min(last), 1.0)]
            }
            Self::Area => {
                let (begin, end) = (i * from / to, ((i + 1) * from).div_ceil(to));
                (begin..end).map(|pixel| (pixel, 1.0 / (end - begin) as f64)).collect()
            }
            Self::Linear | Self::Bilinear | Self::Trilinear => {
                let center = center.max(0.0);
                let pixel = (center as usize).min(last);
                let share = center - pixel as f64;
                vec![(pixel, 1.0 - share), ((pixel + 1).min(last), share)]
            }
            Self::Bicubic => {
                let share = center - center.floor();
                let near = |d: f64| ((CUBIC + 2.0) * d - (CUBIC + 3.0)) * d * d + 1.0;
                let far = |d: f64| ((CUBIC * d - 5.0 * CUBIC) * d + 8.0 * CUBIC) * d - 4.0 * CUBIC;
                let weights = [far(share + 1.0), near(share), near(1.0 - share), far(2.0 - share)];
                let pixel = |k: usize| (center.floor() + k as f64 - 1.0).clamp(0.0, last as f64) as usize;
                weights.into_iter().enumerate().map(|(k, weight)| (pixel(k), weight)).collect()
            }
        }
    }
}

/// The slope of the cubic polynomials, a.
const CUBIC: f64 = -0.75;

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, Device};

    #[test]
    fn names_are_those_of_torch() {
        for resize in Resize::ALL {
            assert_eq!(Resize::from_name(resize.name()), Some(resize));
            assert_eq!(serde_json::to_value(resize).unwrap(), resize.name());
        }
        assert_eq!(Resize::from_name("lanczos"), None);
    }

    /// What is the same everywhere stays so: weights sum to 1, and no pixel lies outside.
    #[test]
    fn weights_sum_to_1() {
        for resize in Resize::ALL {
            for (from, to) in [(1, 1), (1, 5), (3, 7), (7, 3), (8, 16), (16, 8), (5, 4), (64, 129), (2, 82)] {
                for i in 0..to {
                    let taps = resize.taps(i, from, to);
                    assert!((taps.iter().map(|tap| tap.1).sum::<f64>() - 1.0).abs() < 1e-14, "{resize:?}");
                    assert!(taps.iter().all(|tap| tap.0 < from), "{resize:?}");
                }
            }
        }
    }

    /// A line stays one, in the middle, under what interpolates; halving by areas takes means.
    #[test]
    fn lines_stay_lines() {
        let device = Device::flex();
        let line: Vec<f64> = (0..12).map(|i| 2.0 * i as f64 + 1.0).collect();
        let image = Tensor::<1>::from_data(line.as_slice(), (&device, DType::F64)).reshape([1, 1, 1, 12]);
        for resize in [Resize::Bilinear, Resize::Bicubic] {
            let wide: Vec<f64> = resize.apply(image.clone(), &[1, 30]).try_to_vec_as::<f64>().unwrap();
            for (i, value) in wide.iter().enumerate().skip(5).take(20) {
                let expected = 2.0 * (0.4 * (i as f64 + 0.5) - 0.5) + 1.0;
                let off = if resize == Resize::Bilinear { 1e-12 } else { 0.2 };
                assert!((value - expected).abs() < off, "{resize:?}: {value}, {expected}");
            }
        }
        let half = Resize::Area.apply(image.clone(), &[1, 6]);
        assert_eq!(half.try_to_vec_as::<f64>().unwrap(), [2.0, 6.0, 10.0, 14.0, 18.0, 22.0]);
        let half = Resize::Area.apply(image.cast(DType::F16), &[1, 6]);
        assert_eq!(half.dtype(), DType::F16);
    }
}
