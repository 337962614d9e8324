//! Quantiles of Student's t distribution.

/// The value that a t variable with `freedom` degrees of freedom stays below with probability `p` in (1/2, 1).
pub(super) fn quantile(p: f64, freedom: f64) -> f64 {
    let mut high = 1.0;
    while tail(high, freedom) > 1.0 - p {
        high *= 2.0;
    }
    let mut low = 0.0;
    // Bisection: the tail falls steadily.
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            break;
        }
        if tail(middle, freedom) > 1.0 - p { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// `P(T > t)` for t ≥ 0: half the regularized incomplete beta function `I_x(ν/2, 1/2)` at `x = ν/(ν + t²)`.
fn tail(t: f64, freedom: f64) -> f64 {
    let x = freedom / (freedom + t * t);
    0.5 * incomplete_beta(x, 0.5 * freedom, 0.5)
}

/// `I_x(a, b)` by its continued fraction (Abramowitz & Stegun 1964, 26.5.8), which converges fast below the mean.
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(1.0 - x, b, a);
    }
    let log_front = libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b) + a * libm::log(x) + b * libm::log1p(-x);
    // 1/(1 + d_1/(1 + d_2/(1 + …))), from the inside: 300 terms are more than double precision can see.
    let mut fraction = 1.0;
    for m in (0..300).rev() {
        let m = f64::from(m);
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let even = (m + 1.0) * (b - m - 1.0) * x / ((a + 2.0 * m + 1.0) * (a + 2.0 * m + 2.0));
        fraction = 1.0 + odd / (1.0 + even / fraction);
    }
    libm::exp(log_front) / a / fraction
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        // One degree of freedom is Cauchy's distribution, two have a closed form; the others are from published tables.
        for p in [0.6, 0.9, 0.975, 0.9995] {
            let cauchy = (std::f64::consts::PI * (p - 0.5)).tan();
            assert!((quantile(p, 1.0) / cauchy - 1.0).abs() < 1e-10);
            let two = (2.0 * p - 1.0) / (2.0 * p * (1.0 - p)).sqrt();
            assert!((quantile(p, 2.0) / two - 1.0).abs() < 1e-10);
        }
        for (freedom, expected) in [(3.0, 3.182446305), (7.0, 2.364624252), (15.0, 2.131449546), (30.0, 2.042272456)] {
            assert!((quantile(0.975, freedom) - expected).abs() < 1e-8, "{freedom}");
        }
        assert!((quantile(0.975, 1e6) - 1.959966).abs() < 1e-5);
    }
}
