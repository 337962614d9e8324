//! What the published configurations of the autoencoders have in common.

use super::coder::{Block, CoderConfig};
use crate::error::{ModelError, told_by_key};
use crate::layers::Activation;
use crate::published::{block_name, name_of, named};

/// Published names of the blocks of a coder.
pub(super) struct BlockNames {
    key: &'static str,
    table: [(&'static str, Block); 2],
    supported: &'static str,
}

pub(super) const DOWN: BlockNames = BlockNames {
    key: "down_block_types",
    table: [("DownEncoderBlock2D", Block::Plain), ("AttnDownEncoderBlock2D", Block::Attention)],
    supported: "DownEncoderBlock2D and AttnDownEncoderBlock2D",
};

pub(super) const UP: BlockNames = BlockNames {
    key: "up_block_types",
    table: [("UpDecoderBlock2D", Block::Plain), ("AttnUpDecoderBlock2D", Block::Attention)],
    supported: "UpDecoderBlock2D and AttnUpDecoderBlock2D",
};

impl BlockNames {
    pub(super) fn read(&self, names: &[String]) -> Result<Vec<Block>, ModelError> {
        names.iter().map(|name| named(self.key, block_name(name), &self.table, self.supported)).collect()
    }

    pub(super) fn write(&self, blocks: &[Block]) -> Vec<String> {
        blocks.iter().filter_map(|block| name_of(block, &self.table)).collect()
    }
}

/// The most groups of four channels or more that all levels can be divided into.
pub(super) fn groups(levels: &[usize]) -> usize {
    let fits = |groups: &usize| levels.iter().all(|c| c.is_multiple_of(*groups) && c / groups >= 4);
    [32, 16, 8, 4, 2].into_iter().find(fits).unwrap_or(1)
}

/// Checks both coders of an autoencoder, whose own fields an error names.
pub(super) fn check_coders(encoder: &CoderConfig, decoder: &CoderConfig) -> Result<(), ModelError> {
    let own = [("blocks", "down"), ("groups", "norm_groups"), ("output", "latent_channels")];
    told_by_key(&own, || encoder.check())?;
    told_by_key(&[("blocks", "up"), ("groups", "norm_groups")], || decoder.check())
}

/// How many pixels a latent stands for along each side, with so many levels.
pub(super) fn scale(levels: usize) -> usize {
    1 << levels.saturating_sub(1).min(31)
}

pub(super) fn activation(name: &str) -> Result<Activation, ModelError> {
    Activation::from_name(name).ok_or_else(|| ModelError::Unsupported {
        key: "act_fn",
        value: name.to_owned(),
        supported: "\"silu\", \"swish\", \"mish\", \"gelu\" and \"relu\"",
    })
}
