//! The prior.

use std::path::Path;

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use langevin_core::{DenoiseError, Load, Network};

use super::config::PriorConfig;
use super::published::PublishedPrior;
use crate::condition::{Part, TextCondition};
use crate::error::ModelError;
use crate::layers::{
    Activation, BasicTransformerBlock, BasicTransformerBlockConfig, Gate, LayerNorm, LayerNormConfig, Linear,
    LinearConfig, SinusoidalEmbedding, TimestepEmbedding, TimestepEmbeddingConfig, constant, mask_bias,
};
use crate::mlp::for_batch;
use crate::tap::Tap;
use crate::weights::{read_config_file, read_folder, write_folder};

/// A transformer that denoises the embedding of an image, told the embedding of a text and the states of its encoder.
/// Made by [`PriorConfig::init`] or [`Prior::load`].
///
/// The tokens are the text, its embedding, the time, the noisy image embedding and a last one that gathers the answer,
/// which is the image embedding itself (x_0). With a mask of the text no token sees those behind it; without a mask all
/// see all, as in the published network. Embeddings are denoised in a normalized form:
/// [`post_process`](Self::post_process) brings the answer back.
///
/// # References
///
/// Ramesh et al. 2022, [arXiv:2204.06125](https://arxiv.org/abs/2204.06125), section 2.2. Parameters have the names of
/// diffusers' `PriorTransformer`.
///
/// # Example
///
/// ```
/// use burn::tensor::Tensor;
/// use langevin_core::Network;
/// use langevin_models::{PriorConfig, TextCondition};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let device = burn::tensor::Device::flex();
/// let net = PriorConfig::new(12, 7).heads(2, 8).layers(2).init(&device)?;
/// let text = TextCondition::new(Tensor::zeros([1, 7, 12], &device))
///     .mask(Tensor::ones([1, 7], &device))
///     .pooled(Tensor::zeros([1, 12], &device));
/// let y = net.forward(Tensor::zeros([2, 12], &device), Tensor::from_data([999.0], &device), &text)?;
/// assert_eq!(net.post_process(y)?.dims(), [2, 12]);
/// # Ok(()) }
/// ```
#[derive(Module, Debug)]
pub struct Prior {
    /// Layers that turn the features of the time into a token.
    pub time_embedding: TimestepEmbedding,
    /// From the image embedding to a token.
    pub proj_in: Linear,
    /// Normalization of the text embedding.
    pub embedding_proj_norm: Option<LayerNorm>,
    /// From the text embedding to a token.
    pub embedding_proj: Linear,
    /// From the states of the text encoder to tokens.
    pub encoder_hidden_states_proj: Option<Linear>,
    /// Positions `[1, positions, width]`.
    pub positional_embedding: Param<Tensor<3>>,
    /// The last token `[1, 1, width]`.
    pub prd_embedding: Option<Param<Tensor<3>>>,
    /// The blocks.
    pub transformer_blocks: Vec<BasicTransformerBlock>,
    /// Normalization before the blocks.
    pub norm_in: Option<LayerNorm>,
    /// Normalization after the blocks.
    pub norm_out: LayerNorm,
    /// From a token to the answer.
    pub proj_to_clip_embeddings: Linear,
    /// Mean of image embeddings `[1, output]`.
    pub clip_mean: Param<Tensor<2>>,
    /// Standard deviation of image embeddings `[1, output]`.
    pub clip_std: Param<Tensor<2>>,
    #[module(skip)]
    config: PriorConfig,
}

