//! Singular value decompositions of small matrices.

/// `A·V = U·S` for a row-major `[rows, columns]` matrix.
pub(super) struct Decomposed {
    /// V, `[columns, columns]`, orthogonal.
    pub v: Vec<f64>,
    /// U, `[rows, columns]`: a column of zeros where the singular value is 0.
    pub u: Vec<f64>,
    /// One singular value for each column.
    pub s: Vec<f64>,
}

/// By one-sided Jacobi rotations (Hestenes 1958; Golub & Van Loan, "Matrix Computations", section 8.6.3), which keep small
/// singular values as precise as large ones. Cost O(rows·columns²) a sweep, few sweeps.
pub(super) fn decompose(a: &[f64], rows: usize, columns: usize) -> Decomposed {
    let mut u = a.to_vec();
    let mut v = vec![0.0; columns * columns];
    (0..columns).for_each(|i| v[i * columns + i] = 1.0);
    let norm = a.iter().map(|x| x * x).sum::<f64>().sqrt();
    // Convergence is quadratic: 10 sweeps are plenty, 60 a bound that is never met.
    for _ in 0..60 {
        let mut rotated = false;
        for p in 0..columns {
            for q in p + 1..columns {
                rotated |= rotate(&mut u, &mut v, (rows, columns), (p, q), norm);
            }
        }
        if !rotated {
            break;
        }
    }
    let column = |j: usize| (0..rows).map(move |i| i * columns + j);
    let s: Vec<f64> = (0..columns).map(|j| column(j).map(|at| u[at] * u[at]).sum::<f64>().sqrt()).collect();
    // What is left of a column by rounding is none.
    let least = norm * f64::EPSILON * (rows.max(columns) as f64);
    let s: Vec<f64> = s.into_iter().map(|s| if s > least { s } else { 0.0 }).collect();
    for (j, s) in s.iter().enumerate() {
        column(j).for_each(|at| u[at] = if *s > 0.0 { u[at] / s } else { 0.0 });
    }
    Decomposed { v, u, s }
}

/// Makes columns p and q orthogonal; false if they were.
fn rotate(u: &mut [f64], v: &mut [f64], (rows, columns): (usize, usize), (p, q): (usize, usize), norm: f64) -> bool {
    let (mut alpha, mut beta, mut gamma) = (0.0, 0.0, 0.0);
    for row in u.chunks(columns) {
        alpha += row[p] * row[p];
        beta += row[q] * row[q];
        gamma += row[p] * row[q];
    }
    let small = (alpha * beta).sqrt().max(norm * norm * f64::EPSILON * f64::EPSILON);
    if !(gamma.abs() > f64::EPSILON * small) {
        return false;
    }
    let zeta = (beta - alpha) / (2.0 * gamma);
    let t = 1.0 / (zeta.abs() + (1.0 + zeta * zeta).sqrt()) * if zeta < 0.0 { -1.0 } else { 1.0 };
    let c = 1.0 / (1.0 + t * t).sqrt();
    let s = c * t;
    for (matrix, height) in [(u, rows), (v, columns)] {
        for i in 0..height {
            let (x, y) = (matrix[i * columns + p], matrix[i * columns + q]);
            matrix[i * columns + p] = c * x - s * y;
            matrix[i * columns + q] = s * x + c * y;
        }
    }
    true
}
