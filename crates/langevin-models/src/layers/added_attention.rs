//! Attention of pixels among themselves and to a context at once.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{
    GroupNorm, GroupNormConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig, attention_with, join_heads,
    split_heads,
};
use crate::error::{ModelError, at_least_one};
use crate::layers::swapped;
use crate::tap::Tap;

/// Normalization of a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContextNorm {
    /// Over the channels of each token.
    Layer,
    /// Over groups of channels of all tokens, 32 groups.
    Group,
}

/// Configuration of an [`AddedAttention`] block.
///
/// # Example
///
/// ```
/// use langevin_models::layers::AddedAttentionConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let block = AddedAttentionConfig::new(64, 16, 768).groups(8).init(&device)?;
/// assert_eq!(block.add_k_proj.weight.dims(), [64, 768]);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AddedAttentionConfig {
    /// Channels of the image.
    pub channels: usize,
    /// Channels of each head, a divisor of `channels`.
    pub head_dim: usize,
    /// Channels of the context.
    pub context: usize,
    /// Groups of the normalization of the image. Default: `32`.
    pub groups: usize,
    /// Normalization of the context. Default: none.
    pub context_norm: Option<ContextNorm>,
    /// Whether pixels look at the context only. Default: `false`.
    pub only_context: bool,
}

impl AddedAttentionConfig {
    /// Attention of `channels / head_dim` heads to pixels and a context of `context` channels.
    #[must_use]
    pub fn new(channels: usize, head_dim: usize, context: usize) -> Self {
        Self { channels, head_dim, context, groups: 32, context_norm: None, only_context: false }
    }

    /// Sets the groups of the normalization of the image.
    #[must_use]
    pub fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// Sets the normalization of the context.
    #[must_use]
    pub fn context_norm(mut self, norm: Option<ContextNorm>) -> Self {
        self.context_norm = norm;
        self
    }

    /// Sets whether pixels look at the context only.
    #[must_use]
    pub fn only_context(mut self, yes: bool) -> Self {
        self.only_context = yes;
        self
    }

    /// Makes the block.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if a size is zero, the heads or groups do not divide the channels, the 32 groups of the
    /// context do not divide its channels, or the channels of the context are not those of the image where each of its
    /// tokens is normalized.
    pub fn init(&self, device: &Device) -> Result<AddedAttention, ModelError> {
        at_least_one("context", self.context)?;
        at_least_one("head_dim", self.head_dim)?;
        if !self.channels.is_multiple_of(self.head_dim) {
            return Err(ModelError::Config {
                field: "head_dim",
                given: self.head_dim.to_string(),
                expected: format!("a divisor of the {} channels", self.channels),
            });
        }
        let norm_cross = match self.context_norm {
            None => None,
            Some(ContextNorm::Group) => {
                Some(ContextNormalization::Group(GroupNormConfig::new(32, self.context).init(device)?))
            }
            Some(ContextNorm::Layer) if self.context == self.channels => {
                Some(ContextNormalization::Layer(LayerNormConfig::new(self.channels).init(device)?))
            }
            Some(ContextNorm::Layer) => {
                return Err(ModelError::Config {
                    field: "context",
                    given: self.context.to_string(),
                    expected: format!("{}, the channels of the image, where tokens are normalized", self.channels),
                });
            }
        };
        let projection = |input| LinearConfig::new(input, self.channels).init(device);
        let own = || if self.only_context { Ok(None) } else { projection(self.channels).map(Some) };
        Ok(AddedAttention {
            group_norm: GroupNormConfig::new(self.groups, self.channels).init(device)?,
            norm_cross,
            to_q: projection(self.channels)?,
            to_k: own()?,
            to_v: own()?,
            add_k_proj: projection(self.context)?,
            add_v_proj: projection(self.context)?,
            to_out: vec![projection(self.channels)?],
            heads: self.channels / self.head_dim,
        })
    }
}