impl Prior {
    pub(super) fn new(config: &PriorConfig, device: &Device) -> Result<Self, ModelError> {
        let width = config.width();
        let linear = |input, output| LinearConfig::new(input, output).init(device);
        let norm = |there: bool, width| there.then(|| LayerNormConfig::new(width).init(device)).transpose();
        let block = BasicTransformerBlockConfig::new(width, config.heads, config.head_dim)
            .gate(Gate::None(Activation::Gelu))
            .dropout(config.dropout)
            .attention_bias(true);
        let time = TimestepEmbeddingConfig::new(width, width).activation(config.time_activation);
        let time = TimestepEmbeddingConfig { inner: config.time_width.unwrap_or(width), ..time };
        Ok(Self {
            time_embedding: time.init(device)?,
            proj_in: linear(config.embedding_width, width)?,
            embedding_proj_norm: norm(config.norm_embedding, config.text_width)?,
            embedding_proj: linear(config.text_width, width)?,
            encoder_hidden_states_proj: match config.project_text {
                true => Some(linear(config.embedding_width, width)?),
                false => None,
            },
            positional_embedding: constant([1, config.positions(), width], 0.0, device),
            prd_embedding: config.last_token.then(|| constant([1, 1, width], 0.0, device)),
            transformer_blocks: (0..config.layers).map(|_| block.init(device)).collect::<Result<_, _>>()?,
            norm_in: norm(config.norm_in, width)?,
            norm_out: LayerNormConfig::new(width).init(device)?,
            proj_to_clip_embeddings: linear(width, config.output_width)?,
            clip_mean: constant([1, config.output_width], 0.0, device),
            clip_std: constant([1, config.output_width], 1.0, device),
            config: config.clone(),
        })
    }

    /// Loads a published model folder: `config.json` and `diffusion_pytorch_model.safetensors`.
    ///
    /// # Errors
    ///
    /// Those of [`PriorConfig::from_json`] and of [`read_weights`](crate::weights::read_weights).
    pub fn load(folder: impl AsRef<Path>, load: Load) -> Result<Self, ModelError> {
        let folder = folder.as_ref();
        let config = read_config_file(folder, PriorConfig::from_json)?;
        read_folder(config.init(load.device())?, folder, &load)
    }

