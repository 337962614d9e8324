//! Autoencoders in the layout of latent diffusion.

use super::table::{Group, Line, Part, SAME, look_up};

const RESNET: &[Line] = &[("conv_shortcut", "nin_shortcut", Part::Whole), ("", "", Part::Whole)];
const ATTENTION: &[Line] = &[
    ("group_norm", "norm", Part::Whole),
    ("to_q", "q", Part::Whole),
    ("to_k", "k", Part::Whole),
    ("to_v", "v", Part::Whole),
    ("to_out.0", "proj_out", Part::Whole),
];

/// Encoder and decoder are alike, but the decoder's blocks are counted from the finest.
macro_rules! half {
    ($half:literal, $blocks:literal, $stored:literal, $sampler:literal, $stored_sampler:literal) => {
        [
            Group { ours: concat!($half, ".conv_norm_out"), theirs: concat!($half, ".norm_out"), lines: SAME },
            Group {
                ours: concat!($half, ".mid_block.resnets.{layer}"),
                theirs: concat!($half, ".mid.block_{middle}"),
                lines: RESNET,
            },
            Group {
                ours: concat!($half, ".mid_block.attentions.0"),
                theirs: concat!($half, ".mid.attn_1"),
                lines: ATTENTION,
            },
            Group {
                ours: concat!($half, ".", $blocks, ".{block}.resnets.{layer}"),
                theirs: concat!($half, ".", $stored, ".block.{layer}"),
                lines: RESNET,
            },
            Group {
                ours: concat!($half, ".", $blocks, ".{block}.", $sampler, ".0"),
                theirs: concat!($half, ".", $stored, ".", $stored_sampler),
                lines: SAME,
            },
        ]
    };
}

const ENCODER: &[Group] = &half!("encoder", "down_blocks", "down.{block}", "downsamplers", "downsample");
const DECODER: &[Group] = &half!("decoder", "up_blocks", "up.{from_last}", "upsamplers", "upsample");
/// The first and last convolutions.
const REST: &[Group] = &[Group { ours: "", theirs: "", lines: SAME }];

/// The stored names of the parameters of an autoencoder.
pub fn stored_names<'a>(parameters: &[&'a str]) -> Vec<(&'a str, Option<(String, Part)>)> {
    let up = |name: &&str| name.strip_prefix("decoder.up_blocks.")?.split('.').next()?.parse::<usize>().ok();
    let last = parameters.iter().filter_map(up).max().unwrap_or(0);
    let find = |name| {
        [ENCODER, DECODER, REST].into_iter().find_map(|table| {
            look_up(table, name, |numbers| {
                let value = |key: &str| numbers.iter().find(|(name, _)| *name == key).map_or(0, |(_, value)| *value);
                let from_last = last.saturating_sub(value("{block}"));
                // `block_1` and `block_2`, before and behind the attention.
                let middle = value("{layer}") + 1;
                numbers.push(("{from_last}", from_last));
                numbers.push(("{middle}", middle));
            })
        })
    };
    parameters.iter().map(|name| (*name, find(name))).collect()
}
