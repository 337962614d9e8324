//! Layer normalization whose scale and shift are computed from an embedding of time and condition.
//!
//! All have a `linear` layer from the embedding to scales, shifts and gates, and a `norm` without parameters. They differ
//! in how many vectors they make, and so in what they return.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};

use super::{Activation, LayerNorm, LayerNormConfig, Linear, LinearConfig, TimestepLabelEmbedding};
use crate::error::{ModelError, at_least_one};
use crate::tap::Tap;

/// `x·(1 + scale) + shift`.
///
/// # Shapes
///
/// - x and output: `[batch, tokens, width]`
/// - shift and scale: `[batch, 1, width]`
pub fn modulate(x: Tensor<3>, shift: Tensor<3>, scale: Tensor<3>) -> Tensor<3> {
    x * (scale + 1.0) + shift
}

/// The layers that `count` vectors of an embedding need.
fn layers(width: usize, count: usize, device: &Device) -> Result<(Linear, LayerNorm), ModelError> {
    at_least_one("width", width)?;
    let linear = LinearConfig::new(width, count * width).init(device)?;
    Ok((linear, LayerNormConfig::new(width).epsilon(1e-6).plain().init(device)?))
}

/// The vectors `[batch, 1, width]` that a layer makes of an embedding, and the normalized input.
struct Parts {
    all: Tensor<2>,
    x: Tensor<3>,
}

impl Parts {
    fn new(linear: &Linear, norm: &LayerNorm, x: Tensor<3>, embedding: Tensor<2>, tap: &mut Tap<'_>) -> Self {
        let h = Activation::Silu.forward(embedding);
        tap.see("silu", &h);
        let all = linear.forward(h);
        tap.see("linear", &all);
        let x = norm.forward(x);
        tap.see("norm", &x);
        Self { all, x }
    }

    fn flat(&self, i: usize) -> Tensor<2> {
        let [_, _, width] = self.x.dims();
        self.all.clone().narrow(1, i * width, width)
    }

    fn row(&self, i: usize) -> Tensor<3> {
        self.flat(i).unsqueeze_dim(1)
    }

    fn modulated(&self, shift: usize, scale: usize) -> Tensor<3> {
        modulate(self.x.clone(), self.row(shift), self.row(scale))
    }

    /// The first three vectors for attention and the next three for the feed-forward layers.
    fn zero(&self, tap: &mut Tap<'_>) -> (Tensor<3>, Gates) {
        let x = self.modulated(0, 1);
        tap.see(0, &x);
        for place in 1..=4 {
            tap.see(place, &self.flat(place + 1));
        }
        let gates = Gates { attention: self.row(2), shift: self.row(3), scale: self.row(4), feed_forward: self.row(5) };
        (x, gates)
    }
}

/// What a block applies itself: vectors `[batch, 1, width]`.
#[derive(Debug, Clone)]
pub struct Gates {
    /// Factor of what attention returns.
    pub attention: Tensor<3>,
    /// Shift of the input of the feed-forward layers.
    pub shift: Tensor<3>,
    /// Scale of the input of the feed-forward layers, less one.
    pub scale: Tensor<3>,
    /// Factor of what the feed-forward layers return.
    pub feed_forward: Tensor<3>,
}

/// Shift and scale for attention, and [`Gates`] for the rest of the block: AdaLN-zero.
///
/// # References
///
/// Peebles, Xie 2022, [arXiv:2212.09748](https://arxiv.org/abs/2212.09748), section 3.2.
///
/// # Example
///
/// ```
/// use burn::tensor::Tensor;
/// use langevin_models::Tap;
/// use langevin_models::layers::AdaLayerNormZero;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let norm = AdaLayerNormZero::new(64, &device)?;
/// let (x, embedding) = (Tensor::ones([2, 16, 64], &device), Tensor::ones([2, 64], &device));
/// let (y, gates) = norm.forward(x, embedding, &mut Tap::none());
/// assert_eq!((y.dims(), gates.attention.dims()), ([2, 16, 64], [2, 1, 64]));
/// # Ok(()) }
/// ```
#[derive(Module, Debug)]
pub struct AdaLayerNormZero {
    /// From the embedding to six vectors.
    pub linear: Linear,
    /// The normalization.
    pub norm: LayerNorm,
}

