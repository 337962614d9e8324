//! Quantiles of the Beta distribution.

/// The number x at which the distribution function of Beta(a, b) is `p`, for p in `[0, 1]`, by bisection to the last bit.
pub(super) fn quantile(p: f64, a: f64, b: f64) -> f64 {
    if p <= 0.0 || p >= 1.0 {
        return p.clamp(0.0, 1.0);
    }
    let (mut low, mut high) = (0.0, 1.0);
    loop {
        let middle = 0.5 * (low + high);
        if !(middle > low && middle < high) {
            return middle;
        }
        if distribution(middle, a, b) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
}

/// The regularized incomplete beta function I_x(a, b) for x in (0, 1).
fn distribution(x: f64, a: f64, b: f64) -> f64 {
    let ln_front = a * libm::log(x) + b * libm::log1p(-x) + libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b);
    // The fraction converges fast below the mean; above it the symmetric form takes over.
    if x < (a + 1.0) / (a + b + 2.0) {
        libm::exp(ln_front) * continued_fraction(x, a, b) / a
    } else {
        1.0 - libm::exp(ln_front) * continued_fraction(1.0 - x, b, a) / b
    }
}

/// The continued fraction of the incomplete beta function (Abramowitz & Stegun 26.5.8), by Lentz's method.
fn continued_fraction(x: f64, a: f64, b: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let away = |v: f64| if v.abs() < TINY { TINY } else { v };
    let mut c = 1.0;
    let mut d = 1.0 / away(1.0 - (a + b) * x / (a + 1.0));
    let mut value = d;
    // Some √max(a, b) terms are needed; parameters are at most 1000.
    for m in 1..1000 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let before = value;
        for term in [even, odd] {
            d = 1.0 / away(1.0 + term * d);
            c = away(1.0 + term / c);
            value *= c * d;
        }
        if (value - before).abs() <= 1e-16 * value.abs() {
            break;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_forms() {
        for p in [1e-6, 0.01, 0.3, 0.5, 0.77, 0.999] {
            assert!((quantile(p, 1.0, 1.0) - p).abs() < 1e-14, "uniform at {p}");
            assert!((quantile(p, 2.5, 1.0) - p.powf(0.4)).abs() < 1e-13, "power at {p}");
            let mirrored = -((1.0 - p).ln() / 3.0).exp_m1();
            assert!((quantile(p, 1.0, 3.0) - mirrored).abs() < 1e-13, "mirrored power at {p}");
            let arcsine = (std::f64::consts::FRAC_PI_2 * p).sin().powi(2);
            assert!((quantile(p, 0.5, 0.5) - arcsine).abs() < 1e-13, "arcsine at {p}");
        }
    }

    #[test]
    fn integer_parameters_are_binomial_sums() {
        // I_x(3, 5) = Σ_{j ≥ 3} C(7, j) x^j (1 − x)^(7 − j).
        let binomial = [1.0, 7.0, 21.0, 35.0, 35.0, 21.0, 7.0, 1.0];
        for x in [0.05f64, 0.3, 0.5, 0.8, 0.95] {
            let sum: f64 = (3..8).map(|j| binomial[j] * x.powi(j as i32) * (1.0 - x).powi(7 - j as i32)).sum();
            assert!((distribution(x, 3.0, 5.0) - sum).abs() < 1e-14, "{x}");
        }
    }

    #[test]
    fn quantiles_invert_the_distribution_over_the_whole_parameter_range() {
        for (a, b) in [(0.6, 0.6), (0.01, 3.0), (1000.0, 1000.0), (1000.0, 0.5), (20.0, 700.0)] {
            for p in [0.1, 0.5, 0.9] {
                let x = quantile(p, a, b);
                // The distribution may rise by more than this between neighboring numbers close to 1.
                assert!((distribution(x, a, b) - p).abs() < 1e-7, "Beta({a}, {b}) at {p}: {x}");
            }
            assert_eq!((quantile(0.0, a, b), quantile(1.0, a, b)), (0.0, 1.0));
        }
        assert!((quantile(0.5, 1000.0, 1000.0) - 0.5).abs() < 1e-12);
    }
}
