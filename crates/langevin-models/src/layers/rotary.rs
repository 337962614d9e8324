//! Positions told by rotating pairs of features.

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::norm::widen;

/// Rotations of the pairs of features of queries and keys, one angle for each token and pair.
///
/// The features of a head are divided among axes; on an axis with d features, pair i of a token at position p is rotated
/// by `p·10000^(-2i/d)`. Angles are computed in f64 on the host.
///
/// # References
///
/// Su et al. 2021, [arXiv:2104.09864](https://arxiv.org/abs/2104.09864), section 3.2.2.
///
/// # Example
///
/// ```
/// use burn::tensor::Tensor;
/// use langevin_models::layers::RotaryEmbedding;
///
/// # let device = burn::tensor::Device::flex();
/// let places = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]];
/// let rotary = RotaryEmbedding::new([4, 4], &places, &device);
/// let queries = Tensor::<4>::ones([1, 2, 3, 8], &device);
/// assert_eq!(rotary.rotate(queries).dims(), [1, 2, 3, 8]);
/// ```
#[derive(Debug, Clone)]
pub struct RotaryEmbedding {
    cosine: Tensor<5>,
    sine: Tensor<5>,
}

impl RotaryEmbedding {
    /// The rotations of tokens at `positions`, for heads of as many features as `axes` have together; each axis has an
    /// even number.
    #[must_use]
    pub fn new<const A: usize>(axes: [usize; A], positions: &[[f64; A]], device: &Device) -> Self {
        let pairs: usize = axes.iter().sum::<usize>() / 2;
        let mut cosine = Vec::with_capacity(positions.len() * pairs);
        let mut sine = Vec::with_capacity(positions.len() * pairs);
        for token in positions {
            for (position, width) in token.iter().zip(axes) {
                for i in 0..width / 2 {
                    let angle = position / 10_000f64.powf(2.0 * i as f64 / width as f64);
                    cosine.push(angle.cos() as f32);
                    sine.push(angle.sin() as f32);
                }
            }
        }
        let shape = [1, 1, positions.len(), pairs, 1];
        let tensor = |values| Tensor::from_data(TensorData::new(values, shape), (device, DType::F32));
        Self { cosine: tensor(cosine), sine: tensor(sine) }
    }

    /// Cosine and sine of the angle of each feature.
    ///
    /// # Shapes
    ///
    /// - output: `[tokens, features]`
    #[must_use]
    pub fn tables(&self) -> [Tensor<2>; 2] {
        [&self.cosine, &self.sine].map(|table| {
            let [_, _, tokens, pairs, _] = table.dims();
            table.clone().expand([1, 1, tokens, pairs, 2]).reshape([tokens, 2 * pairs])
        })
    }

    /// Rotates neighbouring features: 0 with 1, 2 with 3 and so on. Half precision is rotated in f32.
    ///
    /// # Shapes
    ///
    /// - input and output: `[batch, heads, tokens, features]`
    #[must_use]
    pub fn rotate(&self, x: Tensor<4>) -> Tensor<4> {
        let shape @ [batch, heads, tokens, features] = x.dims();
        let dtype = x.dtype();
        let pairs = widen(x).reshape([batch, heads, tokens, features / 2, 2]);
        let (a, b) = (pairs.clone().narrow(4, 0, 1), pairs.narrow(4, 1, 1));
        let cosine = self.cosine.clone().cast(a.dtype());
        let sine = self.sine.clone().cast(a.dtype());
        let first = a.clone() * cosine.clone() - b.clone() * sine.clone();
        let second = b * cosine + a * sine;
        Tensor::cat(vec![first, second], 4).reshape(shape).cast(dtype)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, flex, tensor, values};

    #[test]
    fn pairs_are_rotated_by_their_angles() {
        let device = flex();
        let positions = [[3.0, 0.0], [0.0, 7.0]];
        let x = tensor([1, 2, 2, 6], 0.4, &device);
        let angles = [[3.0, 0.0, 0.0], [0.0, 7.0, 7.0 / 100.0]];
        let expected: Vec<f64> = values(&x)
            .chunks(2)
            .enumerate()
            .flat_map(|(i, pair)| {
                let angle: f64 = angles[i / 3 % 2][i % 3];
                let (sine, cosine) = angle.sin_cos();
                [pair[0] * cosine - pair[1] * sine, pair[1] * cosine + pair[0] * sine]
            })
            .collect();
        let rotary = RotaryEmbedding::new([2, 4], &positions, &device);
        assert_close(&rotary.rotate(x), &expected, 1e-6);
        let [cosine, sine] = rotary.tables();
        let each = angles.iter().flatten().flat_map(|angle: &f64| [*angle; 2]);
        assert_close(&cosine, &each.clone().map(f64::cos).collect::<Vec<_>>(), 1e-6);
        assert_close(&sine, &each.map(f64::sin).collect::<Vec<_>>(), 1e-6);
    }

    #[test]
    fn scores_depend_on_distances_only() {
        let device = flex();
        let (q, k) = (tensor([1, 1, 1, 8], 0.2, &device), tensor([1, 1, 1, 8], 0.7, &device));
        let score = |at: f64, other: f64| {
            let rotated = |x: &Tensor<4>, p: f64| RotaryEmbedding::new([8], &[[p]], &device).rotate(x.clone());
            values(&(rotated(&q, at) * rotated(&k, other)).sum())[0]
        };
        assert!((score(5.0, 2.0) - score(103.0, 100.0)).abs() < 1e-5);
        assert!((score(5.0, 2.0) - score(5.0, 3.0)).abs() > 1e-3);
    }
}
