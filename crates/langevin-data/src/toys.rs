//! Distributions in the plane on which generative models are tried out.
//!
//! Each is drawn from `(n, noise, seed)` alone and then standardized: mean 0 and variance 1 in both columns, which is
//! what a diffusion model wants. [`VectorSet::standardization`] leads back to the units of the formulas here. All need
//! at least two points, because one has no variance.

use std::f64::consts::{FRAC_PI_4, PI};

use crate::rng::{Purpose, Stream};
use crate::{DataError, VectorSet};

/// A spiral: `(t cos t, t sin t)` with `t` uniform in `[3 pi / 2, 9 pi / 2)`, plus Gaussian noise of standard deviation
/// `noise` (the arms are 2 pi apart).
///
/// The swiss roll of Tenenbaum, de Silva and Langford, "A Global Geometric Framework for Nonlinear Dimensionality
/// Reduction", 2000, <https://doi.org/10.1126/science.290.5500.2319>, without its constant direction.
///
/// # Errors
///
/// [`DataError::NoiseLevel`], [`DataError::TooMany`] for more points than fit into memory, [`DataError::Empty`] for `n = 0`, [`DataError::ConstantColumn`] for `n = 1`.
///
/// # Example
///
/// ```
/// let roll = langevin_data::toys::swiss_roll(1000, 0.5, 7)?;
/// assert_eq!((roll.len(), roll.dim(), roll.classes()), (1000, 2, None));
/// # Ok::<(), langevin_data::DataError>(())
/// ```
pub fn swiss_roll(n: usize, noise: f64, seed: u64) -> Result<VectorSet, DataError> {
    draw(n, noise, Stream::new(seed, Purpose::Toy, 0), |_, stream| {
        let t = 1.5 * PI * (1.0 + 2.0 * stream.uniform());
        [t * libm::cos(t), t * libm::sin(t)]
    })
}

/// Two interlocking half circles of radius 1, plus Gaussian noise of standard deviation `noise`: even points on
/// `(cos a, sin a)` (class 0), odd ones on `(1 - cos a, 1/2 - sin a)` (class 1), `a` uniform in `[0, pi)`.
///
/// # Errors
///
/// As [`swiss_roll`].
pub fn moons(n: usize, noise: f64, seed: u64) -> Result<VectorSet, DataError> {
    let points = draw(n, noise, Stream::new(seed, Purpose::Toy, 1), |index, stream| {
        let angle = PI * stream.uniform();
        let (x, y) = (libm::cos(angle), libm::sin(angle));
        if index % 2 == 0 { [x, y] } else { [1.0 - x, 0.5 - y] }
    })?;
    points.with_labels((0..n).map(|index| index % 2).collect(), 2)
}

/// Uniform on the black squares of a 4 by 4 board on `[-2, 2)` by `[-2, 2)`: those where `floor(x) + floor(y)` is even.
///
/// # Errors
///
/// [`DataError::Empty`] for `n = 0`, [`DataError::ConstantColumn`] for `n = 1`.
pub fn checkerboard(n: usize, seed: u64) -> Result<VectorSet, DataError> {
    draw(n, 0.0, Stream::new(seed, Purpose::Toy, 2), |_, stream| {
        let x = 4.0 * stream.uniform() - 2.0;
        // y in [0, 1), in the upper or the lower half, one square up where x is in an odd column.
        let y = stream.uniform() - if stream.uniform() < 0.5 { 2.0 } else { 0.0 };
        [x, y + x.floor().rem_euclid(2.0)]
    })
}

/// Eight Gaussians of standard deviation `noise` around the points `(cos, sin)(k pi / 4)` of the unit circle; point `i`
/// belongs to Gaussian `i % 8`, its class (neighbors are 0.77 apart).
///
/// # Errors
///
/// As [`swiss_roll`].
pub fn eight_gaussians(n: usize, noise: f64, seed: u64) -> Result<VectorSet, DataError> {
    let points = draw(n, noise, Stream::new(seed, Purpose::Toy, 3), |index, _| {
        let angle = FRAC_PI_4 * (index % 8) as f64;
        [libm::cos(angle), libm::sin(angle)]
    })?;
    points.with_labels((0..n).map(|index| index % 8).collect(), 8)
}

