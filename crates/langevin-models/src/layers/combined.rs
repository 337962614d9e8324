//! Embeddings of the time together with a class, a text, a guidance scale or the size of an image.

use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor};

use super::{
    Activation, Embedding, EmbeddingConfig, Linear, LinearConfig, SinusoidalEmbedding, TimestepEmbedding,
    TimestepEmbeddingConfig,
};
use crate::error::{ModelError, at_least_one};
use crate::tap::{Tap, Tapped};

/// Features of a time or a size in all embeddings of this file.
const FEATURES: usize = 256;

/// The features of times, cosines first, in the element type of the weights.
fn features(time: Tensor<1>, shift: f64, dtype: DType) -> Tensor<2> {
    SinusoidalEmbedding::new(FEATURES).cosine_first(true).shift(shift).forward(time).cast(dtype)
}

/// Two linear layers with an activation between them, for the states or the pooled vector of a text encoder.
///
/// # References
///
/// Chen et al. 2023, [arXiv:2310.00426](https://arxiv.org/abs/2310.00426).
#[derive(Module, Debug)]
pub struct TextProjection {
    /// First layer.
    pub linear_1: Linear,
    /// Second layer.
    pub linear_2: Linear,
    #[module(skip)]
    activation: Activation,
}

impl TextProjection {
    /// Layers from `input` to `width` features.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if a size is zero.
    pub fn new(input: usize, width: usize, activation: Activation, device: &Device) -> Result<Self, ModelError> {
        Ok(Self {
            linear_1: LinearConfig::new(input, width).init(device)?,
            linear_2: LinearConfig::new(width, width).init(device)?,
            activation,
        })
    }

    /// Applies both layers to the last axis.
    ///
    /// # Shapes
    ///
    /// - input: `[.., input]`
    /// - output: `[.., width]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>, tap: &mut Tap<'_>) -> Tensor<D>
    where
        for<'t> &'t Tensor<D>: Into<Tapped<'t>>,
    {
        let h = self.linear_1.forward(x);
        tap.see("linear_1", &h);
        let h = self.activation.forward(h);
        tap.see("act_1", &h);
        let y = self.linear_2.forward(h);
        tap.see("linear_2", &y);
        tap.see("", &y);
        y
    }
}

/// A table of classes with one more row for "no class".
#[derive(Module, Debug)]
pub struct LabelEmbedding {
    /// `[classes + 1, width]`
    pub embedding_table: Embedding,
}

/// The sum of the embeddings of a time and of a class.
///
/// # References
///
/// Peebles, Xie 2022, [arXiv:2212.09748](https://arxiv.org/abs/2212.09748), section 3.2.
#[derive(Module, Debug)]
pub struct TimestepLabelEmbedding {
    /// Layers for the features of the time.
    pub timestep_embedder: TimestepEmbedding,
    /// The table of classes; its last row is "no class".
    pub class_embedder: LabelEmbedding,
}

impl TimestepLabelEmbedding {
    /// An embedding of `classes` classes, with one more row for none.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if a size is zero.
    pub fn new(classes: usize, width: usize, device: &Device) -> Result<Self, ModelError> {
        at_least_one("classes", classes)?;
        Ok(Self {
            timestep_embedder: TimestepEmbeddingConfig::new(FEATURES, width).init(device)?,
            class_embedder: LabelEmbedding { embedding_table: EmbeddingConfig::new(classes + 1, width).init(device)? },
        })
    }

    /// The embedding of each sample.
    ///
    /// # Shapes
    ///
    /// - time: `[batch]`
    /// - class: `[batch]`, rows of the table
    /// - output: `[batch, width]`
    pub fn forward(&self, time: Tensor<1>, class: Tensor<1, Int>, tap: &mut Tap<'_>) -> Tensor<2> {
        let features = features(time, 1.0, self.timestep_embedder.linear_1.weight.val().dtype());
        tap.see("time_proj", &features);
        let time = tap.scope("timestep_embedder", |tap| self.timestep_embedder.forward(features, tap));
        let class = self.class_embedder.embedding_table.forward(class);
        tap.see("class_embedder.embedding_table", &class);
        tap.see("class_embedder", &class);
        let y = time + class;
        tap.see("", &y);
        y
    }
}

/// The sum of the embeddings of a time, of the pooled vector of a text, and of a guidance scale where the network was
/// trained to imitate guidance.
///
/// # References
///
/// Esser et al. 2024, [arXiv:2403.03206](https://arxiv.org/abs/2403.03206), section 4.
#[derive(Module, Debug)]
pub struct TimestepTextEmbedding {
    /// Layers for the features of the time.
    pub timestep_embedder: TimestepEmbedding,
    /// Layers for the features of the guidance scale.
    pub guidance_embedder: Option<TimestepEmbedding>,
    /// Layers for the pooled vector.
    pub text_embedder: TextProjection,
}