    /// Writes a folder that [`load`](Self::load) and diffusers read. Each file is complete or not there.
    ///
    /// # Errors
    ///
    /// [`ModelError::Io`] if a file cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), ModelError> {
        write_folder(self, &PublishedPrior::from(self.config.clone()).to_value(), folder.as_ref())
    }

    /// The configuration it was built from.
    #[must_use]
    pub fn config(&self) -> &PriorConfig {
        &self.config
    }

    /// The image embedding of an answer: `x·clip_std + clip_mean`.
    ///
    /// # Shapes
    ///
    /// - input and output: `[batch, output_width]`
    ///
    /// # Errors
    ///
    /// [`ModelError::Shape`] for another width.
    pub fn post_process(&self, x: Tensor<2>) -> Result<Tensor<2>, ModelError> {
        if x.dims()[1] != self.config.output_width {
            let expected = format!("[batch, {}]", self.config.output_width);
            return Err(ModelError::Shape { what: "x", given: x.dims().to_vec(), expected });
        }
        let dtype = x.dtype();
        Ok(x * self.clip_std.val().cast(dtype) + self.clip_mean.val().cast(dtype))
    }

    /// The forward pass for one embedding a sample, showing the output of every named sub-module to `tap`.
    ///
    /// The condition has the states of the text encoder and as pooled vector the text embedding; it may have a mask.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, embedding_width]`
    /// - time: `[batch]`, or `[1]` for all samples; steps
    /// - output: `[batch, output_width]`
    ///
    /// # Errors
    ///
    /// * [`ModelError::Shape`] for embeddings, times, states or masks of another shape;
    /// * [`ModelError::Rows`], [`ModelError::MissingPart`] and [`ModelError::UnknownPart`] for conditions that do not
    ///   fit.
    pub fn forward_with(
        &self,
        x: Tensor<2>,
        time: Tensor<1>,
        cond: &TextCondition,
        tap: &mut Tap<'_>,
    ) -> Result<Tensor<2>, ModelError> {
        let [batch, _] = x.dims();
        self.check_sample(&x.dims()[1..], &x.dims())?;
        self.check_text(cond)?;
        let cond = cond.for_batch(batch)?;
        let embedding = cond.pooled_of(self.config.text_width)?;
        let y = self.forward_tokens(x.unsqueeze_dim(1), time, embedding, Some((cond.states, cond.mask)), tap)?;
        Ok(y.squeeze_dim(1))
    }

    /// The forward pass for any number of tokens a sample, with a text (states and mask) or without: what networks need
    /// that denoise something else than one embedding.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, tokens, embedding_width]`
    /// - time: `[batch]`, or `[1]` for all samples; steps
    /// - embedding: `[batch, text_width]`
    /// - text: `[batch, text tokens, embedding_width]`, or of the width of the network if it does not project them
    /// - mask: `[batch, text tokens]`
    /// - output: `[batch, tokens, output_width]`, or one token with [`PriorConfig::last_token`]
    ///
    /// # Errors
    ///
    /// [`ModelError::Shape`] for tensors of another shape, or as many tokens as there are no positions for.
    pub fn forward_tokens(
        &self,
        x: Tensor<3>,
        time: Tensor<1>,
        embedding: Tensor<2>,
        text: Option<(Tensor<3>, Option<Tensor<2>>)>,
        tap: &mut Tap<'_>,
    ) -> Result<Tensor<3>, ModelError> {
        let [batch, count, _] = x.dims();
        let time = for_batch(time, batch)?;
        let given = x.dtype();
        let dtype = self.proj_in.weight.val().dtype();
        self.check_tokens(&x, &embedding, text.as_ref())?;
        let (states, mask) = text.map_or((None, None), |(states, mask)| (Some(states), mask));
        let before = states.as_ref().map_or(0, |states| states.dims()[1]);
        let width = self.config.width();
        let features = SinusoidalEmbedding::new(width).cosine_first(true).forward(time).cast(dtype);
        tap.see("time_proj", &features);
        let time = tap.scope("time_embedding", |tap| self.time_embedding.forward(features, tap));
        let mut embedding = embedding.cast(dtype);
        if let Some(norm) = &self.embedding_proj_norm {
            embedding = norm.forward(embedding);
            tap.see("embedding_proj_norm", &embedding);
        }
        let embedding = self.embedding_proj.forward(embedding);
        tap.see("embedding_proj", &embedding);
        let mut tokens = Vec::new();
        if let Some(states) = states {
            let states = states.cast(dtype);
            tokens.push(match &self.encoder_hidden_states_proj {
                Some(layer) => {
                    let y = layer.forward(states);
                    tap.see("encoder_hidden_states_proj", &y);
                    y
                }
                None => states,
            });
        }
        let noisy = self.proj_in.forward(x.cast(dtype));
        tap.see("proj_in", &noisy);
        tokens.extend([embedding.unsqueeze_dim(1), time.unsqueeze_dim(1), noisy]);
        tokens.extend(self.prd_embedding.as_ref().map(|token| token.val().expand([batch, 1, width])));
        let mut h = self.place(Tensor::cat(tokens, 1), before + 2);
        let bias = mask.map(|mask| self.bias(mask.cast(dtype)));
        if let Some(norm) = &self.norm_in {
            h = norm.forward(h);
            tap.see("norm_in", &h);
        }
        for (i, block) in self.transformer_blocks.iter().enumerate() {
            h = tap.scope(format_args!("transformer_blocks.{i}"), |tap| block.forward_self(h, bias.as_ref(), tap));
        }
        let h = self.norm_out.forward(h);
        tap.see("norm_out", &h);
        let [_, all, _] = h.dims();
        let h = if self.config.last_token { h.narrow(1, all - 1, 1) } else { h.narrow(1, before + 2, count) };
        let y = self.proj_to_clip_embeddings.forward(h);
        tap.see("proj_to_clip_embeddings", &y);
        Ok(y.cast(given))
    }

    /// Adds the stored positions. Where there are fewer than tokens, they are those of the noisy tokens, which `before`
    /// others stand before.
    fn place(&self, tokens: Tensor<3>, before: usize) -> Tensor<3> {
        let [batch, all, width] = tokens.dims();
        let positions = self.positional_embedding.val();
        let [_, stored, _] = positions.dims();
        if stored == all {
            return tokens + positions;
        }
        let (first, rest) = (tokens.clone().narrow(1, 0, before), tokens.narrow(1, before, all - before));
        let mut parts = vec![first, rest.clone().narrow(1, 0, stored) + positions];
        if all > before + stored {
            parts.push(rest.narrow(1, stored, all - before - stored));
        }
        Tensor::cat(parts, 1).reshape([batch, all, width])
    }

    /// What a mask of the text adds to scores: hidden tokens, and all behind a token, are not seen.
    fn bias(&self, mask: Tensor<2>) -> Tensor<4> {
        let [batch, _] = mask.dims();
        let (device, dtype) = (mask.device(), mask.dtype());
        let all = self.config.positions();
        let rest = Tensor::ones([batch, self.config.additional], (&device, dtype));
        let hidden = if self.config.additional > 0 { Tensor::cat(vec![mask, rest], 1) } else { mask };
        let later = |i: usize| if i % all > i / all { -10_000.0f32 } else { 0.0 };
        let causal = TensorData::new((0..all * all).map(later).collect(), [1, 1, all, all]);
        let causal = Tensor::<4>::from_data(causal, (&device, DType::F32));
        mask_bias(hidden) + causal.cast(dtype)
    }

    fn check_tokens(
        &self,
        x: &Tensor<3>,
        embedding: &Tensor<2>,
        text: Option<&(Tensor<3>, Option<Tensor<2>>)>,
    ) -> Result<(), ModelError> {
        let config = &self.config;
        let wrong = |what, given: &[usize], expected| Err(ModelError::Shape { what, given: given.to_vec(), expected });
        let [batch, count, width] = x.dims();
        if count == 0 || width != config.embedding_width {
            return wrong("x", &x.dims(), format!("[batch, tokens, {}]", config.embedding_width));
        }
        if embedding.dims() != [batch, config.text_width] {
            return wrong("text embedding", &embedding.dims(), format!("[{batch}, {}]", config.text_width));
        }
        let mut tokens = 0;
        match text {
            Some((states, _)) => {
                let [rows, count, width] = states.dims();
                if rows != batch || count == 0 || width != config.states_width() {
                    let expected = format!("[{batch}, tokens, {}]", config.states_width());
                    return wrong("text states", &states.dims(), expected);
                }
                tokens = count;
            }
            None if config.project_text => {
                return wrong("text states", &[], "a text, whose states this network projects".into());
            }
            None => (),
        }
        let all = tokens + 2 + count + usize::from(config.last_token);
        let stored = config.positions();
        if stored != all && stored + tokens + 2 + usize::from(config.last_token) != all {
            return wrong("tokens", &[batch, all, config.width()], format!("[batch, {stored}, {}]", config.width()));
        }
        if let Some((_, Some(mask))) = text
            && (mask.dims() != [batch, config.tokens] || stored != all || tokens != config.tokens)
        {
            return wrong("mask", &mask.dims(), format!("[{batch}, {}], for as many tokens of text", config.tokens));
        }
        Ok(())
    }

    /// Checks the shape of one sample; `given` is the shape to report.
    fn check_sample(&self, sample: &[usize], given: &[usize]) -> Result<(), ModelError> {
        if sample == [self.config.embedding_width] {
            return Ok(());
        }
        let expected = format!("[batch, {}]", self.config.embedding_width);
        Err(ModelError::Shape { what: "x", given: given.to_vec(), expected })
    }

    fn check_text(&self, cond: &TextCondition) -> Result<(), ModelError> {
        cond.check(self.config.states_width(), &[Part::Mask, Part::Pooled])?;
        cond.pooled_of(self.config.text_width).map(drop)
    }
}

impl Network<2> for Prior {
    type Cond = TextCondition;

    fn forward(&self, x: Tensor<2>, time: Tensor<1>, cond: &TextCondition) -> Result<Tensor<2>, DenoiseError> {
        Ok(self.forward_with(x, time, cond, &mut Tap::none())?)
    }

    fn for_sampling(&self) -> Self {
        self.valid()
    }

    fn casts_input(&self) -> bool {
        true
    }

    fn first_not_finite(
        &self,
        x: Tensor<2>,
        time: Tensor<1>,
        cond: &TextCondition,
    ) -> Result<Option<String>, DenoiseError> {
        Ok(Tap::first_not_finite(|tap| self.forward_with(x, time, cond, tap))?.1)
    }

    fn check_shape(&self, sample: &[usize]) -> Result<(), DenoiseError> {
        Ok(self.check_sample(sample, sample)?)
    }

    fn describe(&self) -> String {
        self.config.to_json()
    }

    fn check_condition(&self, cond: &TextCondition) -> Result<(), DenoiseError> {
        Ok(self.check_text(cond)?)
    }
}
