//! Attention of an image and a text to each other, with projections of their own.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{
    Linear, LinearConfig, RmsNorm, RmsNormConfig, RotaryEmbedding, join_heads, scaled_dot_product_attention,
    split_heads,
};
use crate::error::{ModelError, at_least_one};
use crate::tap::Tap;

/// What a [`JointAttention`] does with the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContextStream {
    /// There is none: attention of tokens to themselves.
    None,
    /// It is attended to, and what it gathers itself is not projected: the last block of a network.
    ReadOnly,
    /// It is attended to, and gathers from the image in turn.
    Both,
}

/// Configuration of a [`JointAttention`].
///
/// # Example
///
/// ```
/// use langevin_models::layers::{ContextStream, JointAttentionConfig};
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let layer = JointAttentionConfig::new(64, 4).context(ContextStream::Both).norm(true).init(&device)?;
/// assert!(layer.add_q_proj.is_some() && layer.norm_added_q.is_some());
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct JointAttentionConfig {
    /// Channels of the image, the text and the output.
    pub channels: usize,
    /// Number of heads, a divisor of the channels.
    pub heads: usize,
    /// What happens with the text. Default: there is none.
    pub context: ContextStream,
    /// Whether queries and keys are divided by their root mean square. Default: `false`.
    pub norm: bool,
    /// Whether the output is projected. Default: `true`.
    pub output: bool,
}

impl JointAttentionConfig {
    /// Attention of tokens to themselves.
    #[must_use]
    pub fn new(channels: usize, heads: usize) -> Self {
        Self { channels, heads, context: ContextStream::None, norm: false, output: true }
    }

    /// Sets what happens with the text.
    #[must_use]
    pub fn context(mut self, context: ContextStream) -> Self {
        self.context = context;
        self
    }

    /// Sets whether queries and keys are divided by their root mean square.
    #[must_use]
    pub fn norm(mut self, norm: bool) -> Self {
        self.norm = norm;
        self
    }

    /// Sets whether the output is projected.
    #[must_use]
    pub fn output(mut self, output: bool) -> Self {
        self.output = output;
        self
    }

    /// Makes the layer.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if a size is zero or the heads do not divide the channels.
    pub fn init(&self, device: &Device) -> Result<JointAttention, ModelError> {
        at_least_one("heads", self.heads)?;
        at_least_one("channels", self.channels)?;
        if !self.channels.is_multiple_of(self.heads) {
            return Err(ModelError::Config {
                field: "heads",
                given: self.heads.to_string(),
                expected: format!("a divisor of the {} channels", self.channels),
            });
        }
        let linear = || LinearConfig::new(self.channels, self.channels).init(device);
        let text = self.context != ContextStream::None;
        let norm = |there: bool| {
            let config = RmsNormConfig::new(self.channels / self.heads);
            (there && self.norm).then(|| config.init(device)).transpose()
        };
        Ok(JointAttention {
            norm_q: norm(true)?,
            norm_k: norm(true)?,
            to_q: linear()?,
            to_k: linear()?,
            to_v: linear()?,
            add_k_proj: text.then(linear).transpose()?,
            add_v_proj: text.then(linear).transpose()?,
            add_q_proj: text.then(linear).transpose()?,
            to_out: self.output.then(linear).transpose()?.into_iter().collect(),
            to_add_out: (self.context == ContextStream::Both).then(linear).transpose()?,
            norm_added_q: norm(text)?,
            norm_added_k: norm(text)?,
            heads: self.heads,
        })
    }
}

/// One attention over the tokens of a text and of an image, each projected by layers of its own. Made by
/// [`JointAttentionConfig::init`].
///
/// # References
///
/// Esser et al. 2024, [arXiv:2403.03206](https://arxiv.org/abs/2403.03206), section 4, figure 2; the norms: section 5.3.2.
#[derive(Module, Debug)]
pub struct JointAttention {
    /// Norm of the queries of the image.
    pub norm_q: Option<RmsNorm>,
    /// Norm of the keys of the image.
    pub norm_k: Option<RmsNorm>,
    /// Projection of the image to queries.
    pub to_q: Linear,
    /// Projection of the image to keys.
    pub to_k: Linear,
    /// Projection of the image to values.
    pub to_v: Linear,
    /// Projection of the text to keys.
    pub add_k_proj: Option<Linear>,
    /// Projection of the text to values.
    pub add_v_proj: Option<Linear>,
    /// Projection of the text to queries.
    pub add_q_proj: Option<Linear>,
    /// Projection of what the image gathers, the only entry of a list as in published weights.
    pub to_out: Vec<Linear>,
    /// Projection of what the text gathers.
    pub to_add_out: Option<Linear>,
    /// Norm of the queries of the text.
    pub norm_added_q: Option<RmsNorm>,
    /// Norm of the keys of the text.
    pub norm_added_k: Option<RmsNorm>,
    heads: usize,
}