impl AdaLayerNormZero {
    /// A layer for a last axis of `width` entries.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if the width is zero.
    pub fn new(width: usize, device: &Device) -> Result<Self, ModelError> {
        let (linear, norm) = layers(width, 6, device)?;
        Ok(Self { linear, norm })
    }

    /// The input of attention, and the gates.
    ///
    /// # Shapes
    ///
    /// - x and output: `[batch, tokens, width]`
    /// - embedding: `[batch, width]`
    pub fn forward(&self, x: Tensor<3>, embedding: Tensor<2>, tap: &mut Tap<'_>) -> (Tensor<3>, Gates) {
        Parts::new(&self.linear, &self.norm, x, embedding, tap).zero(tap)
    }
}

/// An [`AdaLayerNormZero`] with an embedding of time and class of its own, as in the blocks of DiT.
#[derive(Module, Debug)]
pub struct AdaLayerNormLabels {
    /// Embedding of time and class.
    pub emb: TimestepLabelEmbedding,
    /// From the embedding to six vectors.
    pub linear: Linear,
    /// The normalization.
    pub norm: LayerNorm,
}

impl AdaLayerNormLabels {
    /// A layer for a last axis of `width` entries and `classes` classes.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if a size is zero.
    pub fn new(width: usize, classes: usize, device: &Device) -> Result<Self, ModelError> {
        let (linear, norm) = layers(width, 6, device)?;
        Ok(Self { emb: TimestepLabelEmbedding::new(classes, width, device)?, linear, norm })
    }

    /// The input of attention and the gates; and the embedding.
    ///
    /// # Shapes
    ///
    /// - x and output: `[batch, tokens, width]`
    /// - time and class: `[batch]`
    /// - embedding: `[batch, width]`
    pub fn forward(
        &self,
        x: Tensor<3>,
        time: Tensor<1>,
        class: Tensor<1, Int>,
        tap: &mut Tap<'_>,
    ) -> (Tensor<3>, Gates, Tensor<2>) {
        let embedding = tap.scope("emb", |tap| self.emb.forward(time, class, tap));
        let (y, gates) = Parts::new(&self.linear, &self.norm, x, embedding.clone(), tap).zero(tap);
        (y, gates, embedding)
    }
}

/// An [`AdaLayerNormZero`] with three more vectors, for a second attention: Stable Diffusion 3.5.
#[derive(Module, Debug)]
pub struct AdaLayerNormDual {
    /// From the embedding to nine vectors.
    pub linear: Linear,
    /// The normalization.
    pub norm: LayerNorm,
}

impl AdaLayerNormDual {
    /// A layer for a last axis of `width` entries.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if the width is zero.
    pub fn new(width: usize, device: &Device) -> Result<Self, ModelError> {
        let (linear, norm) = layers(width, 9, device)?;
        Ok(Self { linear, norm })
    }

    /// The input of attention and the gates; and the input of the second attention and the factor of what it returns.
    ///
    /// # Shapes
    ///
    /// - x and outputs: `[batch, tokens, width]`
    /// - embedding: `[batch, width]`
    pub fn forward(&self, x: Tensor<3>, embedding: Tensor<2>, tap: &mut Tap<'_>) -> (Tensor<3>, Gates, [Tensor<3>; 2]) {
        let parts = Parts::new(&self.linear, &self.norm, x, embedding, tap);
        let (y, gates) = parts.zero(tap);
        let second = parts.modulated(6, 7);
        tap.see(5, &second);
        tap.see(6, &parts.flat(8));
        (y, gates, [second, parts.row(8)])
    }
}

/// Shift, scale and gate, for blocks whose attention and feed-forward layers run side by side.
#[derive(Module, Debug)]
pub struct AdaLayerNormSingle {
    /// From the embedding to three vectors.
    pub linear: Linear,
    /// The normalization.
    pub norm: LayerNorm,
}