/// Attention of pixels to the tokens of a context and to all pixels, in one softmax, added to the image. Made by
/// [`AddedAttentionConfig::init`].
///
/// # References
///
/// Nichol et al. 2022, [arXiv:2112.10741](https://arxiv.org/abs/2112.10741), section 4.1.
#[derive(Module, Debug)]
pub struct AddedAttention {
    /// Normalization of the image.
    pub group_norm: GroupNorm,
    /// Normalization of the context.
    pub norm_cross: Option<ContextNormalization>,
    /// Projection of pixels to queries.
    pub to_q: Linear,
    /// Projection of pixels to keys.
    pub to_k: Option<Linear>,
    /// Projection of pixels to values.
    pub to_v: Option<Linear>,
    /// Projection of the context to keys.
    pub add_k_proj: Linear,
    /// Projection of the context to values.
    pub add_v_proj: Linear,
    /// Projection of the heads to channels, the only entry of a list as in published weights.
    pub to_out: Vec<Linear>,
    heads: usize,
}

/// Normalization of a context.
#[derive(Module, Debug)]
pub enum ContextNormalization {
    /// Over the channels of each token.
    Layer(LayerNorm),
    /// Over groups of channels of all tokens.
    Group(GroupNorm),
}

impl AddedAttention {
    /// Attends. `bias` is added to the scores of the context's tokens: what a mask becomes
    /// ([`mask_bias`](super::mask_bias)). Pixels are never hidden.
    ///
    /// # Shapes
    ///
    /// - x and output: `[batch, channels, height, width]`
    /// - context: `[batch, tokens, context]`
    /// - bias: `[batch or 1, 1, 1, tokens]`
    pub fn forward(&self, x: Tensor<4>, context: &Tensor<3>, bias: Option<&Tensor<4>>, tap: &mut Tap<'_>) -> Tensor<4> {
        let [batch, channels, height, width] = x.dims();
        let pixels = height * width;
        let context = match &self.norm_cross {
            None => context.clone(),
            Some(ContextNormalization::Layer(norm)) => norm.forward(context.clone()),
            Some(ContextNormalization::Group(norm)) => swapped(norm.forward(swapped(context.clone(), 1)), 1),
        };
        let h = self.group_norm.forward(x.clone().reshape([batch, channels, pixels]));
        tap.see("group_norm", &h);
        let h = swapped(h, 1);
        let mut project = |name: &str, layer: &Linear, tokens: &Tensor<3>| {
            let y = layer.forward(tokens.clone());
            tap.see(name, &y);
            split_heads(y, self.heads)
        };
        let query = project("to_q", &self.to_q, &h);
        let mut key = project("add_k_proj", &self.add_k_proj, &context);
        let mut value = project("add_v_proj", &self.add_v_proj, &context);
        let mut bias = bias.cloned();
        if let (Some(to_k), Some(to_v)) = (&self.to_k, &self.to_v) {
            key = Tensor::cat(vec![key, project("to_k", to_k, &h)], 2);
            value = Tensor::cat(vec![value, project("to_v", to_v, &h)], 2);
            bias = bias.map(|bias| {
                let [rows, _, _, _] = bias.dims();
                let seen = Tensor::zeros([rows, 1, 1, pixels], (&bias.device(), bias.dtype()));
                Tensor::cat(vec![bias, seen], 3)
            });
        }
        let [_, _, _, d] = query.dims();
        let mut y = join_heads(attention_with(query, key, value, bias, 1.0 / (d as f64).sqrt()));
        for (i, layer) in self.to_out.iter().enumerate() {
            y = layer.forward(y);
            tap.see(format_args!("to_out.{i}"), &y);
        }
        let y = x + swapped(y, 1).reshape([batch, channels, height, width]);
        tap.see("", &y);
        y
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::mask_bias;
    use crate::testing::{assert_close, flex, tensor, values};
    use crate::weights::parameters;

    fn run(block: &AddedAttention, x: &Tensor<4>, context: &Tensor<3>) -> Tensor<4> {
        block.forward(x.clone(), context, None, &mut Tap::none())
    }

    #[test]
    fn parameters_have_their_published_names() {
        let config = AddedAttentionConfig::new(4, 2, 32).groups(2).context_norm(Some(ContextNorm::Group));
        let names = |config: AddedAttentionConfig| {
            let mut names: Vec<_> =
                parameters(&config.init(&flex()).unwrap()).into_iter().map(|p| (p.name, p.shape)).collect();
            names.retain(|(name, _)| !name.ends_with("bias"));
            names
        };
        let expected = [
            ("group_norm.weight", vec![4]),
            ("norm_cross.weight", vec![32]),
            ("to_q.weight", vec![4, 4]),
            ("to_k.weight", vec![4, 4]),
            ("to_v.weight", vec![4, 4]),
            ("add_k_proj.weight", vec![4, 32]),
            ("add_v_proj.weight", vec![4, 32]),
            ("to_out.0.weight", vec![4, 4]),
        ]
        .map(|(name, shape)| (name.to_owned(), shape));
        assert_eq!(names(config), expected);
        let mut without = expected.to_vec();
        without.retain(|(name, _)| name != "to_k.weight" && name != "to_v.weight");
        assert_eq!(names(config.only_context(true)), without);
    }

    #[test]
    fn keys_of_the_context_stand_beside_those_of_the_pixels() {
        // With keys of zero all tokens and pixels weigh the same: the output is the mean of their values.
        let device = flex();
        let mut block = AddedAttentionConfig::new(4, 2, 3).groups(2).init(&device).unwrap();
        let zero = |layer: &mut Linear| {
            let shape = layer.weight.dims();
            layer.weight = burn::module::Param::from_tensor(Tensor::zeros(shape, &device));
            layer.bias = None;
        };
        zero(&mut block.add_k_proj);
        zero(block.to_k.as_mut().unwrap());
        block.to_out[0].weight = burn::module::Param::from_tensor(Tensor::eye(4, &device));
        block.to_out[0].bias = None;
        let (x, context) = (tensor([1, 4, 2, 3], 0.3, &device), tensor([1, 5, 3], 0.7, &device));
        let h = block.group_norm.forward(x.clone().reshape([1, 4, 6])).swap_dims(1, 2);
        let all =
            Tensor::cat(vec![block.add_v_proj.forward(context.clone()), block.to_v.as_ref().unwrap().forward(h)], 1);
        let expected = x.clone() + all.mean_dim(1).reshape([1, 4, 1, 1]);
        assert_close(&run(&block, &x, &context), &values(&expected), 1e-5);
    }

    #[test]
    fn hidden_tokens_are_not_seen_and_pixels_are() {
        let device = flex();
        let block = AddedAttentionConfig::new(4, 2, 3).groups(2).init(&device).unwrap();
        let (x, context) = (tensor([1, 4, 2, 3], 0.3, &device), tensor([1, 5, 3], 0.7, &device));
        let mask = Tensor::<2>::from_data([[1.0, 1.0, 0.0, 0.0, 0.0]], &device);
        let given = block.forward(x.clone(), &context, Some(&mask_bias(mask)), &mut Tap::none());
        assert_close(&given, &values(&run(&block, &x, &context.narrow(1, 0, 2))), 1e-5);
    }

    #[test]
    fn refuses_impossible_sizes() {
        let device = flex();
        let base = AddedAttentionConfig::new(4, 2, 8).groups(2);
        for (config, name) in [
            (AddedAttentionConfig::new(4, 3, 8).groups(2), "head_dim"),
            (AddedAttentionConfig::new(4, 0, 8).groups(2), "head_dim"),
            (AddedAttentionConfig::new(4, 2, 0).groups(2), "context"),
            (base.groups(3), "groups"),
            (base.context_norm(Some(ContextNorm::Group)), "groups"),
            (base.context_norm(Some(ContextNorm::Layer)), "context"),
        ] {
            let error = config.init(&device).unwrap_err();
            assert!(matches!(error, ModelError::Config { field, .. } if field == name), "{name}: {error}");
        }
        let layer = AddedAttentionConfig::new(8, 2, 8).groups(2).context_norm(Some(ContextNorm::Layer));
        let y =
            run(&layer.init(&device).unwrap(), &tensor([1, 8, 2, 2], 0.1, &device), &tensor([1, 3, 8], 0.5, &device));
        assert_eq!(y.dims(), [1, 8, 2, 2]);
    }
}
