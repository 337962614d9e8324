//! Products of matrices.

/// A matrix of `rows` by `columns` in a slice: the entry (i, j) lies at `i·down + j·across`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Distance between rows.
    pub(crate) down: usize,
    /// Distance between columns.
    pub(crate) across: usize,
}

impl<'a> Matrix<'a> {
    /// Rows one after the other.
    pub(crate) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self { values, rows, columns, down: columns, across: 1 }
    }

    /// Rows at a distance of `down`.
    pub(crate) fn spaced(values: &'a [f32], rows: usize, columns: usize, down: usize) -> Self {
        Self { values, rows, columns, down, across: 1 }
    }

    /// Rows for columns.
    pub(crate) fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, down: self.across, across: self.down, ..self }
    }
}

/// Entries of a slice that a matrix of these sizes reaches.
fn reach(rows: usize, columns: usize, down: usize, across: usize) -> usize {
    if rows == 0 || columns == 0 { 0 } else { (rows - 1) * down + (columns - 1) * across + 1 }
}

/// How the product meets what is in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Into {
    /// Replaces it.
    Place,
    /// Is added to it.
    Sum,
}

/// `out = scale·a·b`, or added to `out`; the rows of `out` lie `down` apart. On the thread that asks.
///
/// # Panics
///
/// If the sizes do not belong together, or a slice is too short for its sizes.
pub(crate) fn product(a: Matrix<'_>, b: Matrix<'_>, scale: f32, into: Into, out: &mut [f32], down: usize) {
    multiply(a, b, scale, into, out, down, gemm::Parallelism::None);
}

/// [`product`], shared among the threads of the pool where it is large enough.
pub(crate) fn product_on_threads(a: Matrix<'_>, b: Matrix<'_>, scale: f32, into: Into, out: &mut [f32], down: usize) {
    multiply(a, b, scale, into, out, down, gemm::Parallelism::Rayon(rayon::current_num_threads()));
}

fn multiply(
    a: Matrix<'_>,
    b: Matrix<'_>,
    scale: f32,
    into: Into,
    out: &mut [f32],
    down: usize,
    threads: gemm::Parallelism,
) {
    assert_eq!(a.columns, b.rows, "columns of a factor and rows of the other");
    assert!(a.values.len() >= reach(a.rows, a.columns, a.down, a.across), "the first factor is too short");
    assert!(b.values.len() >= reach(b.rows, b.columns, b.down, b.across), "the second factor is too short");
    assert!(out.len() >= reach(a.rows, b.columns, down, 1), "the product is too short");
    assert!(down >= b.columns, "rows of the product overlap");
    let stride = |n: usize| isize::try_from(n).expect("a stride within the address space");
    // The kernel takes what was there times the first factor, the product times the second.
    let keep = if into == Into::Sum { 1.0 } else { 0.0 };
    // SAFETY: the three slices hold every entry that the sizes and strides reach (asserted above), `out` is borrowed
    // mutably and so overlaps neither factor, and no two entries of `out` share a place (`down >= columns`, asserted).
    #[expect(unsafe_code, reason = "the crate of matrix products takes pointers")]
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            out.as_mut_ptr(),
            1,
            stride(down),
            into == Into::Sum,
            a.values.as_ptr(),
            stride(a.across),
            stride(a.down),
            b.values.as_ptr(),
            stride(b.across),
            stride(b.down),
            keep,
            scale,
            false,
            false,
            false,
            threads,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

    #[test]
    fn agrees_with_the_definition() {
        for (m, k, n) in [(1, 1, 1), (3, 5, 2), (17, 33, 9), (40, 7, 65), (2, 0, 3)] {
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
            for into in [Into::Place, Into::Sum] {
                for flipped in [false, true] {
                    let first = if flipped { Matrix::new(&a, k, m).transposed() } else { Matrix::new(&a, m, k) };
                    let second = if flipped { Matrix::new(&b, n, k).transposed() } else { Matrix::new(&b, k, n) };
                    let down = n + 3;
                    let before = numbers(m * down, 3);
                    let mut out = before.clone();
                    product(first, second, 0.5, into, &mut out, down);
                    for i in 0..m {
                        for j in 0..down {
                            let was = before[i * down + j];
                            let sum: f64 = (0..k)
                                .map(|l| {
                                    let x = if flipped { a[l * m + i] } else { a[i * k + l] };
                                    let y = if flipped { b[j.min(n - 1) * k + l] } else { b[l * n + j.min(n - 1)] };
                                    f64::from(x) * f64::from(y)
                                })
                                .sum();
                            let base = if into == Into::Sum { f64::from(was) } else { 0.0 };
                            let expected = if j < n { base + 0.5 * sum } else { f64::from(was) };
                            assert!((f64::from(out[i * down + j]) - expected).abs() < 1e-5, "{m} {k} {n}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "too short")]
    fn refuses_short_slices() {
        product(Matrix::new(&[1.0; 5], 2, 3), Matrix::new(&[1.0; 6], 3, 2), 1.0, Into::Place, &mut [0.0; 4], 2);
    }
}