impl TimestepTextEmbedding {
    /// An embedding of width `width`, from pooled vectors of width `pooled`.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if a size is zero.
    pub fn new(pooled: usize, width: usize, guidance: bool, device: &Device) -> Result<Self, ModelError> {
        let layers = || TimestepEmbeddingConfig::new(FEATURES, width).init(device);
        Ok(Self {
            timestep_embedder: layers()?,
            guidance_embedder: guidance.then(layers).transpose()?,
            text_embedder: TextProjection::new(pooled, width, Activation::Silu, device)?,
        })
    }

    /// The embedding of each sample. The guidance scale is needed by networks that have an embedding for it, and
    /// ignored by others.
    ///
    /// # Shapes
    ///
    /// - time: `[batch]`
    /// - guidance: `[batch]`
    /// - pooled: `[batch, pooled]`
    /// - output: `[batch, width]`
    pub fn forward(
        &self,
        time: Tensor<1>,
        guidance: Option<Tensor<1>>,
        pooled: Tensor<2>,
        tap: &mut Tap<'_>,
    ) -> Tensor<2> {
        let dtype = pooled.dtype();
        let time = features(time, 0.0, dtype);
        tap.see("time_proj", &time);
        let mut y = tap.scope("timestep_embedder", |tap| self.timestep_embedder.forward(time, tap));
        if let (Some(layers), Some(guidance)) = (&self.guidance_embedder, guidance) {
            let guidance = features(guidance, 0.0, dtype);
            // The same module runs a second time.
            tap.see("time_proj", &guidance);
            y = y + tap.scope("guidance_embedder", |tap| layers.forward(guidance, tap));
        }
        let text = tap.scope("text_embedder", |tap| self.text_embedder.forward(pooled, tap));
        let y = y + text;
        tap.see("", &y);
        y
    }
}

/// The embedding of a time, and perhaps of the height, width and aspect ratio of the image to make.
///
/// # References
///
/// Chen et al. 2023, [arXiv:2310.00426](https://arxiv.org/abs/2310.00426), section 2.3, and its published networks.
#[derive(Module, Debug)]
pub struct TimestepSizeEmbedding {
    /// Layers for the features of the time.
    pub timestep_embedder: TimestepEmbedding,
    /// Layers for the features of height and width.
    pub resolution_embedder: Option<TimestepEmbedding>,
    /// Layers for the features of the aspect ratio.
    pub aspect_ratio_embedder: Option<TimestepEmbedding>,
}

impl TimestepSizeEmbedding {
    /// An embedding of width `width`, with or without sizes.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if the width is zero, or, with sizes, no multiple of 3.
    pub fn new(width: usize, sizes: bool, device: &Device) -> Result<Self, ModelError> {
        at_least_one("width", width)?;
        if sizes && !width.is_multiple_of(3) {
            return Err(ModelError::Config {
                field: "width",
                given: width.to_string(),
                expected: "a multiple of 3 for height, width and aspect ratio".into(),
            });
        }
        let small = || sizes.then(|| TimestepEmbeddingConfig::new(FEATURES, width / 3).init(device)).transpose();
        Ok(Self {
            timestep_embedder: TimestepEmbeddingConfig::new(FEATURES, width).init(device)?,
            resolution_embedder: small()?,
            aspect_ratio_embedder: small()?,
        })
    }

    /// The embedding of each sample, in the type `dtype`. The sizes are needed by networks that have an embedding for
    /// them, and ignored by others.
    ///
    /// # Shapes
    ///
    /// - time: `[batch]`
    /// - sizes: `[batch, 3]`, height, width and aspect ratio
    /// - output: `[batch, width]`
    pub fn forward(&self, time: Tensor<1>, sizes: Option<Tensor<2>>, dtype: DType, tap: &mut Tap<'_>) -> Tensor<2> {
        let time = features(time, 0.0, dtype);
        tap.see("time_proj", &time);
        let mut y = tap.scope("timestep_embedder", |tap| self.timestep_embedder.forward(time, tap));
        if let (Some(resolution), Some(aspect), Some(sizes)) =
            (&self.resolution_embedder, &self.aspect_ratio_embedder, sizes)
        {
            let [batch, width] = y.dims();
            let mut embed = |name: &str, layers: &TimestepEmbedding, from: usize, count: usize| {
                let numbers = sizes.clone().narrow(1, from, count).reshape([batch * count]);
                let features = features(numbers, 0.0, dtype);
                tap.see("additional_condition_proj", &features);
                tap.scope(name, |tap| layers.forward(features, tap)).reshape([batch, width / 3 * count])
            };
            let resolution = embed("resolution_embedder", resolution, 0, 2);
            let aspect = embed("aspect_ratio_embedder", aspect, 2, 1);
            y = y + Tensor::cat(vec![resolution, aspect], 1);
        }
        tap.see("", &y);
        y
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, flex, tensor, values};