impl AdaLayerNormSingle {
    /// A layer for a last axis of `width` entries.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if the width is zero.
    pub fn new(width: usize, device: &Device) -> Result<Self, ModelError> {
        let (linear, norm) = layers(width, 3, device)?;
        Ok(Self { linear, norm })
    }

    /// The input of the block's layers, and the factor `[batch, 1, width]` of what they return.
    ///
    /// # Shapes
    ///
    /// - x and output: `[batch, tokens, width]`
    /// - embedding: `[batch, width]`
    pub fn forward(&self, x: Tensor<3>, embedding: Tensor<2>, tap: &mut Tap<'_>) -> (Tensor<3>, Tensor<3>) {
        let parts = Parts::new(&self.linear, &self.norm, x, embedding, tap);
        let y = parts.modulated(0, 1);
        tap.see(0, &y);
        tap.see(1, &parts.flat(2));
        (y, parts.row(2))
    }
}

/// Scale and shift, as before the output of a network.
#[derive(Module, Debug)]
pub struct AdaLayerNormContinuous {
    /// From the embedding to two vectors, the scale first.
    pub linear: Linear,
    /// The normalization.
    pub norm: LayerNorm,
}

impl AdaLayerNormContinuous {
    /// A layer for a last axis of `width` entries.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if the width is zero.
    pub fn new(width: usize, device: &Device) -> Result<Self, ModelError> {
        let (linear, norm) = layers(width, 2, device)?;
        Ok(Self { linear, norm })
    }

