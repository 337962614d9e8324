//! How the network is built.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::Edm2UNet;
use crate::error::{ModelError, at_least_one, layer_count, level_count, positive};
use crate::layers::DropoutConfig;
use crate::weights::{published_value, read_config};

/// The class that this crate writes into configurations. The authors publish none.
const CLASS: &str = "Edm2UNet";

/// Configuration of an [`Edm2UNet`].
///
/// # Example
///
/// ```
/// use langevin_models::unet::Edm2UNetConfig;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// // The published size S, for ImageNet at 512 pixels in the latents of an autoencoder.
/// let config = Edm2UNetConfig::s();
/// assert_eq!((config.channels, config.size, config.classes), (192, 64, 1000));
/// // A small one for digits.
/// let net = Edm2UNetConfig::new(1, 8, 16).classes(10).init(&device)?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Edm2UNetConfig {
    /// Height and width it is meant for; names of parameters contain it. It takes others that its levels can halve.
    pub size: usize,
    /// Channels of images or latents.
    pub image_channels: usize,
    /// Channels of the first level.
    pub channels: usize,
    /// Channels of each level in multiples of `channels`, finest first.
    pub multipliers: Vec<usize>,
    /// Blocks in each level of the encoder; there is one more in the decoder.
    pub blocks: usize,
    /// Levels with attention, 0 being the finest. The block between encoder and decoder always has it.
    pub attention_levels: Vec<usize>,
    /// Channels of an attention head, a divisor of the channels of levels with attention.
    pub head_dim: usize,
    /// Number of classes, or 0 for a network without classes.
    pub classes: usize,
    /// Probability of dropout in blocks.
    pub dropout: f64,
    /// Weight of the class against the noise level in the embedding, from 0 to 1.
    pub label_balance: f64,
    /// Weight of what the encoder kept against what comes from below in the decoder, from 0 to 1.
    pub concat_balance: f64,
    /// Weight of the convolutions of a block against its input, from 0 to 1.
    pub residual_balance: f64,
    /// Weight of attention against its input, from 0 to 1.
    pub attention_balance: f64,
    /// Largest absolute activation that leaves a block.
    pub activation_limit: f64,
}

impl Default for Edm2UNetConfig {
    fn default() -> Self {
        Self::s()
    }
}

impl Edm2UNetConfig {
    /// A network for square images of `size` pixels with `channels` channels at its first level, which doubles at the
    /// second and stays: as many levels as keep the coarsest at 4 pixels or more (four at most), two blocks in each,
    /// attention in the coarsest.
    #[must_use]
    pub fn new(image_channels: usize, size: usize, channels: usize) -> Self {
        let levels = (1..=3).take_while(|l| size.is_multiple_of(1 << l) && size >> l >= 4).count() + 1;
        let mut multipliers = vec![2; levels];
        multipliers[0] = 1;
        let widest = channels.saturating_mul(multipliers[levels - 1]);
        Self {
            size,
            image_channels,
            channels,
            multipliers,
            blocks: 2,
            attention_levels: vec![levels - 1],
            head_dim: [64, 32, 16, 8, 4, 2].into_iter().find(|d| widest.is_multiple_of(*d)).unwrap_or(1),
            classes: 0,
            dropout: 0.0,
            ..Self::published(channels, 0.0)
        }
    }

    /// The published networks: ImageNet at 512 pixels in latents of 64 x 64 x 4, 1000 classes (table 6 of the paper).
    fn published(channels: usize, dropout: f64) -> Self {
        Self {
            size: 64,
            image_channels: 4,
            channels,
            multipliers: vec![1, 2, 3, 4],
            blocks: 3,
            attention_levels: vec![2, 3],
            head_dim: 64,
            classes: 1000,
            dropout,
            label_balance: 0.5,
            concat_balance: 0.5,
            residual_balance: 0.3,
            attention_balance: 0.3,
            activation_limit: 256.0,
        }
    }

    /// EDM2-XS: 125 million parameters.
    #[must_use]
    pub fn xs() -> Self {
        Self::published(128, 0.0)
    }

    /// EDM2-S: 280 million parameters.
    #[must_use]
    pub fn s() -> Self {
        Self::published(192, 0.0)
    }

    /// EDM2-M: 498 million parameters.
    #[must_use]
    pub fn m() -> Self {
        Self::published(256, 0.1)
    }

    /// EDM2-L: 777 million parameters.
    #[must_use]
    pub fn l() -> Self {
        Self::published(320, 0.1)
    }

    /// EDM2-XL: 1.1 billion parameters.
    #[must_use]
    pub fn xl() -> Self {
        Self::published(384, 0.1)
    }

    /// EDM2-XXL: 1.5 billion parameters.
    #[must_use]
    pub fn xxl() -> Self {
        Self::published(448, 0.1)
    }

    /// Makes the network conditional on `count` classes. "No class" needs no row of its own.
    #[must_use]
    pub fn classes(mut self, count: usize) -> Self {
        self.classes = count;
        self
    }

    /// Sets the probability of dropout.
    #[must_use]
    pub fn dropout(mut self, probability: f64) -> Self {
        self.dropout = probability;
        self
    }

    /// Reads a `config.json` as [`Edm2UNet::save`] writes it. Absent keys are those of [`s`](Self::s).
    ///
    /// # Errors
    ///
    /// [`ModelError::UnknownKeys`], [`ModelError::BadValue`], [`ModelError::Json`] and [`ModelError::WrongClass`] for
    /// other files.
    pub fn from_json(json: &str) -> Result<Self, ModelError> {
        let config: Self = read_config(json, CLASS)?;
        config.check()?;
        Ok(config)
    }