    /// Cosines, then sines, of 128 frequencies.
    fn by_hand(t: f64, shift: f64) -> Vec<f64> {
        let angle = |i: usize| t * 10_000f64.powf(-(i as f64) / (128.0 - shift));
        (0..128).map(|i| angle(i).cos()).chain((0..128).map(|i| angle(i).sin())).collect()
    }

    fn embedded(layers: &TimestepEmbedding, t: f64, shift: f64) -> Vec<f64> {
        let features = Tensor::<1>::from_data(by_hand(t, shift).as_slice(), &flex()).reshape([1, 256]);
        values(&layers.forward(features, &mut Tap::none()))
    }

    fn sum(parts: &[Vec<f64>]) -> Vec<f64> {
        (0..parts[0].len()).map(|i| parts.iter().map(|part| part[i]).sum()).collect()
    }

    fn numbers<const N: usize>(values: [f64; N]) -> Tensor<1> {
        Tensor::from_data(values, &flex())
    }

    #[test]
    fn time_and_class_are_added() {
        let layer = TimestepLabelEmbedding::new(3, 5, &flex()).unwrap();
        let table = values(&layer.class_embedder.embedding_table.weight.val());
        assert_eq!(table.len(), 4 * 5);
        let class = Tensor::from_data([3i64], &flex());
        let given = layer.forward(numbers([7.0]), class, &mut Tap::none());
        let expected = sum(&[embedded(&layer.timestep_embedder, 7.0, 1.0), table[15..].to_vec()]);
        assert_close(&given, &expected, 1e-5);
    }

    #[test]
    fn time_guidance_and_text_are_added() {
        for guided in [false, true] {
            let layer = TimestepTextEmbedding::new(4, 5, guided, &flex()).unwrap();
            let pooled = tensor([1, 4], 0.3, &flex());
            let given = layer.forward(numbers([7.0]), Some(numbers([3.5])), pooled.clone(), &mut Tap::none());
            let text = &layer.text_embedder;
            let text = text.linear_2.forward(Activation::Silu.forward(text.linear_1.forward(pooled)));
            let mut parts = vec![embedded(&layer.timestep_embedder, 7.0, 0.0), values(&text)];
            assert_eq!(layer.guidance_embedder.is_some(), guided);
            parts.extend(layer.guidance_embedder.iter().map(|layers| embedded(layers, 3.5, 0.0)));
            assert_close(&given, &sum(&parts), 1e-5);
        }
    }

    #[test]
    fn height_width_and_aspect_ratio_stand_side_by_side() {
        let layer = TimestepSizeEmbedding::new(6, true, &flex()).unwrap();
        let sizes = Tensor::<2>::from_data([[64.0, 48.0, 1.25]], &flex());
        let given = layer.forward(numbers([7.0]), Some(sizes), DType::F32, &mut Tap::none());
        let (resolution, aspect) = (layer.resolution_embedder.unwrap(), layer.aspect_ratio_embedder.unwrap());
        let side = [embedded(&resolution, 64.0, 0.0), embedded(&resolution, 48.0, 0.0), embedded(&aspect, 1.25, 0.0)];
        let expected = sum(&[embedded(&layer.timestep_embedder, 7.0, 0.0), side.concat()]);
        assert_close(&given, &expected, 1e-5);
        let error = TimestepSizeEmbedding::new(8, true, &flex()).unwrap_err();
        assert!(matches!(error, ModelError::Config { field: "width", .. }), "{error}");
        TimestepSizeEmbedding::new(8, false, &flex()).unwrap();
    }

    #[test]
    fn a_text_projection_is_two_layers() {
        let layer = TextProjection::new(3, 5, Activation::GeluTanh, &flex()).unwrap();
        let x = tensor([2, 4, 3], 0.3, &flex());
        let expected = layer.linear_2.forward(Activation::GeluTanh.forward(layer.linear_1.forward(x.clone())));
        assert_close(&layer.forward(x, &mut Tap::none()), &values(&expected), 1e-6);
        assert!(TextProjection::new(0, 5, Activation::Silu, &flex()).is_err());
    }
}