    /// Normalizes.
    ///
    /// # Shapes
    ///
    /// - x and output: `[batch, tokens, width]`
    /// - embedding: `[batch, width]`
    pub fn forward(&self, x: Tensor<3>, embedding: Tensor<2>, tap: &mut Tap<'_>) -> Tensor<3> {
        let parts = Parts::new(&self.linear, &self.norm, x, embedding, tap);
        let y = parts.modulated(1, 0);
        tap.see("", &y);
        y
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tap::Tapped;
    use crate::testing::{assert_close, flex, tensor, values};

    const WIDTH: usize = 6;

    /// The vectors of one sample by hand, and the normalized rows.
    struct ByHand {
        rows: Vec<Vec<f64>>,
        normed: Vec<f64>,
    }

    impl ByHand {
        fn new(linear: &Linear, x: &Tensor<3>, embedding: &Tensor<2>) -> Self {
            let weight = values(&linear.weight.val());
            let bias = values(&linear.bias.as_ref().unwrap().val());
            let silu: Vec<f64> = values(embedding).iter().map(|v| v / (1.0 + (-v).exp())).collect();
            let dot = |row: &[f64]| row.iter().zip(&silu).map(|(w, v)| w * v).sum::<f64>();
            let all: Vec<f64> = weight.chunks(WIDTH).zip(bias).map(|(row, b)| dot(row) + b).collect();
            let x = values(x);
            let normed = x.chunks(WIDTH).flat_map(|row| {
                let mean = row.iter().sum::<f64>() / WIDTH as f64;
                let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / WIDTH as f64;
                row.iter().map(|v| (v - mean) / (variance + 1e-6).sqrt()).collect::<Vec<_>>()
            });
            Self { rows: all.chunks(WIDTH).map(<[f64]>::to_vec).collect(), normed: normed.collect() }
        }

        fn scaled(&self, shift: usize, scale: usize) -> Vec<f64> {
            let [shift, scale] = [shift, scale].map(|i| &self.rows[i]);
            self.normed.iter().enumerate().map(|(i, v)| v * (1.0 + scale[i % WIDTH]) + shift[i % WIDTH]).collect()
        }

        fn check(&self, y: &Tensor<3>, gates: &Gates) {
            assert_close(y, &self.scaled(0, 1), 2e-5);
            let gates = [&gates.attention, &gates.shift, &gates.scale, &gates.feed_forward];
            for (gate, row) in gates.into_iter().zip(&self.rows[2..]) {
                assert_eq!(gate.dims(), [1, 1, WIDTH]);
                assert_close(gate, row, 1e-5);
            }
        }
    }

    fn inputs() -> (Tensor<3>, Tensor<2>) {
        (tensor([1, 3, WIDTH], 0.3, &flex()) * 2.0, tensor([1, WIDTH], 0.8, &flex()))
    }

    #[test]
    fn zero_agrees_with_the_definition() {
        let (x, embedding) = inputs();
        let layer = AdaLayerNormZero::new(WIDTH, &flex()).unwrap();
        let (y, gates) = layer.forward(x.clone(), embedding.clone(), &mut Tap::none());
        ByHand::new(&layer.linear, &x, &embedding).check(&y, &gates);
    }

    #[test]
    fn labels_have_an_embedding_of_their_own() {
        let (x, _) = inputs();
        let layer = AdaLayerNormLabels::new(WIDTH, 3, &flex()).unwrap();
        let (time, class) = (Tensor::from_data([7.0], &flex()), Tensor::<1, Int>::from_data([2], &flex()));
        let (y, gates, embedding) = layer.forward(x.clone(), time.clone(), class.clone(), &mut Tap::none());
        assert_close(&embedding, &values(&layer.emb.forward(time, class, &mut Tap::none())), 0.0);
        ByHand::new(&layer.linear, &x, &embedding).check(&y, &gates);
    }

    #[test]
    fn dual_has_a_second_input_and_gate() {
        let (x, embedding) = inputs();
        let layer = AdaLayerNormDual::new(WIDTH, &flex()).unwrap();
        let (y, gates, [second, gate]) = layer.forward(x.clone(), embedding.clone(), &mut Tap::none());
        let by_hand = ByHand::new(&layer.linear, &x, &embedding);
        by_hand.check(&y, &gates);
        assert_close(&second, &by_hand.scaled(6, 7), 2e-5);
        assert_close(&gate, &by_hand.rows[8], 1e-5);
    }

    #[test]
    fn single_has_one_gate_and_continuous_none() {
        let (x, embedding) = inputs();
        let layer = AdaLayerNormSingle::new(WIDTH, &flex()).unwrap();
        let (y, gate) = layer.forward(x.clone(), embedding.clone(), &mut Tap::none());
        let by_hand = ByHand::new(&layer.linear, &x, &embedding);
        assert_close(&y, &by_hand.scaled(0, 1), 2e-5);
        assert_close(&gate, &by_hand.rows[2], 1e-5);
        let layer = AdaLayerNormContinuous::new(WIDTH, &flex()).unwrap();
        let y = layer.forward(x.clone(), embedding.clone(), &mut Tap::none());
        // This one has the scale before the shift.
        assert_close(&y, &ByHand::new(&layer.linear, &x, &embedding).scaled(1, 0), 2e-5);
    }

    #[test]
    fn what_is_returned_is_seen_in_order() {
        let device = flex();
        let (x, embedding) = inputs();
        let mut names = Vec::new();
        let mut see = |name: &str, value: Tapped<'_>| names.push((name.to_owned(), value.dims().len()));
        let layer = AdaLayerNormDual::new(WIDTH, &device).unwrap();
        layer.forward(x, embedding, &mut Tap::new(&mut see));
        let expected = [
            ("silu", 2),
            ("linear", 2),
            ("norm", 3),
            ("0", 3),
            ("1", 2),
            ("2", 2),
            ("3", 2),
            ("4", 2),
            ("5", 3),
            ("6", 2),
        ];
        assert_eq!(names, expected.map(|(name, rank)| (name.to_owned(), rank)));
    }

    #[test]
    fn refuses_an_empty_width() {
        let error = AdaLayerNormZero::new(0, &flex()).unwrap_err();
        assert!(matches!(error, ModelError::Config { field: "width", .. }), "{error}");
        let error = AdaLayerNormLabels::new(4, 0, &flex()).unwrap_err();
        assert!(matches!(error, ModelError::Config { field: "classes", .. }), "{error}");
    }
}
