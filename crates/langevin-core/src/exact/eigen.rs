//! Eigenvalues of small symmetric matrices.

/// Eigenvalues and eigenvectors (columns, row-major) of a symmetric `[d, d]` matrix, by cyclic Jacobi rotations
/// (Golub & Van Loan, "Matrix Computations", section 8.5). To machine precision; cost O(d³) a sweep, few sweeps.
pub(super) fn symmetric(matrix: &[f64], d: usize) -> (Vec<f64>, Vec<f64>) {
    let mut a = matrix.to_vec();
    let mut q = vec![0.0; d * d];
    (0..d).for_each(|i| q[i * d + i] = 1.0);
    let norm = a.iter().map(|v| v * v).sum::<f64>().sqrt();
    // Convergence is quadratic: 10 sweeps are plenty for small matrices, 60 a bound that is never met.
    for _ in 0..60 {
        let off: f64 = (0..d).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a[i * d + j].powi(2)).sum();
        if !(off.sqrt() > f64::EPSILON * 1e-3 * norm) {
            break;
        }
        for p in 0..d {
            for r in p + 1..d {
                rotate(&mut a, &mut q, d, p, r);
            }
        }
    }
    ((0..d).map(|i| a[i * d + i]).collect(), q)
}

/// Makes entry (p, r) zero.
fn rotate(a: &mut [f64], q: &mut [f64], d: usize, p: usize, r: usize) {
    let entry = a[p * d + r];
    if entry == 0.0 {
        return;
    }
    let theta = (a[r * d + r] - a[p * d + p]) / (2.0 * entry);
    let t = 1.0 / (theta.abs() + (theta * theta + 1.0).sqrt()) * if theta < 0.0 { -1.0 } else { 1.0 };
    let c = 1.0 / (t * t + 1.0).sqrt();
    let s = t * c;
    for k in 0..d {
        let (x, y) = (a[k * d + p], a[k * d + r]);
        a[k * d + p] = c * x - s * y;
        a[k * d + r] = s * x + c * y;
    }
    for k in 0..d {
        let (x, y) = (a[p * d + k], a[r * d + k]);
        a[p * d + k] = c * x - s * y;
        a[r * d + k] = s * x + c * y;
    }
    for k in 0..d {
        let (x, y) = (q[k * d + p], q[k * d + r]);
        q[k * d + p] = c * x - s * y;
        q[k * d + r] = s * x + c * y;
    }
}

#[cfg(test)]
mod tests {
    use super::symmetric;

    #[test]
    fn eigenvalues_of_a_known_matrix() {
        // Second differences: eigenvalues 2 − 2·cos(kπ/5).
        let d = 4;
        let mut a = vec![0.0; d * d];
        for i in 0..d {
            a[i * d + i] = 2.0;
            if i + 1 < d {
                a[i * d + i + 1] = -1.0;
                a[(i + 1) * d + i] = -1.0;
            }
        }
        let (mut values, q) = symmetric(&a, d);
        for i in 0..d {
            for j in 0..d {
                let rebuilt: f64 = (0..d).map(|k| q[i * d + k] * values[k] * q[j * d + k]).sum();
                assert!((rebuilt - a[i * d + j]).abs() < 1e-14);
                let dot: f64 = (0..d).map(|k| q[k * d + i] * q[k * d + j]).sum();
                assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-14);
            }
        }
        values.sort_by(f64::total_cmp);
        for (k, value) in values.iter().enumerate() {
            let expected = 2.0 - 2.0 * ((k + 1) as f64 * std::f64::consts::PI / 5.0).cos();
            assert!((value - expected).abs() < 1e-14);
        }
    }
}
