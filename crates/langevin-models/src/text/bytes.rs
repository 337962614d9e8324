//! A small encoder of text for networks that are trained from nothing.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use langevin_core::Load;
use serde::{Deserialize, Serialize};

use super::attention::table;
use super::tokens::{Sight, Tokens};
use crate::condition::TextCondition;
use crate::error::{ModelError, at_least_one, layer_count, whole_heads};
use crate::layers::{
    Attention, AttentionConfig, DropoutConfig, Embedding, FeedForward, FeedForwardConfig, LayerNorm, LayerNormConfig,
};
use crate::tap::Tap;
use crate::weights::{published_value, read_config, read_config_file, read_folder, write_folder};

/// The name of the class in the configuration file.
const CLASS: &str = "ByteText";
/// Fills rows and is never seen.
const FILL: u32 = 0;
/// Before the first byte, so that a text without bytes is a text.
const START: u32 = 1;
/// The number of the byte 0.
const FIRST: u32 = 2;
/// All of them.
const VOCABULARY: usize = FIRST as usize + 256;

/// Configuration of a [`ByteText`].
///
/// # Example
///
/// ```
/// use langevin_models::text::ByteTextConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let encoder = ByteTextConfig::new(32).layers(1).init(&device)?;
/// let told = encoder.encode(&["a seven", "größer", ""])?;
/// assert_eq!(told.states.dims(), [3, 9, 32]);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ByteTextConfig {
    /// Channels of the states.
    pub width: usize,
    /// Number of layers. Default: `2`.
    pub layers: usize,
    /// Number of heads, a divisor of the width. Default: `4`.
    pub heads: usize,
    /// Bytes of the longest text. Default: `64`.
    pub length: usize,
    /// Probability of dropout between the two layers of each token, in training. Default: `0`.
    pub dropout: f64,
}

impl Default for ByteTextConfig {
    fn default() -> Self {
        Self { width: 64, layers: 2, heads: 4, length: 64, dropout: 0.0 }
    }
}

impl ByteTextConfig {
    /// An encoder of two layers with four heads for texts of 64 bytes.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self { width, ..Self::default() }
    }

    /// Sets the number of layers.
    #[must_use]
    pub fn layers(mut self, layers: usize) -> Self {
        self.layers = layers;
        self
    }

    /// Sets the number of heads.
    #[must_use]
    pub fn heads(mut self, heads: usize) -> Self {
        self.heads = heads;
        self
    }

    /// Sets the number of bytes of the longest text.
    #[must_use]
    pub fn length(mut self, length: usize) -> Self {
        self.length = length;
        self
    }

    /// Sets the probability of dropout.
    #[must_use]
    pub fn dropout(mut self, dropout: f64) -> Self {
        self.dropout = dropout;
        self
    }

    /// Reads a `config.json` as [`ByteText::save`] writes it. Absent keys have their defaults.
    ///
    /// # Errors
    ///
    /// [`ModelError::UnknownKeys`], [`ModelError::BadValue`], [`ModelError::Json`] and [`ModelError::WrongClass`] for
    /// other files; and those of [`init`](Self::init).
    pub fn from_json(json: &str) -> Result<Self, ModelError> {
        let config: Self = read_config(json, CLASS)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ModelError> {
        at_least_one("width", self.width)?;
        layer_count("layers", self.layers)?;
        at_least_one("length", self.length)?;
        whole_heads("heads", self.heads, self.width)?;
        DropoutConfig::new(self.dropout).init()?;
        Ok(())
    }

    /// Makes the encoder.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] if a size is zero, the heads do not divide the width, or the dropout is no probability.
    pub fn init(&self, device: &Device) -> Result<ByteText, ModelError> {
        self.check()?;
        let layer = |_| {
            Ok(ByteLayer {
                norm1: LayerNormConfig::new(self.width).init(device)?,
                attention: AttentionConfig::new(self.width, self.heads, self.width / self.heads).init(device)?,
                norm2: LayerNormConfig::new(self.width).init(device)?,
                feed_forward: FeedForwardConfig::new(self.width).dropout(self.dropout).init(device)?,
            })
        };
        Ok(ByteText {
            tokens: table(VOCABULARY, self.width, 1.0, device),
            positions: table(self.length + 1, self.width, 1.0, device),
            layers: (0..self.layers).map(layer).collect::<Result<_, ModelError>>()?,
            norm: LayerNormConfig::new(self.width).init(device)?,
            config: self.clone(),
        })
    }
}

