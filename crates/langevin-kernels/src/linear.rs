//! Affine maps of rows, `y = x·Wᵀ + b`, and their gradients.

use rayon::prelude::*;

use crate::product::{Matrix, Write, product_on_threads};

/// Sizes of an affine map.
///
/// # Example
///
/// ```
/// use langevin_kernels::linear::LinearSizes;
///
/// let sizes = LinearSizes { rows: 1, input: 2, output: 1 };
/// let mut y = [0.0];
/// sizes.forward(&[1.0, 2.0], &[3.0, 4.0], Some(&[0.5]), &mut y);
/// assert_eq!(y, [11.5]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinearSizes {
    /// Rows of numbers that are mapped.
    pub rows: usize,
    /// Numbers of a row.
    pub input: usize,
    /// Numbers of a row of the results.
    pub output: usize,
}

impl LinearSizes {
    fn check(&self, x: &[f32], weight: &[f32], y: &[f32]) {
        assert!(![self.rows, self.input, self.output].contains(&0), "a size is zero: {self:?}");
        assert_eq!(x.len(), self.rows * self.input, "rows of {self:?}");
        assert_eq!(weight.len(), self.output * self.input, "weights of {self:?}");
        assert_eq!(y.len(), self.rows * self.output, "results of {self:?}");
    }

    /// Writes `x·Wᵀ + b` to `y`.
    ///
    /// # Shapes
    ///
    /// - x: `[rows, input]`
    /// - weight: `[output, input]`
    /// - bias: `[output]`
    /// - y: `[rows, output]`
    ///
    /// # Panics
    ///
    /// If a slice has another length than these, or a size is zero.
    pub fn forward(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
        self.check(x, weight, y);
        let (x, weight) = (Matrix::new(x, self.rows, self.input), Matrix::new(weight, self.output, self.input));
        let write = match bias {
            Some(bias) => {
                y.par_chunks_mut(self.output).with_min_len(64).for_each(|y| y.copy_from_slice(bias));
                Write::Add
            }
            None => Write::Over,
        };
        product_on_threads(x, weight.transposed(), 1.0, write, y, self.output);
    }

    /// Writes the gradient with respect to `x`, given that with respect to the results. Shapes are those of
    /// [`forward`](Self::forward).
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward) does.
    pub fn input_gradient(&self, gradient: &[f32], weight: &[f32], of_x: &mut [f32]) {
        self.check(of_x, weight, gradient);
        let gradient = Matrix::new(gradient, self.rows, self.output);
        let weight = Matrix::new(weight, self.output, self.input);
        product_on_threads(gradient, weight, 1.0, Write::Over, of_x, self.input);
    }

    /// Writes the gradient with respect to the weight, given that with respect to the results. Shapes are those of
    /// [`forward`](Self::forward).
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward) does.
    pub fn weight_gradient(&self, x: &[f32], gradient: &[f32], of_weight: &mut [f32]) {
        self.check(x, of_weight, gradient);
        let gradient = Matrix::new(gradient, self.rows, self.output);
        let x = Matrix::new(x, self.rows, self.input);
        product_on_threads(gradient.transposed(), x, 1.0, Write::Over, of_weight, self.input);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, numbers};

    #[test]
    fn values_and_gradients_agree_with_the_definition() {
        for (rows, input, output) in [(1, 1, 1), (3, 5, 2), (130, 33, 70), (2, 300, 1)] {
            let s = LinearSizes { rows, input, output };
            let (x, w) = (numbers(rows * input, 1), numbers(output * input, 2));
            let (b, g) = (numbers(output, 3), numbers(rows * output, 4));
            let wide = |x: &[f32], at: usize| f64::from(x[at]);
            let sum = |range: usize, f: &dyn Fn(usize) -> f64| (0..range).map(f).sum::<f64>();
            let every = |rows: usize, columns: usize, f: &dyn Fn(usize, usize) -> f64| -> Vec<f64> {
                (0..rows * columns).map(|at| f(at / columns, at % columns)).collect()
            };
            let plain = every(rows, output, &|r, o| sum(input, &|i| wide(&x, r * input + i) * wide(&w, o * input + i)));
            let mut given = vec![f32::NAN; rows * output];
            s.forward(&x, &w, None, &mut given);
            assert_close(&given, &plain, 2e-6);
            s.forward(&x, &w, Some(&b), &mut given);
            let shifted: Vec<f64> = plain.iter().enumerate().map(|(at, y)| y + wide(&b, at % output)).collect();
            assert_close(&given, &shifted, 2e-6);
            let mut given = vec![f32::NAN; rows * input];
            s.input_gradient(&g, &w, &mut given);
            let of_x = |r, i| sum(output, &|o| wide(&g, r * output + o) * wide(&w, o * input + i));
            assert_close(&given, &every(rows, input, &of_x), 2e-6);
            let mut given = vec![f32::NAN; output * input];
            s.weight_gradient(&x, &g, &mut given);
            let of_w = |o, i| sum(rows, &|r| wide(&g, r * output + o) * wide(&x, r * input + i));
            assert_close(&given, &every(output, input, &of_w), 2e-6);
        }
    }
}