/// The projections of one stream, with their names.
struct Stream<'a> {
    names: [&'static str; 5],
    layers: [&'a Linear; 3],
    norms: [Option<&'a RmsNorm>; 2],
    /// Whether norms are shown with tokens before heads, as networks with rotations have them.
    tokens_first: bool,
}

impl Stream<'_> {
    /// Queries, keys and values `[batch, heads, tokens, d]`.
    fn project(&self, x: &Tensor<3>, heads: usize, tap: &mut Tap<'_>) -> [Tensor<4>; 3] {
        let mut project = |i: usize| {
            let y = self.layers[i].forward(x.clone());
            tap.see(self.names[i], &y);
            let y = split_heads(y, heads);
            match self.norms.get(i).copied().flatten() {
                Some(norm) => {
                    let y = norm.forward(y);
                    if self.tokens_first {
                        tap.see(self.names[3 + i], &y.clone().swap_dims(1, 2));
                    } else {
                        tap.see(self.names[3 + i], &y);
                    }
                    y
                }
                None => y,
            }
        };
        [project(0), project(1), project(2)]
    }
}

impl JointAttention {
    /// Attends. Returns what the image gathers, and, where there is a text, what the text gathers. Tokens of the text
    /// come first in `rotary`.
    ///
    /// # Shapes
    ///
    /// - image and its output: `[batch, tokens, channels]`
    /// - text and its output: `[batch, text tokens, channels]`
    pub fn forward(
        &self,
        image: Tensor<3>,
        text: Option<Tensor<3>>,
        rotary: Option<&RotaryEmbedding>,
        tap: &mut Tap<'_>,
    ) -> (Tensor<3>, Option<Tensor<3>>) {
        let stream = Stream {
            names: ["to_q", "to_k", "to_v", "norm_q", "norm_k"],
            layers: [&self.to_q, &self.to_k, &self.to_v],
            norms: [self.norm_q.as_ref(), self.norm_k.as_ref()],
            tokens_first: rotary.is_some(),
        };
        let [_, count, _] = image.dims();
        let mut parts = stream.project(&image, self.heads, tap);
        let added = (text, &self.add_q_proj, &self.add_k_proj, &self.add_v_proj);
        let mut before = 0;
        if let (Some(text), Some(q), Some(k), Some(v)) = added {
            before = text.dims()[1];
            let stream = Stream {
                names: ["add_q_proj", "add_k_proj", "add_v_proj", "norm_added_q", "norm_added_k"],
                layers: [q, k, v],
                norms: [self.norm_added_q.as_ref(), self.norm_added_k.as_ref()],
                tokens_first: rotary.is_some(),
            };
            let [q, k, v] = stream.project(&text, self.heads, tap);
            let [iq, ik, iv] = parts;
            parts = [[q, iq], [k, ik], [v, iv]].map(|both| Tensor::cat(both.into(), 2));
        }
        let [query, key, value] = parts;
        let (query, key) = match rotary {
            Some(rotary) => (rotary.rotate(query), rotary.rotate(key)),
            None => (query, key),
        };
        let all = join_heads(scaled_dot_product_attention(query, key, value));
        let mut y = all.clone().narrow(1, before, count);
        for (i, layer) in self.to_out.iter().enumerate() {
            y = layer.forward(y);
            tap.see(format_args!("to_out.{i}"), &y);
        }
        if before == 0 {
            tap.see("", &y);
            return (y, None);
        }
        let mut gathered = all.narrow(1, 0, before);
        if let Some(layer) = &self.to_add_out {
            gathered = layer.forward(gathered);
            tap.see("to_add_out", &gathered);
        }
        tap.see(0, &y);
        tap.see(1, &gathered);
        (y, Some(gathered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::AttentionConfig;
    use crate::testing::{assert_close, flex, tensor, values};

    fn init(context: ContextStream, norm: bool) -> JointAttention {
        JointAttentionConfig::new(8, 2).context(context).norm(norm).init(&flex()).unwrap()
    }

    #[test]
    fn without_a_text_it_is_attention_to_oneself() {
        let layer = init(ContextStream::None, false);
        let mut plain = AttentionConfig::new(8, 2, 4).init(&flex()).unwrap();
        plain.to_q = layer.to_q.clone();
        plain.to_k = layer.to_k.clone();
        plain.to_v = layer.to_v.clone();
        plain.to_out = layer.to_out.clone();
        let x = tensor([2, 5, 8], 0.3, &flex());
        let (y, none) = layer.forward(x.clone(), None, None, &mut Tap::none());
        assert!(none.is_none());
        assert_close(&y, &values(&plain.forward(x, None, None, &mut Tap::none())), 1e-6);
    }

    /// With the same layers for both streams, text and image are one sequence.
    #[test]
    fn text_and_image_are_one_sequence() {
        for norm in [false, true] {
            let mut joint = init(ContextStream::Both, norm);
            let mut alone = init(ContextStream::None, norm);
            let (norm_q, norm_k) = (joint.norm_q.clone(), joint.norm_k.clone());
            (joint.norm_added_q, joint.norm_added_k) = (norm_q.clone(), norm_k.clone());
            joint.add_q_proj = Some(joint.to_q.clone());
            joint.add_k_proj = Some(joint.to_k.clone());
            joint.add_v_proj = Some(joint.to_v.clone());
            joint.to_add_out = Some(joint.to_out[0].clone());
            (alone.norm_q, alone.norm_k) = (norm_q, norm_k);
            alone.to_q = joint.to_q.clone();
            alone.to_k = joint.to_k.clone();
            alone.to_v = joint.to_v.clone();
            alone.to_out = joint.to_out.clone();
            let (text, image) = (tensor([2, 3, 8], 0.3, &flex()), tensor([2, 5, 8], 0.6, &flex()));
            let places: Vec<[f64; 1]> = (0..8).map(|i| [f64::from(i)]).collect();
            let rotary = RotaryEmbedding::new([4], &places, &flex());
            for rotary in [None, Some(&rotary)] {
                let both = Tensor::cat(vec![text.clone(), image.clone()], 1);
                let (whole, _) = alone.forward(both, None, rotary, &mut Tap::none());
                let (y, gathered) = joint.forward(image.clone(), Some(text.clone()), rotary, &mut Tap::none());
                assert_close(&y, &values(&whole.clone().narrow(1, 3, 5)), 1e-6);
                assert_close(&gathered.unwrap(), &values(&whole.narrow(1, 0, 3)), 1e-6);
            }
        }
    }

    #[test]
    fn queries_and_keys_have_norms_of_their_own() {
        let mut layer = init(ContextStream::None, true);
        // Chosen weights: drawn ones may make a query so small that the norm's epsilon shows.
        layer.to_q.weight = layer.to_q.weight.map(|_| tensor([8, 8], 0.7, &flex()));
        let x = tensor([1, 3, 8], 0.3, &flex());
        let ask = |layer: &JointAttention| values(&layer.forward(x.clone(), None, None, &mut Tap::none()).0);
        let before = ask(&layer);
        // The size of a query does not matter, that of its norm's weight does.
        layer.to_q.weight = layer.to_q.weight.map(|w| w * 3.0);
        layer.to_q.bias = layer.to_q.bias.map(|b| b.map(|b| b * 3.0));
        let after = ask(&layer);
        assert!(before.iter().zip(&after).all(|(a, b)| (a - b).abs() < 1e-5), "{before:?} {after:?}");
        let norm = layer.norm_q.as_mut().unwrap();
        norm.weight = norm.weight.clone().map(|w| w * 3.0);
        assert!(ask(&layer).iter().zip(&after).any(|(a, b)| (a - b).abs() > 1e-4));
    }

    #[test]
    fn refuses_heads_that_do_not_divide() {
        for (channels, heads, name) in [(8, 3, "heads"), (8, 0, "heads"), (0, 2, "channels")] {
            let error = JointAttentionConfig::new(channels, heads).init(&flex()).unwrap_err();
            assert!(matches!(error, ModelError::Config { field, .. } if field == name), "{error}");
        }
    }
}
