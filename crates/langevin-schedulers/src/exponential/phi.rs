//! The functions that exponential integrators are made of.

/// `φ_k(z) = ∫_0^1 e^{z(1−v)} v^{k−1}/(k−1)! dv`, with `φ_0(z) = e^z`; limits at `z = −∞` included.
///
/// Hochbruck & Ostermann 2010, "Exponential integrators", eq. 2.10. Near zero by its series: the recursion
/// `φ_{k+1} = (φ_k − 1/k!)/z` would lose all digits there.
pub(crate) fn phi(k: usize, z: f64) -> f64 {
    if z.abs() <= 1.0 {
        // Σ z^j/(j + k)!
        let mut term = 1.0 / factorial(k);
        let mut sum = term;
        for j in 1..30 {
            term *= z / (j + k) as f64;
            sum += term;
        }
        return sum;
    }
    if k == 0 {
        return libm::exp(z);
    }
    (0..k).fold(libm::exp(z), |phi, j| (phi - 1.0 / factorial(j)) / z)
}

/// k!
pub(super) fn factorial(k: usize) -> f64 {
    (1..=k).map(|j| j as f64).product()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gauss-Legendre with three points on 400 intervals.
    fn integral(k: usize, z: f64) -> f64 {
        let f = |v: f64| (z * (1.0 - v)).exp() * v.powi(k as i32 - 1) / factorial(k - 1);
        let (node, n) = (0.6f64.sqrt(), 400);
        (0..n)
            .map(|i| {
                let (middle, half) = ((i as f64 + 0.5) / n as f64, 0.5 / n as f64);
                half * (5.0 * f(middle - node * half) + 8.0 * f(middle) + 5.0 * f(middle + node * half)) / 9.0
            })
            .sum()
    }

    #[test]
    fn they_are_their_integrals() {
        for z in [-30.0, -5.0, -1.001, -0.999, -1e-9, 0.0, 1e-3, 0.999, 1.001, 4.0] {
            for k in 1..6 {
                let (found, expected) = (phi(k, z), integral(k, z));
                assert!((found - expected).abs() < 1e-11 * expected.max(1e-3), "φ_{k}({z}) = {found}, not {expected}");
            }
            assert!((phi(0, z) - z.exp()).abs() <= 1e-14 * z.exp());
        }
    }

    #[test]
    fn they_have_limits() {
        for k in 0..5 {
            assert_eq!(phi(k, f64::NEG_INFINITY), 0.0);
        }
    }
}
