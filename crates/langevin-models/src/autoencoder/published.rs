//! What the published configurations of the autoencoders have in common.

use super::coder::Block;
use crate::error::ModelError;
use crate::layers::Activation;

/// Published names of the blocks of a coder.
pub(super) struct BlockNames {
    key: &'static str,
    plain: &'static str,
    attention: &'static str,
    supported: &'static str,
}

pub(super) const DOWN: BlockNames = BlockNames {
    key: "down_block_types",
    plain: "DownEncoderBlock2D",
    attention: "AttnDownEncoderBlock2D",
    supported: "DownEncoderBlock2D and AttnDownEncoderBlock2D",
};

pub(super) const UP: BlockNames = BlockNames {
    key: "up_block_types",
    plain: "UpDecoderBlock2D",
    attention: "AttnUpDecoderBlock2D",
    supported: "UpDecoderBlock2D and AttnUpDecoderBlock2D",
};

impl BlockNames {
    pub(super) fn read(&self, names: &[String]) -> Result<Vec<Block>, ModelError> {
        let block = |name: &String| {
            // Configurations written before the blocks were renamed.
            let plain = name.strip_prefix("UNetRes").unwrap_or(name);
            if plain == self.plain {
                Ok(Block::Plain)
            } else if plain == self.attention {
                Ok(Block::Attention)
            } else {
                Err(ModelError::Unsupported { key: self.key, value: name.clone(), supported: self.supported })
            }
        };
        names.iter().map(block).collect()
    }

    pub(super) fn write(&self, blocks: &[Block]) -> Vec<String> {
        let name = |block: &Block| match block {
            Block::Plain => self.plain.to_owned(),
            Block::Attention => self.attention.to_owned(),
        };
        blocks.iter().map(name).collect()
    }
}

pub(super) fn activation(name: &str) -> Result<Activation, ModelError> {
    Activation::from_name(name).ok_or_else(|| ModelError::Unsupported {
        key: "act_fn",
        value: name.to_owned(),
        supported: "\"silu\", \"swish\", \"mish\", \"gelu\" and \"relu\"",
    })
}
