//! Checkpoints in the layouts of the programs that trained them.
//!
//! Before diffusers, one file held a whole Stable Diffusion, with names of its own: `model.diffusion_model.` before
//! those of the UNet, `first_stage_model.` before those of the autoencoder, `cond_stage_model.` or
//! `conditioner.embedders.` before those of the text encoders. OpenAI's guided-diffusion and consistency models have the same UNet
//! without a beginning. Tables say what is called how; the network's own parameters say how many of each there are.

mod autoencoder;
mod clip;
mod table;
mod unet;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use burn::module::Module;
use langevin_core::Load;

use super::names::{Parameter, parameters};
use super::read::fill;
use super::stored::{Cut, Stored, StoredWeights};
use crate::autoencoder::{AutoencoderKl, AutoencoderKlConfig};
use crate::error::ModelError;
use crate::text::{ClipText, ClipTextConfig};
use crate::unet::conditional::{UNet2dConditional, UNet2dConditionalConfig};
use crate::unet::{UNet2d, UNet2dConfig};
use table::Part;
use unet::Attends;

/// How queries, keys and values are stored in the one layer that makes them.
///
/// The shapes are the same, so a file does not tell: the program that trained it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkvOrder {
    /// All queries, all keys, all values. guided-diffusion with `use_new_attention_order`, consistency models.
    Separate,
    /// The queries, keys and values of one head, then those of the next. guided-diffusion's default, with which its
    /// published models were trained.
    ByHead,
}

impl UNet2d {
    /// Loads a UNet from a file of guided-diffusion or of consistency models into the network that `config` describes.
    ///
    /// # Errors
    ///
    /// Those of [`UNet2dConfig::init`] and of [`read_weights`](crate::weights::read_weights).
    ///
    /// # References
    ///
    /// Dhariwal, Nichol 2021, [arXiv:2105.05233](https://arxiv.org/abs/2105.05233), and
    /// [its program](https://github.com/openai/guided-diffusion), `unet.py`; Song et al. 2023,
    /// [arXiv:2303.01469](https://arxiv.org/abs/2303.01469).
    pub fn load_original(
        path: impl AsRef<Path>,
        config: &UNet2dConfig,
        order: QkvOrder,
        load: Load,
    ) -> Result<Self, ModelError> {
        let attends = match order {
            QkvOrder::Separate => Attends::Pixels,
            QkvOrder::ByHead => Attends::PixelsByHead,
        };
        let names = |ours: &[&str]| owned(unet::stored_names(ours, attends));
        let layout = Layout { beginnings: &["model.diffusion_model."], head: config.head_dim, ignored: &[] };
        read(config.init(load.device())?, path.as_ref(), &load, &layout, names)
    }
}

impl UNet2dConditional {
    /// Loads the UNet of a Stable Diffusion file (1, 2 or XL), or from a file of its own in that layout, into the network
    /// that `config` describes.
    ///
    /// Of a file that also holds the average of its weights over training (`model_ema.`), the weights themselves are
    /// read.
    ///
    /// # Errors
    ///
    /// Those of [`UNet2dConditionalConfig::init`] and of [`read_weights`](crate::weights::read_weights).
    ///
    /// # References
    ///
    /// Rombach et al. 2022, [arXiv:2112.10752](https://arxiv.org/abs/2112.10752), and
    /// [its program](https://github.com/CompVis/latent-diffusion), `ldm/modules/diffusionmodules/openaimodel.py`.
    pub fn load_original(
        path: impl AsRef<Path>,
        config: &UNet2dConditionalConfig,
        load: Load,
    ) -> Result<Self, ModelError> {
        let names = |ours: &[&str]| owned(unet::stored_names(ours, Attends::Text));
        let layout = Layout { beginnings: &["model.diffusion_model."], head: None, ignored: &[] };
        read(config.init(load.device())?, path.as_ref(), &load, &layout, names)
    }
}

impl AutoencoderKl {
    /// Loads an autoencoder from a Stable Diffusion file (1, 2 or XL), or from a file of its own in that layout, into
    /// the network that `config` describes.
    ///
    /// # Errors
    ///
    /// Those of [`AutoencoderKlConfig::init`] and of [`read_weights`](crate::weights::read_weights).
    ///
    /// # References
    ///
    /// Rombach et al. 2022, [arXiv:2112.10752](https://arxiv.org/abs/2112.10752), and
    /// [its program](https://github.com/CompVis/latent-diffusion), `ldm/modules/diffusionmodules/model.py`.
    pub fn load_original(path: impl AsRef<Path>, config: &AutoencoderKlConfig, load: Load) -> Result<Self, ModelError> {
        let names = |ours: &[&str]| owned(autoencoder::stored_names(ours));
        let layout = Layout {
            beginnings: &["first_stage_model.", "vae."],
            head: None,
            // The discriminator and the averages of training.
            ignored: &["loss.", "model_ema."],
        };
        read(config.init(load.device())?, path.as_ref(), &load, &layout, names)
    }
}