/// A small transformer over the bytes of a text (UTF-8), whose tokens see one another, with learned positions: for
/// networks that are trained on data of one's own, where captions are short. Made by [`ByteTextConfig::init`].
///
/// It needs no tokenizer and no published weights, and is trained with the network that it tells: make it a field of that
/// network, whose condition are the [`Tokens`].
///
/// # References
///
/// The transformer with normalizations before its layers: Vaswani et al. 2017,
/// [arXiv:1706.03762](https://arxiv.org/abs/1706.03762); Xiong et al. 2020,
/// [arXiv:2002.04745](https://arxiv.org/abs/2002.04745). Bytes as tokens: Xue et al. 2021,
/// [arXiv:2105.13626](https://arxiv.org/abs/2105.13626).
#[derive(Module, Debug)]
pub struct ByteText {
    /// `[tokens, width]`
    pub tokens: Embedding,
    /// `[length + 1, width]`
    pub positions: Embedding,
    /// One after the other.
    pub layers: Vec<ByteLayer>,
    /// Normalization of the last states.
    pub norm: LayerNorm,
    #[module(skip)]
    config: ByteTextConfig,
}

/// A layer of a [`ByteText`].
#[derive(Module, Debug)]
pub struct ByteLayer {
    /// Normalization before attention.
    pub norm1: LayerNorm,
    /// Attention.
    pub attention: Attention,
    /// Normalization before the layers of each token.
    pub norm2: LayerNorm,
    /// Layers of each token.
    pub feed_forward: FeedForward,
}

impl ByteLayer {
    fn forward(&self, x: Tensor<3>, sight: &Sight, tap: &mut Tap<'_>) -> Tensor<3> {
        let h = self.norm1.forward(x.clone());
        let h = tap.scope("attention", |tap| self.attention.forward(h, None, sight.bias.clone(), tap));
        let x = x + h;
        let h = self.norm2.forward(x.clone());
        let y = x + tap.scope("feed_forward", |tap| self.feed_forward.forward(h, tap));
        tap.see("", &y);
        y
    }
}

impl ByteText {
    /// Loads a folder that [`save`](Self::save) wrote.
    ///
    /// # Errors
    ///
    /// [`ModelError::WrongClass`], [`ModelError::UnknownKeys`], [`ModelError::BadValue`] and [`ModelError::Json`] for
    /// configurations that are not of this network, and those of [`read_weights`](crate::weights::read_weights).
    pub fn load(folder: impl AsRef<Path>, load: Load) -> Result<Self, ModelError> {
        let folder = folder.as_ref();
        let config = read_config_file(folder, ByteTextConfig::from_json)?;
        read_folder(config.init(load.device())?, folder, &load)
    }