    /// The configuration as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        format!("{:#}", self.to_value())
    }

    pub(super) fn to_value(&self) -> serde_json::Value {
        published_value(self, CLASS)
    }

    /// Channels of a level.
    pub(super) fn level_channels(&self, level: usize) -> usize {
        self.channels * self.multipliers[level]
    }

    /// Channels of the embedding: those of the widest level.
    pub(super) fn embedding_width(&self) -> usize {
        self.channels * self.multipliers.iter().max().copied().unwrap_or_default()
    }

    /// Makes the network. Its output is zero until `out_gain` has been trained.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] names the field that does not fit.
    pub fn init(&self, device: &Device) -> Result<Edm2UNet, ModelError> {
        self.check()?;
        Edm2UNet::new(self, device)
    }

    fn check(&self) -> Result<(), ModelError> {
        let refuse = |field, given: String, expected: String| Err(ModelError::Config { field, given, expected });
        at_least_one("size", self.size)?;
        at_least_one("image_channels", self.image_channels)?;
        at_least_one("channels", self.channels)?;
        layer_count("blocks", self.blocks)?;
        at_least_one("head_dim", self.head_dim)?;
        level_count("multipliers", self.multipliers.len())?;
        self.multipliers.iter().try_for_each(|multiplier| at_least_one("multipliers", *multiplier))?;
        let levels = self.multipliers.len();
        let halvings = u32::try_from(levels - 1).unwrap_or(u32::MAX);
        if !1usize.checked_shl(halvings).is_some_and(|step| self.size.is_multiple_of(step)) {
            let expected = format!("a size that {} levels can halve", levels - 1);
            return refuse("size", self.size.to_string(), expected);
        }
        if let Some(level) = self.attention_levels.iter().find(|level| **level >= levels) {
            return refuse("attention_levels", level.to_string(), format!("levels 0 to {}", levels - 1));
        }
        let attended = self.attention_levels.iter().copied().chain([levels - 1]);
        for channels in attended.map(|level| self.level_channels(level)) {
            if !channels.is_multiple_of(self.head_dim) {
                let expected = format!("a divisor of the {channels} channels of a level with attention");
                return refuse("head_dim", self.head_dim.to_string(), expected);
            }
        }
        positive("activation_limit", self.activation_limit)?;
        DropoutConfig::new(self.dropout).init()?;
        for (field, balance) in [
            ("label_balance", self.label_balance),
            ("concat_balance", self.concat_balance),
            ("residual_balance", self.residual_balance),
            ("attention_balance", self.attention_balance),
        ] {
            if !(0.0..=1.0).contains(&balance) {
                return refuse(field, balance.to_string(), "from 0 to 1".into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::flex;
    use crate::weights::parameters;

    #[test]
    fn published_sizes_have_the_published_numbers_of_parameters() {
        for (config, millions) in [
            (Edm2UNetConfig::xs(), 125),
            (Edm2UNetConfig::s(), 280),
            (Edm2UNetConfig::m(), 498),
            (Edm2UNetConfig::l(), 777),
            (Edm2UNetConfig::xl(), 1119),
            (Edm2UNetConfig::xxl(), 1523),
        ] {
            let net = config.init(&flex()).unwrap();
            let trained = parameters(&net).into_iter().filter(|p| !p.name.starts_with("emb_fourier"));
            let count: usize = trained.map(|p| p.shape.iter().product::<usize>()).sum();
            assert_eq!((count as f64 / 1e6).round() as usize, millions, "{}", config.channels);
        }
    }

    #[test]
    fn the_json_form_round_trips() {
        let config = Edm2UNetConfig::new(3, 32, 24).classes(7).dropout(0.2);
        assert_eq!(Edm2UNetConfig::from_json(&config.to_json()).unwrap(), config);
        assert_eq!(Edm2UNetConfig::from_json("{}").unwrap(), Edm2UNetConfig::s());
        let error = Edm2UNetConfig::from_json(r#"{"chanels": 3}"#).unwrap_err();
        assert!(matches!(error, ModelError::UnknownKeys { .. }), "{error}");
        let error = Edm2UNetConfig::from_json(r#"{"_class_name": "UNet2DModel"}"#).unwrap_err();
        assert!(matches!(error, ModelError::WrongClass { .. }), "{error}");
    }

    #[test]
    fn refuses_impossible_values() {
        type Change = fn(&mut Edm2UNetConfig);
        let cases: [(Change, &str); 14] = [
            (|c| c.size = 0, "size"),
            (|c| c.size = 12, "size"),
            (|c| c.image_channels = 0, "image_channels"),
            (|c| c.channels = 0, "channels"),
            (|c| c.blocks = 0, "blocks"),
            (|c| c.head_dim = 0, "head_dim"),
            (|c| c.head_dim = 5, "head_dim"),
            (|c| c.multipliers = vec![], "multipliers"),
            (|c| c.multipliers = vec![1, 0], "multipliers"),
            (|c| c.attention_levels = vec![9], "attention_levels"),
            (|c| c.activation_limit = 0.0, "activation_limit"),
            (|c| c.label_balance = 1.5, "label_balance"),
            (|c| c.residual_balance = f64::NAN, "residual_balance"),
            (|c| c.dropout = 2.0, "dropout"),
        ];
        for (change, name) in cases {
            let mut config = Edm2UNetConfig::new(1, 32, 16);
            change(&mut config);
            let error = config.init(&flex()).unwrap_err();
            assert!(matches!(error, ModelError::Config { field, .. } if field == name), "{name}: {error}");
        }
    }
}