impl ClipText {
    /// Loads a text encoder of a Stable Diffusion file (1, 2 or XL) into the network that `config` describes.
    ///
    /// `beginning` says which: `cond_stage_model.` for that of Stable Diffusion 1 and 2, `conditioner.embedders.0.` and
    /// `conditioner.embedders.1.` for the first and second of SDXL, `conditioner.embedders.0.` for that of its refiner.
    /// Below it the file has transformers' names or OpenCLIP's. Of OpenCLIP's the layer after the network's last, whose
    /// states nobody looks at, and a projection that the network does not have may be there too.
    ///
    /// # Errors
    ///
    /// Those of [`ClipTextConfig::init`] and of [`read_weights`](crate::weights::read_weights).
    ///
    /// # References
    ///
    /// Radford et al. 2021, [arXiv:2103.00020](https://arxiv.org/abs/2103.00020);
    /// [OpenCLIP](https://github.com/mlfoundations/open_clip).
    pub fn load_original(
        path: impl AsRef<Path>,
        beginning: &str,
        config: &ClipTextConfig,
        load: Load,
    ) -> Result<Self, ModelError> {
        let stored = StoredWeights::open(path)?;
        let open = format!("{beginning}model.");
        let is_open = stored.iter().any(|(name, _)| name.starts_with(&open));
        let names = |ours: &[&str]| owned(clip::stored_names(ours, is_open));
        let start = if is_open { open } else { format!("{beginning}transformer.") };
        let next = format!("transformer.resblocks.{}.", config.layers);
        let mut ignored = vec!["logit_scale", "attn_mask", "text_model.embeddings.position_ids", &next];
        if config.projection.is_none() {
            ignored.push("text_projection");
        }
        let layout = Layout { beginnings: &[&start], head: None, ignored: &ignored };
        read_from(config.init(load.device())?, stored, &load, &layout, names)
    }
}

/// What a layout says beside its names.
struct Layout<'a> {
    /// What names begin with in files that hold other networks too. Without any of them the file is the network's own.
    beginnings: &'a [&'a str],
    /// Channels of an attention head, or one head with all.
    head: Option<usize>,
    /// Beginnings of the names of tensors that are not the network's.
    ignored: &'a [&'a str],
}

/// Name of a parameter, and its stored name and part if the table has it.
type Named = Vec<(String, Option<(String, Part)>)>;

fn owned(names: Vec<(&str, Option<(String, Part)>)>) -> Named {
    names.into_iter().map(|(ours, theirs)| (ours.to_owned(), theirs)).collect()
}

fn read<M: Module>(
    module: M,
    path: &Path,
    load: &Load,
    layout: &Layout<'_>,
    names: impl Fn(&[&str]) -> Named,
) -> Result<M, ModelError> {
    read_from(module, StoredWeights::open(path)?, load, layout, names)
}

fn read_from<M: Module>(
    module: M,
    stored: StoredWeights,
    load: &Load,
    layout: &Layout<'_>,
    names: impl Fn(&[&str]) -> Named,
) -> Result<M, ModelError> {
    let parameters = parameters(&module);
    let ours: Vec<&str> = parameters.iter().map(|parameter| parameter.name.as_str()).collect();
    let names = names(&ours);
    let tensors = view(&stored, &parameters, &names, layout);
    fill(module, &stored.with(tensors), load)
}

/// The stored tensors under the names and in the shapes of a network. What the network does not take keeps its name.
fn view(
    stored: &StoredWeights,
    parameters: &[Parameter],
    names: &Named,
    layout: &Layout<'_>,
) -> BTreeMap<String, Stored> {
    let begins = |start: &&&str| stored.iter().any(|(name, _)| name.starts_with(**start));
    let start = layout.beginnings.iter().find(begins).copied().unwrap_or("");
    let mut taken = BTreeSet::new();
    let mut tensors = BTreeMap::new();
    for (parameter, (ours, theirs)) in parameters.iter().zip(names) {
        let Some((theirs, part)) = theirs else { continue };
        let theirs = format!("{start}{theirs}");
        let Some(tensor) = stored.get(&theirs) else { continue };
        tensors.insert(ours.clone(), cut(tensor, *part, &parameter.shape, layout.head));
        taken.insert(theirs);
    }
    for (name, tensor) in stored.iter() {
        let Some(rest) = name.strip_prefix(start) else { continue };
        if !taken.contains(name) && !layout.ignored.iter().any(|ignored| rest.starts_with(ignored)) {
            tensors.entry(name.to_owned()).or_insert_with(|| tensor.clone());
        }
    }
    tensors
}

/// A part of a tensor, in the shape of the parameter where that only adds or drops sides of one.
fn cut(tensor: &Stored, part: Part, expected: &[usize], head: Option<usize>) -> Stored {
    let mut shape = tensor.shape.clone();
    let mut third = || match shape.first().copied() {
        Some(rows) if rows % 3 == 0 => {
            shape[0] = rows / 3;
            rows / 3
        }
        _ => 0,
    };
    let cut = match part {
        Part::Whole => Cut::Whole,
        Part::Transposed => {
            shape.reverse();
            Cut::Transposed
        }
        Part::Third(part) => {
            third();
            Cut::Third { part }
        }
        Part::HeadThird(part) => {
            let rows = third();
            Cut::HeadThird { part, head: head.filter(|head| *head > 0 && rows % head == 0).unwrap_or(rows) }
        }
    };
    if trimmed(&shape) == trimmed(expected) {
        shape = expected.to_vec();
    }
    tensor.cut(cut, shape)
}

/// A shape without the sides of one at its end.
fn trimmed(shape: &[usize]) -> &[usize] {
    let end = shape.iter().rposition(|side| *side != 1).map_or(0, |last| last + 1);
    &shape[..end]
}
