//! A transformer over the pixels of an image.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::convolution::{to_image, to_tokens};
use super::{
    BasicTransformerBlock, BasicTransformerBlockConfig, Conv2d, Conv2dConfig, GroupNorm, GroupNormConfig, Linear,
    LinearConfig,
};
use crate::error::{ModelError, layer_count};
use crate::tap::Tap;

/// Configuration of a [`Transformer2d`].
///
/// # Example
///
/// ```
/// use langevin_models::layers::Transformer2dConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let block = Transformer2dConfig::new(64, 4, 16).context(768).groups(32).layers(2).init(&device)?;
/// assert_eq!(block.transformer_blocks.len(), 2);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Transformer2dConfig {
    /// Channels of the image.
    pub channels: usize,
    /// Groups of the normalization. Default: `32`.
    pub groups: usize,
    /// Number of blocks. Default: `1`.
    pub layers: usize,
    /// Whether the projections are linear layers instead of convolutions: the same map with other shapes of weights.
    /// Default: `false`.
    pub linear_projection: bool,
    /// The blocks; their width is that of all heads.
    pub block: BasicTransformerBlockConfig,
}

impl Transformer2dConfig {
    /// One block of `heads` heads with `head_dim` channels each.
    #[must_use]
    pub fn new(channels: usize, heads: usize, head_dim: usize) -> Self {
        let block = BasicTransformerBlockConfig::new(heads * head_dim, heads, head_dim);
        Self { channels, groups: 32, layers: 1, linear_projection: false, block }
    }

    /// Sets the size of the context that the blocks look at.
    #[must_use]
    pub fn context(mut self, width: usize) -> Self {
        self.block.context = Some(width);
        self
    }

    /// Sets the groups of the normalization.
    #[must_use]
    pub fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// Sets the number of blocks.
    #[must_use]
    pub fn layers(mut self, layers: usize) -> Self {
        self.layers = layers;
        self
    }

    /// Sets whether the projections are linear layers.
    #[must_use]
    pub fn linear_projection(mut self, yes: bool) -> Self {
        self.linear_projection = yes;
        self
    }

    /// Sets the options of the blocks.
    #[must_use]
    pub fn block(mut self, change: impl FnOnce(BasicTransformerBlockConfig) -> BasicTransformerBlockConfig) -> Self {
        self.block = change(self.block);
        self
    }

    /// Makes the transformer.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if a size is zero, the groups do not divide the channels, or the blocks refuse their
    /// options.
    pub fn init(&self, device: &Device) -> Result<Transformer2d, ModelError> {
        layer_count("layers", self.layers)?;
        let inner = self.block.width;
        let projection = |input, output| {
            Ok(match self.linear_projection {
                true => PixelProjection::Linear(LinearConfig::new(input, output).init(device)?),
                false => PixelProjection::Conv(Conv2dConfig::new(input, output, 1).init(device)?),
            })
        };
        Ok(Transformer2d {
            norm: GroupNormConfig::new(self.groups, self.channels).epsilon(1e-6).init(device)?,
            proj_in: projection(self.channels, inner)?,
            transformer_blocks: (0..self.layers).map(|_| self.block.init(device)).collect::<Result<_, _>>()?,
            proj_out: projection(inner, self.channels)?,
        })
    }
}

/// Transformer blocks whose tokens are the pixels of an image, after a normalization and between two projections, added to
/// the image. Made by [`Transformer2dConfig::init`].
///
/// # References
///
/// Rombach et al. 2022, [arXiv:2112.10752](https://arxiv.org/abs/2112.10752), section 3.3 and appendix E.2.1.
#[derive(Module, Debug)]
pub struct Transformer2d {
    /// Normalization of the image.
    pub norm: GroupNorm,
    /// Projection of the channels to the width of the blocks.
    pub proj_in: PixelProjection,
    /// The blocks.
    pub transformer_blocks: Vec<BasicTransformerBlock>,
    /// Projection back to channels.
    pub proj_out: PixelProjection,
}

/// The same linear map for each pixel.
#[derive(Module, Debug)]
pub enum PixelProjection {
    /// As a 1 x 1 convolution.
    Conv(Conv2d),
    /// As a linear layer.
    Linear(Linear),
}