/// `n` points plus noise, standardized.
fn draw(
    n: usize,
    noise: f64,
    mut stream: Stream,
    point: impl Fn(usize, &mut Stream) -> [f64; 2],
) -> Result<VectorSet, DataError> {
    if !(noise >= 0.0 && noise.is_finite()) {
        return Err(DataError::NoiseLevel { noise });
    }
    let mut values = Vec::new();
    let room = n.checked_mul(2).is_some_and(|count| values.try_reserve_exact(count).is_ok());
    if !room {
        return Err(DataError::TooMany { samples: n, values: 2 });
    }
    for index in 0..n {
        for coordinate in point(index, &mut stream) {
            values.push((coordinate + noise * stream.normal()) as f32);
        }
    }
    VectorSet::new(values, [n, 2])?.standardize()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The points in the units of the formulas.
    fn raw(set: &VectorSet) -> Vec<[f64; 2]> {
        let (mean, std) = (set.standardization().mean(), set.standardization().std());
        let undo = |column: usize, value: f32| mean[column] + std[column] * f64::from(value);
        set.values().chunks_exact(2).map(|row| [undo(0, row[0]), undo(1, row[1])]).collect()
    }

    #[test]
    fn more_points_than_memory() {
        for n in [usize::MAX, usize::MAX / 2, 1 << 60] {
            let error = swiss_roll(n, 0.1, 7).unwrap_err();
            assert!(matches!(error, DataError::TooMany { samples, values: 2 } if samples == n), "{error}");
        }
    }

    #[test]
    fn swiss_roll_without_noise_is_on_the_spiral() {
        let (mut low, mut high) = (f64::INFINITY, 0f64);
        for [x, y] in raw(&swiss_roll(2000, 0.0, 1).unwrap()) {
            let t = x.hypot(y);
            assert!((t * t.cos() - x).abs() < 1e-4 && (t * t.sin() - y).abs() < 1e-4, "{x} {y}");
            (low, high) = (low.min(t), high.max(t));
        }
        // All of the range is visited: 2000 uniform points leave 1 % at an end with probability 2e-9.
        assert!((1.5 * PI..1.6 * PI).contains(&low) && (4.4 * PI..4.5 * PI + 1e-4).contains(&high));
    }

    #[test]
    fn noise_has_the_level_asked_for() {
        // Around eight known centers the deviations are the noise itself.
        let noise = 0.05;
        let n = 8000;
        let points = raw(&eight_gaussians(n, noise, 2).unwrap());
        let mut squares = 0.0;
        for (index, [x, y]) in points.into_iter().enumerate() {
            let angle = PI / 4.0 * (index % 8) as f64;
            squares += (x - angle.cos()).powi(2) + (y - angle.sin()).powi(2);
        }
        let level = (squares / (2 * n) as f64).sqrt();
        // Four standard errors of a standard deviation from 16,000 normals: 4 noise / sqrt(2 * 16,000).
        assert!((level - noise).abs() < 4.0 * noise / 32_000f64.sqrt(), "{level}");
    }

    #[test]
    fn moons_without_noise_are_half_circles() {
        let set = moons(500, 0.0, 3).unwrap();
        assert_eq!((set.classes(), &set.labels().unwrap()[..3]), (Some(2), &[0, 1, 0][..]));
        for (index, [x, y]) in raw(&set).into_iter().enumerate() {
            let (x, y) = if index % 2 == 0 { (x, y) } else { (1.0 - x, 0.5 - y) };
            assert!((x.hypot(y) - 1.0).abs() < 1e-5 && y > -1e-5, "{index}: {x} {y}");
        }
    }

    #[test]
    fn checkerboard_fills_the_black_squares_evenly() {
        let mut counts = std::collections::BTreeMap::new();
        for [x, y] in raw(&checkerboard(8000, 4).unwrap()) {
            // A point within rounding of an edge could be counted next door: keep off by a hair.
            let near = |v: f64| (v - v.round()).abs() < 1e-5;
            if !near(x) && !near(y) {
                *counts.entry((x.floor() as i32, y.floor() as i32)).or_insert(0f64) += 1.0;
            }
        }
        let black: Vec<(i32, i32)> =
            (-2..2).flat_map(|x| (-2..2).map(move |y| (x, y))).filter(|(x, y)| (x + y) % 2 == 0).collect();
        assert_eq!(counts.keys().copied().collect::<Vec<_>>(), black);
        // Binomial with n = 8000, p = 1/8: five standard deviations.
        let bound = 5.0 * (8000.0f64 * 7.0 / 64.0).sqrt();
        assert!(counts.values().all(|count| (count - 1000.0).abs() < bound), "{counts:?}");
    }

    #[test]
    fn all_are_standardized_and_seeded() {
        let all = |seed| {
            [
                swiss_roll(999, 0.5, seed).unwrap(),
                moons(999, 0.1, seed).unwrap(),
                checkerboard(999, seed).unwrap(),
                eight_gaussians(999, 0.1, seed).unwrap(),
            ]
        };
        for (one, other) in all(1).iter().zip(&all(2)) {
            assert_ne!(one, other);
            for column in 0..2 {
                let column = || one.values().iter().skip(column).step_by(2).map(|&value| f64::from(value));
                assert!((column().sum::<f64>() / 999.0).abs() < 1e-6);
                assert!((column().map(|value| value * value).sum::<f64>() / 999.0 - 1.0).abs() < 1e-6);
            }
        }
        assert_eq!(all(1), all(1));
    }

    #[test]
    fn bad_noise_and_too_few_points_are_rejected() {
        for noise in [-0.1, f64::NAN, f64::INFINITY] {
            assert!(matches!(swiss_roll(10, noise, 0), Err(DataError::NoiseLevel { .. })), "{noise}");
            assert!(matches!(moons(10, noise, 0), Err(DataError::NoiseLevel { .. })), "{noise}");
            assert!(matches!(eight_gaussians(10, noise, 0), Err(DataError::NoiseLevel { .. })), "{noise}");
        }
        assert!(matches!(swiss_roll(0, 0.1, 0), Err(DataError::Empty { .. })));
        assert!(matches!(checkerboard(1, 0), Err(DataError::ConstantColumn { column: 0 })));
        // So much noise that single precision overflows.
        assert!(matches!(swiss_roll(10, 1e300, 0), Err(DataError::NonFinite { .. })));
    }
}
