//! A table of vectors, one for each index.

use burn::module::{Module, Param};
use burn::tensor::{Device, Distribution, Int, Tensor};

use super::initial::random;
use crate::error::{ModelError, at_least_one};

/// Configuration of an [`Embedding`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbeddingConfig {
    /// Number of vectors.
    pub count: usize,
    /// Length of each vector.
    pub width: usize,
}

impl EmbeddingConfig {
    /// A table of `count` vectors of length `width`.
    #[must_use]
    pub fn new(count: usize, width: usize) -> Self {
        Self { count, width }
    }

    /// Makes the table, with standard normal entries.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if a size is zero.
    pub fn init(&self, device: &Device) -> Result<Embedding, ModelError> {
        at_least_one("count", self.count)?;
        at_least_one("width", self.width)?;
        Ok(Embedding { weight: random([self.count, self.width], Distribution::Normal(0.0, 1.0), device) })
    }
}

/// A table of vectors, one for each index. Made by [`EmbeddingConfig::init`].
#[derive(Module, Debug)]
pub struct Embedding {
    /// `[count, width]`
    pub weight: Param<Tensor<2>>,
}

impl Embedding {
    /// Looks the indices up. They must lie in `0..count`; networks check that on the host.
    ///
    /// # Shapes
    ///
    /// - input: `[batch]`
    /// - output: `[batch, width]`
    pub fn forward(&self, indices: Tensor<1, Int>) -> Tensor<2> {
        self.weight.val().select(0, indices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, flex, values};

    #[test]
    fn picks_rows() {
        let device = flex();
        let table = Embedding { weight: Param::from_data([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]], &device) };
        let indices = Tensor::<1, Int>::from_data([2, 0, 2], &device);
        assert_close(&table.forward(indices), &[4.0, 5.0, 0.0, 1.0, 4.0, 5.0], 0.0);
    }

    #[test]
    fn repeated_rows_add_their_gradients() {
        let device = flex().autodiff();
        let table = Embedding { weight: Param::from_data([[0.0], [2.0], [4.0]], &device) };
        let indices = Tensor::<1, Int>::from_data([2, 0, 2], &device);
        let gradients = table.forward(indices).sum().backward();
        let gradient = table.weight.grad(&gradients).unwrap();
        assert_close(&gradient, &[1.0, 0.0, 2.0], 0.0);
    }

    #[test]
    fn starts_standard_normal() {
        let table = EmbeddingConfig::new(400, 25).init(&flex()).unwrap();
        let data = values(&table.weight.val());
        let n = data.len() as f64;
        let mean = data.iter().sum::<f64>() / n;
        let variance = data.iter().map(|v| v * v).sum::<f64>() / n - mean * mean;
        assert!(mean.abs() < 0.05 && (variance - 1.0).abs() < 0.08, "{mean} {variance}");
    }

    #[test]
    fn refuses_empty_sizes() {
        for (count, width, name) in [(0, 2, "count"), (2, 0, "width")] {
            let error = EmbeddingConfig::new(count, width).init(&flex()).unwrap_err();
            assert!(matches!(error, ModelError::Config { field, .. } if field == name));
        }
    }
}
