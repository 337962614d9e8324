//! CLIP's text encoder in the layouts of OpenCLIP and of transformers.

use super::table::{Group, Line, Part, SAME, look_up};

const LAYER: &[Line] = &[
    ("layer_norm1", "ln_1", Part::Whole),
    ("layer_norm2", "ln_2", Part::Whole),
    ("mlp.fc1", "mlp.c_fc", Part::Whole),
    ("mlp.fc2", "mlp.c_proj", Part::Whole),
    ("self_attn.out_proj", "attn.out_proj", Part::Whole),
    ("self_attn.q_proj.weight", "attn.in_proj_weight", Part::Third(0)),
    ("self_attn.k_proj.weight", "attn.in_proj_weight", Part::Third(1)),
    ("self_attn.v_proj.weight", "attn.in_proj_weight", Part::Third(2)),
    ("self_attn.q_proj.bias", "attn.in_proj_bias", Part::Third(0)),
    ("self_attn.k_proj.bias", "attn.in_proj_bias", Part::Third(1)),
    ("self_attn.v_proj.bias", "attn.in_proj_bias", Part::Third(2)),
];

const OPEN_CLIP: &[Group] = &[
    Group {
        ours: "text_model.embeddings.position_embedding",
        theirs: "",
        lines: &[("weight", "positional_embedding", Part::Whole)],
    },
    Group { ours: "text_model.embeddings.token_embedding", theirs: "token_embedding", lines: SAME },
    Group { ours: "text_model.final_layer_norm", theirs: "ln_final", lines: SAME },
    Group { ours: "text_model.encoder.layers.{layer}", theirs: "transformer.resblocks.{layer}", lines: LAYER },
    // A plain matrix there, to be multiplied from the right.
    Group { ours: "text_projection", theirs: "", lines: &[("weight", "text_projection", Part::Transposed)] },
];

const TRANSFORMERS: &[Group] = &[Group { ours: "", theirs: "", lines: SAME }];

/// The stored names of the parameters of a text encoder.
pub fn stored_names<'a>(parameters: &[&'a str], open_clip: bool) -> Vec<(&'a str, Option<(String, Part)>)> {
    let table = if open_clip { OPEN_CLIP } else { TRANSFORMERS };
    parameters.iter().map(|name| (*name, look_up(table, name, |_| {}))).collect()
}