    /// Writes the configuration and the weights. Each file is complete or not there.
    ///
    /// # Errors
    ///
    /// [`ModelError::Io`] if a file cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), ModelError> {
        write_folder(self, &published_value(&self.config, CLASS), folder.as_ref())
    }

    /// The configuration it was built from.
    #[must_use]
    pub fn config(&self) -> &ByteTextConfig {
        &self.config
    }

    /// The bytes of texts as tokens, behind one token for the start; shorter texts are filled.
    ///
    /// # Errors
    ///
    /// [`ModelError::Shape`] if there is no text or one is too long.
    pub fn tokens<S: AsRef<str>>(&self, texts: &[S]) -> Result<Tokens, ModelError> {
        let longest = self.config.length;
        if let Some(text) = texts.iter().find(|text| text.as_ref().len() > longest) {
            return Err(ModelError::Shape {
                what: "text",
                given: vec![text.as_ref().len()],
                expected: format!("{longest} bytes at most: shorten it, or set a larger `ByteTextConfig::length`"),
            });
        }
        let number = |byte: u8| FIRST + u32::from(byte);
        let rows = texts.iter().map(|text| std::iter::once(START).chain(text.as_ref().bytes().map(number)).collect());
        Tokens::padded(rows, FILL)
    }

    /// The states of texts and which of them are text.
    ///
    /// # Errors
    ///
    /// Those of [`tokens`](Self::tokens).
    pub fn encode<S: AsRef<str>>(&self, texts: &[S]) -> Result<TextCondition, ModelError> {
        self.forward(&self.tokens(texts)?)
    }

    /// The states of tokens, with their mask.
    ///
    /// # Errors
    ///
    /// * [`ModelError::TokenOutOfRange`] for tokens that are no bytes;
    /// * [`ModelError::Shape`] for texts that are too long.
    pub fn forward(&self, tokens: &Tokens) -> Result<TextCondition, ModelError> {
        self.forward_with(tokens, &mut Tap::none())
    }

    /// As [`forward`](Self::forward), showing the output of every named sub-module to `tap`.
    ///
    /// # Errors
    ///
    /// Those of [`forward`](Self::forward).
    pub fn forward_with(&self, tokens: &Tokens, tap: &mut Tap<'_>) -> Result<TextCondition, ModelError> {
        tokens.check(VOCABULARY, Some(self.config.length + 1))?;
        let positions = self.positions.weight.val();
        let (device, dtype) = (positions.device(), positions.dtype());
        let [rows, length, width] = [tokens.rows(), tokens.length(), self.config.width];
        let bytes = self.tokens.forward(tokens.flat(&device)).reshape([rows, length, width]);
        tap.see("tokens", &bytes);
        let mut x = bytes + positions.narrow(0, 0, length).unsqueeze();
        let sight = tokens.sight(false, &device, dtype);
        for (i, layer) in self.layers.iter().enumerate() {
            x = tap.scope(format_args!("layers.{i}"), |tap| layer.forward(x, &sight, tap));
        }
        let states = self.norm.forward(x);
        tap.see("norm", &states);
        // The start is always seen, so no text is without a state.
        Ok(TextCondition::new(states).mask(tokens.mask_tensor(&device).cast(dtype)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{flex, values};
    use burn::tensor::DType;

    fn encoder() -> ByteText {
        ByteTextConfig::new(8).layers(2).heads(2).length(10).init(&flex()).unwrap()
    }

    #[test]
    fn bytes_are_tokens_behind_the_start() {
        let tokens = encoder().tokens(&["ä", "", "abc"]).unwrap();
        assert_eq!(tokens.ids(), [vec![1, 2 + 195, 2 + 164, 0], vec![1, 0, 0, 0], vec![1, 99, 100, 101]]);
        assert_eq!(values(&tokens.mask_tensor(&flex()))[..8], [1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn what_fills_a_row_does_not_matter_and_order_does() {
        let encoder = encoder();
        let alone = values(&encoder.encode(&["ab"]).unwrap().states);
        let both = encoder.encode(&["ab", "abcdef"]).unwrap();
        assert_eq!(values(&both.mask.clone().unwrap())[..7], [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        let row = values(&both.states.narrow(0, 0, 1).narrow(1, 0, 3));
        assert!(alone.iter().zip(&row).all(|(a, b)| (a - b).abs() < 1e-5));
        let turned = values(&encoder.encode(&["ba"]).unwrap().states);
        assert!(alone[..8].iter().zip(&turned[..8]).any(|(a, b)| (a - b).abs() > 1e-3), "the start sees the order");
    }

    #[test]
    fn a_saved_encoder_is_the_same_encoder() {
        let folder = tempfile::tempdir().unwrap();
        let encoder = encoder();
        encoder.save(folder.path()).unwrap();
        let again = ByteText::load(folder.path(), Load::on(&flex())).unwrap();
        assert_eq!(encoder.config(), again.config());
        let states = [&encoder, &again].map(|e| values(&e.encode(&["a", "bc"]).unwrap().states));
        assert_eq!(states[0], states[1]);
        let half = ByteText::load(folder.path(), Load::on(&flex()).dtype(DType::F16)).unwrap();
        let half = half.encode(&["a", "bc"]).unwrap().states;
        assert_eq!(half.dtype(), DType::F16);
        assert!(values(&half).iter().zip(&states[0]).all(|(h, f)| (h - f).abs() < 0.02));
    }

    #[test]
    fn what_does_not_fit_is_a_typed_error() {
        let encoder = encoder();
        let error = encoder.encode(&["a text that is too long"]).unwrap_err();
        assert!(matches!(error, ModelError::Shape { what: "text", .. }), "{error}");
        assert!(matches!(encoder.encode::<&str>(&[]), Err(ModelError::Shape { what: "tokens", .. })));
        let other = Tokens::new([vec![1, 258]]).unwrap();
        assert!(matches!(encoder.forward(&other), Err(ModelError::TokenOutOfRange { token: 258, .. })));
        let long = Tokens::new([vec![1; 12]]).unwrap();
        assert!(matches!(encoder.forward(&long), Err(ModelError::Shape { what: "tokens", .. })));
        for (config, name) in [
            (ByteTextConfig::new(0), "width"),
            (ByteTextConfig::new(8).layers(0), "layers"),
            (ByteTextConfig::new(8).length(0), "length"),
            (ByteTextConfig::new(8).heads(3), "heads"),
        ] {
            let error = config.init(&flex()).unwrap_err();
            assert!(matches!(error, ModelError::Config { field, .. } if field == name), "{name}: {error}");
        }
        assert!(ByteTextConfig::new(8).dropout(1.5).init(&flex()).is_err());
    }
}
