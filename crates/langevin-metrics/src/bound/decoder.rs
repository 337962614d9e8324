//! The last step: from x_1 to data.

use crate::MetricError;
use crate::quantization::Quantization;

/// What p(x_0|x_1) is, given its mean and variance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decoder {
    /// A Gaussian over the levels of the data: each level has the mass between the midpoints to its neighbors, the lowest
    /// and the highest all that lies beyond (Ho et al. 2020, eq. 13). The bound is one on the probability of the levels.
    Discretized(Quantization),
    /// A Gaussian density, for data without levels. The bound is one on the density, and may be negative.
    Continuous,
}

impl Decoder {
    /// The level of each value, if the data has levels.
    pub(super) fn levels(&self, data: &[f64], rows: usize) -> Result<Option<Vec<usize>>, MetricError> {
        match self {
            Decoder::Discretized(quantization) => quantization.levels_of(data, rows).map(Some),
            Decoder::Continuous => Ok(None),
        }
    }

    /// ln p(x) of one value. Mass is taken on the host in f64 without a floor, so that levels far from the mean keep
    /// their right (tiny) probability.
    pub(super) fn log_likelihood(&self, x: f64, level: Option<usize>, mean: f64, std: f64) -> f64 {
        match (self, level) {
            (Decoder::Discretized(quantization), Some(level)) => {
                let (value, half) = (quantization.value(level), 0.5 * quantization.step());
                let low = if level == 0 { f64::NEG_INFINITY } else { (value - half - mean) / std };
                let top = level + 1 == quantization.levels();
                let high = if top { f64::INFINITY } else { (value + half - mean) / std };
                log_mass(low, high)
            }
            _ => {
                let z = (x - mean) / std;
                -0.5 * z * z - 0.5 * libm::log(std::f64::consts::TAU) - libm::log(std)
            }
        }
    }
}

/// `ln(Φ(high) − Φ(low))` for low < high.
fn log_mass(low: f64, high: f64) -> f64 {
    if low + high < 0.0 {
        // The mirror image lies in the upper half, where tails do not cancel against 1.
        return log_mass(-high, -low);
    }
    if low <= 0.0 {
        let outside = 0.5 * (libm::erfc(-low / std::f64::consts::SQRT_2) + libm::erfc(high / std::f64::consts::SQRT_2));
        return libm::log1p(-outside);
    }
    let upper = log_tail(low);
    if high == f64::INFINITY {
        return upper;
    }
    // ln(1 − e^d), for d < 0.
    let d = log_tail(high) - upper;
    upper + if d > -std::f64::consts::LN_2 { libm::log(-libm::expm1(d)) } else { libm::log1p(-libm::exp(d)) }
}

/// `ln(1 − Φ(z))` for z ≥ 0.
fn log_tail(z: f64) -> f64 {
    if z < 20.0 {
        return libm::log(0.5 * libm::erfc(z / std::f64::consts::SQRT_2));
    }
    // Mills' ratio by its continued fraction, 1/(z + 1/(z + 2/(z + …))), which converges at once this far out.
    let mills = (1..=30).rev().fold(z, |rest, k| z + f64::from(k) / rest);
    -0.5 * z * z - 0.5 * libm::log(std::f64::consts::TAU) - libm::log(mills)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masses_of_all_levels_add_up_to_one() {
        let decoder = Decoder::Discretized(Quantization::bits(4).unwrap());
        for (mean, std) in [(0.0, 0.1), (-0.9, 0.01), (3.0, 0.5), (0.31, 2.0), (-40.0, 0.7)] {
            let sum: f64 = (0..16).map(|level| decoder.log_likelihood(0.0, Some(level), mean, std).exp()).sum();
            assert!((sum - 1.0).abs() < 1e-12, "{mean} {std}: {sum}");
        }
    }

    #[test]
    fn far_masses_are_right() {
        // ∫ φ over [a, b] by Simpson's rule in units of φ(a), against the logarithm.
        for (a, b) in
            [(0.5, 0.6), (5.0, 5.2), (19.0, 21.0), (30.0, 30.01), (100.0, 100.5), (-30.01, -30.0), (-0.1, 0.3)]
        {
            let (near, far) = if a < 0.0 && b < 0.0 { (-b, -a) } else { (a, b) };
            let n = 20_000;
            let h = (far - near) / f64::from(n);
            let f = |z: f64| (-0.5 * (z * z - near * near)).exp();
            let inner: f64 = (1..n).map(|i| f(near + f64::from(i) * h) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum();
            let integral = (f(near) + inner + f(far)) * h / 3.0;
            let expected = integral.ln() - 0.5 * near * near - 0.5 * std::f64::consts::TAU.ln();
            assert!(
                (log_mass(a, b) - expected).abs() < 1e-9 * expected.abs(),
                "{a} {b}: {} {expected}",
                log_mass(a, b)
            );
        }
        assert_eq!(log_mass(f64::NEG_INFINITY, f64::INFINITY), 0.0);
        assert!((log_tail(20.0 - 1e-9) - log_tail(20.0 + 1e-9)).abs() < 1e-7);
    }
}
