//! Linear maps along one axis, with their decompositions, on the host.

use super::jacobi;
use std::f64::consts::TAU;

/// A row-major `[rows, columns]` matrix `A = U·diag(s)·Vᵀ`.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub rows: usize,
    pub columns: usize,
    pub a: Vec<f64>,
    /// `[columns, columns]`, orthogonal.
    pub v: Vec<f64>,
    /// `[rows, columns]`.
    pub u: Vec<f64>,
    pub s: Vec<f64>,
}

impl Axis {
    /// Convolution of a circle of `n` values with a kernel of odd length, whose middle is the value itself.
    ///
    /// The Fourier basis of cosines and sines is that of V: a convolution multiplies the frequency k by the kernel's
    /// `ĥ_k = |ĥ_k|·exp(iθ)`, so it scales both by `|ĥ_k|`, the singular value, and shifts them by θ, which gives U.
    pub fn circulant(n: usize, kernel: &[f64]) -> Self {
        let middle = kernel.len() / 2;
        let mut axis = Self {
            rows: n,
            columns: n,
            a: vec![0.0; n * n],
            v: vec![0.0; n * n],
            u: vec![0.0; n * n],
            s: vec![0.0; n],
        };
        for i in 0..n {
            for (j, h) in kernel.iter().enumerate() {
                axis.a[i * n + (i + n + middle - j) % n] += h;
            }
        }
        // Frequencies 0, 1, 1, 2, 2, …, and n/2 once if n is even: the cosine first, then the sine.
        for column in 0..n {
            let k = column.div_ceil(2);
            let sine = column > 0 && column.is_multiple_of(2);
            let angle = |position: usize| TAU * ((position * k) % n) as f64 / n as f64;
            let (mut re, mut im) = (0.0, 0.0);
            for (j, h) in kernel.iter().enumerate() {
                // The value at distance j − middle, counted round the circle.
                let turn = angle((j + n - middle) % n);
                re += h * libm::cos(turn);
                im -= h * libm::sin(turn);
            }
            let theta = libm::atan2(im, re);
            axis.s[column] = libm::hypot(re, im);
            let alone = k == 0 || 2 * k == n;
            let height = (if alone { 1.0 } else { 2.0 } / n as f64).sqrt();
            let wave = if sine { libm::sin } else { libm::cos };
            for i in 0..n {
                axis.v[i * n + column] = height * wave(angle(i));
                axis.u[i * n + column] = height * wave(angle(i) + theta);
            }
        }
        axis
    }

    /// Means of blocks of `factor` neighbors among `n` values.
    ///
    /// All blocks are alike: one row of 1/factor, whose singular value is 1/√factor, and whose V is any orthogonal matrix
    /// that begins with a constant, here the cosines of the DCT-II.
    pub fn means(n: usize, factor: usize) -> Self {
        let rows = n / factor;
        let mut axis = Self {
            rows,
            columns: n,
            a: vec![0.0; rows * n],
            v: vec![0.0; n * n],
            u: vec![0.0; rows * n],
            s: vec![0.0; n],
        };
        let f = factor as f64;
        for block in 0..rows {
            let first = block * factor;
            axis.s[first] = 1.0 / f.sqrt();
            axis.u[block * n + first] = 1.0;
            for i in 0..factor {
                axis.a[block * n + first + i] = 1.0 / f;
                for k in 0..factor {
                    let height = (if k == 0 { 1.0 } else { 2.0 } / f).sqrt();
                    let turn = TAU * ((2 * i + 1) * k) as f64 / (4.0 * f);
                    axis.v[(first + i) * n + first + k] = height * libm::cos(turn);
                }
            }
        }
        axis
    }

    /// Any matrix.
    pub fn matrix(rows: usize, columns: usize, a: Vec<f64>) -> Self {
        let jacobi::Decomposed { v, u, s } = jacobi::decompose(&a, rows, columns);
        Self { rows, columns, a, v, u, s }
    }
}