impl Transformer2d {
    /// Applies the blocks to the pixels. Context and bias are those of [`BasicTransformerBlock::forward`].
    ///
    /// # Shapes
    ///
    /// - x and output: `[batch, channels, height, width]`
    /// - context: `[batch, keys, context]`
    /// - bias: `[batch or 1, heads or 1, pixels or 1, keys]`
    pub fn forward(
        &self,
        x: Tensor<4>,
        context: Option<&Tensor<3>>,
        bias: Option<&Tensor<4>>,
        tap: &mut Tap<'_>,
    ) -> Tensor<4> {
        let [_, _, height, width] = x.dims();
        let h = self.norm.forward(x.clone());
        tap.see("norm", &h);
        let mut tokens = match &self.proj_in {
            PixelProjection::Conv(layer) => {
                let h = layer.forward(h);
                tap.see("proj_in", &h);
                to_tokens(h)
            }
            PixelProjection::Linear(layer) => {
                let h = layer.forward(to_tokens(h));
                tap.see("proj_in", &h);
                h
            }
        };
        for (i, block) in self.transformer_blocks.iter().enumerate() {
            tokens = tap.scope(format_args!("transformer_blocks.{i}"), |tap| block.forward(tokens, context, bias, tap));
        }
        let h = match &self.proj_out {
            PixelProjection::Conv(layer) => {
                let h = layer.forward(to_image(tokens, height, width));
                tap.see("proj_out", &h);
                h
            }
            PixelProjection::Linear(layer) => {
                let h = layer.forward(tokens);
                tap.see("proj_out", &h);
                to_image(h, height, width)
            }
        };
        let y = x + h;
        tap.see("0", &y);
        y
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, flex, tensor, values};
    use crate::weights::parameters;

    #[test]
    fn parameters_have_their_published_names() {
        let shape = |linear: bool, name: &str| {
            let config = Transformer2dConfig::new(6, 2, 4).groups(3).linear_projection(linear).layers(2);
            let parameters = parameters(&config.init(&flex()).unwrap());
            parameters.into_iter().find(|p| p.name == name).map(|p| p.shape)
        };
        assert_eq!(shape(false, "proj_in.weight"), Some(vec![8, 6, 1, 1]));
        assert_eq!(shape(false, "proj_out.weight"), Some(vec![6, 8, 1, 1]));
        assert_eq!(shape(true, "proj_in.weight"), Some(vec![8, 6]));
        assert_eq!(shape(true, "norm.bias"), Some(vec![6]));
        assert_eq!(shape(true, "transformer_blocks.1.attn1.to_q.weight"), Some(vec![8, 8]));
    }

    #[test]
    fn both_kinds_of_projection_are_the_same_map() {
        let device = flex();
        let base = Transformer2dConfig::new(6, 2, 4).groups(3).context(5);
        let conv = base.init(&device).unwrap();
        let mut linear = conv.clone();
        let flat = |projection: &PixelProjection| match projection {
            PixelProjection::Conv(layer) => {
                let weight = layer.weight.val();
                let [output, input, _, _] = weight.dims();
                let weight = burn::module::Param::from_tensor(weight.reshape([output, input]));
                PixelProjection::Linear(Linear { weight, bias: layer.bias.clone() })
            }
            PixelProjection::Linear(_) => panic!("a convolution was asked for"),
        };
        linear.proj_in = flat(&conv.proj_in);
        linear.proj_out = flat(&conv.proj_out);
        let (x, context) = (tensor([2, 6, 3, 4], 0.3, &device), tensor([2, 7, 5], 0.7, &device));
        let [a, b] = [&conv, &linear].map(|m| m.forward(x.clone(), Some(&context), None, &mut Tap::none()));
        assert_close(&a, &values(&b), 1e-5);
    }

    #[test]
    fn pixels_keep_their_place() {
        // Turned images give turned outputs: the blocks know no positions, and rows and columns are not mixed up.
        let device = flex();
        let block = Transformer2dConfig::new(4, 2, 2).groups(2).init(&device).unwrap();
        let x = tensor([1, 4, 3, 5], 0.3, &device);
        let y = block.forward(x.clone(), None, None, &mut Tap::none());
        let turned = block.forward(x.swap_dims(2, 3), None, None, &mut Tap::none());
        assert_close(&turned.swap_dims(2, 3), &values(&y), 1e-5);
    }

    #[test]
    fn refuses_impossible_sizes() {
        let device = flex();
        for (config, name) in [
            (Transformer2dConfig::new(4, 2, 2).groups(2).layers(0), "layers"),
            (Transformer2dConfig::new(4, 2, 2).groups(3), "groups"),
            (Transformer2dConfig::new(4, 0, 2).groups(2), "output"),
            (Transformer2dConfig::new(4, 2, 2).groups(2).context(0), "context"),
        ] {
            let error = config.init(&device).unwrap_err();
            assert!(matches!(error, ModelError::Config { field, .. } if field == name), "{name}: {error}");
        }
    }
}
