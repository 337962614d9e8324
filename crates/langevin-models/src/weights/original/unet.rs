//! UNets in the layout of the programs they were trained with: OpenAI's guided-diffusion, and latent diffusion after it.
//!
//! There the blocks are numbered through: `input_blocks` counts the first convolution, every residual block and every
//! downsampling one after the other, `output_blocks` every residual block.

use super::table::{Group, Line, Numbers, Part, SAME, look_up};

const RESNET: &[Line] = &[
    ("norm1", "in_layers.0", Part::Whole),
    ("conv1", "in_layers.2", Part::Whole),
    ("time_emb_proj", "emb_layers.1", Part::Whole),
    ("norm2", "out_layers.0", Part::Whole),
    ("conv2", "out_layers.3", Part::Whole),
    ("conv_shortcut", "skip_connection", Part::Whole),
];

/// A sampler is a convolution, or a residual block that changes the size.
const DOWN: &[Line] = &[("conv", "op", Part::Whole), RESNET[0], RESNET[1], RESNET[2], RESNET[3], RESNET[4], RESNET[5]];
const UP: &[Line] = &[("conv", "conv", Part::Whole), RESNET[0], RESNET[1], RESNET[2], RESNET[3], RESNET[4], RESNET[5]];

/// Attention of pixels with each other; queries, keys and values are one layer.
macro_rules! pixels {
    ($part:path) => {
        &[
            ("group_norm", "norm", Part::Whole),
            ("to_q", "qkv", $part(0)),
            ("to_k", "qkv", $part(1)),
            ("to_v", "qkv", $part(2)),
            ("to_out.0", "proj_out", Part::Whole),
        ]
    };
}

/// The table of a kind of UNet, which differ in what attends.
macro_rules! table {
    ($attention:expr) => {
        &[
            Group { ours: "conv_in", theirs: "input_blocks.0.0", lines: SAME },
            Group { ours: "time_embedding.linear_1", theirs: "time_embed.0", lines: SAME },
            Group { ours: "time_embedding.linear_2", theirs: "time_embed.2", lines: SAME },
            Group { ours: "class_embedding.linear_1", theirs: "label_emb.0.0", lines: SAME },
            Group { ours: "class_embedding.linear_2", theirs: "label_emb.0.2", lines: SAME },
            Group { ours: "class_embedding", theirs: "label_emb", lines: SAME },
            Group { ours: "add_embedding.linear_1", theirs: "label_emb.0.0", lines: SAME },
            Group { ours: "add_embedding.linear_2", theirs: "label_emb.0.2", lines: SAME },
            Group { ours: "down_blocks.{block}.resnets.{layer}", theirs: "input_blocks.{down}.0", lines: RESNET },
            Group {
                ours: "down_blocks.{block}.attentions.{layer}",
                theirs: "input_blocks.{down}.1",
                lines: $attention,
            },
            Group { ours: "down_blocks.{block}.downsamplers.0", theirs: "input_blocks.{downsampler}.0", lines: DOWN },
            Group { ours: "mid_block.resnets.{layer}", theirs: "middle_block.{even}", lines: RESNET },
            Group { ours: "mid_block.attentions.{layer}", theirs: "middle_block.{odd}", lines: $attention },
            Group { ours: "up_blocks.{block}.resnets.{layer}", theirs: "output_blocks.{up}.0", lines: RESNET },
            Group { ours: "up_blocks.{block}.attentions.{layer}", theirs: "output_blocks.{up}.1", lines: $attention },
            Group { ours: "up_blocks.{block}.upsamplers.0", theirs: "output_blocks.{upsampler}.{behind}", lines: UP },
            Group { ours: "conv_norm_out", theirs: "out.0", lines: SAME },
            Group { ours: "conv_out", theirs: "out.2", lines: SAME },
        ]
    };
}

/// Attention to a text has the same names in both layouts.
const TEXT: &[Group] = table!(SAME);
const PIXELS: &[Group] = table!(pixels!(Part::Third));
const PIXELS_BY_HEAD: &[Group] = table!(pixels!(Part::HeadThird));

/// What attends in a UNet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attends {
    /// Transformers that look at a text.
    Text,
    /// Pixels among themselves, with queries, keys and values stored one after the other.
    Pixels,
    /// Pixels among themselves, with queries, keys and values stored head by head.
    PixelsByHead,
}

/// How many of what the blocks of a UNet have.
#[derive(Debug, Clone, Copy, Default)]
struct Block {
    resnets: usize,
    attentions: usize,
    sampler: bool,
}

/// The stored names of the parameters of a UNet, in its own numbering.
pub fn stored_names<'a>(parameters: &[&'a str], attends: Attends) -> Vec<(&'a str, Option<(String, Part)>)> {
    let table = match attends {
        Attends::Text => TEXT,
        Attends::Pixels => PIXELS,
        Attends::PixelsByHead => PIXELS_BY_HEAD,
    };
    let (down, up) = (blocks(parameters, "down_blocks"), blocks(parameters, "up_blocks"));
    let number = |numbers: &mut Numbers| add_numbers(numbers, &down, &up);
    parameters.iter().map(|name| (*name, look_up(table, name, number))).collect()
}

fn blocks(parameters: &[&str], list: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for name in parameters {
        let mut segments = name.split('.');
        if segments.next() != Some(list) {
            continue;
        }
        let mut number = || segments.next().and_then(|segment| segment.parse::<usize>().ok());
        let Some(block) = number() else { continue };
        let (kind, layer) = (segments.next(), segments.next().and_then(|segment| segment.parse::<usize>().ok()));
        let Some(layer) = layer else { continue };
        if blocks.len() <= block {
            blocks.resize(block + 1, Block::default());
        }
        let block = &mut blocks[block];
        match kind {
            Some("resnets") => block.resnets = block.resnets.max(layer + 1),
            Some("attentions") => block.attentions = block.attentions.max(layer + 1),
            Some("downsamplers" | "upsamplers") => block.sampler = true,
            _ => {}
        }
    }
    blocks
}

fn add_numbers(numbers: &mut Numbers, down: &[Block], up: &[Block]) {
    let value = |key: &str| numbers.iter().find(|(name, _)| *name == key).map_or(0, |(_, value)| *value);
    let (block, layer) = (value("{block}"), value("{layer}"));
    let before = |blocks: &[Block], samplers: bool| -> usize {
        let count = |b: &Block| b.resnets + usize::from(samplers && b.sampler);
        blocks.iter().take(block).map(count).sum()
    };
    let of = |blocks: &[Block]| blocks.get(block).copied().unwrap_or_default();
    // The first convolution is input block 0.
    let first_down = 1 + before(down, true);
    let first_up = before(up, false);
    numbers.extend([
        ("{down}", first_down + layer),
        ("{downsampler}", first_down + of(down).resnets),
        ("{even}", 2 * layer),
        ("{odd}", 2 * layer + 1),
        ("{up}", first_up + layer),
        // Upsampling belongs to the last residual block, behind its attention.
        ("{upsampler}", (first_up + of(up).resnets).saturating_sub(1)),
        ("{behind}", 1 + usize::from(of(up).attentions > 0)),
    ]);
}
