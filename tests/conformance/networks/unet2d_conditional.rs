//! The text-conditional UNet.

use super::{Seen, device, load, optional, tensor, time};
use crate::fixture::Case;
use crate::outcome::Outcome;
use burn::tensor::Tensor;
use langevin::models::unet::conditional::{ClassInput, ControlResiduals, Residuals};
use langevin::models::{Labels, TextCondition, UNet2dConditional};

pub fn run(case: &Case<'_>) -> Outcome {
    let network = load(case, UNet2dConditional::load)?;
    let cond = condition(case, network.config().encoder.classes);
    let down = numbered(case, "in.down_block_additional_residuals");
    let mid = optional(case, "in.mid_block_additional_residual");
    let mut residuals =
        Residuals { control: None, features: numbered(case, "in.down_intrablock_additional_residuals") };
    match mid {
        Some(mid) => residuals.control = Some(ControlResiduals { down, mid }),
        // The older way to hand over the features of an adapter.
        None => residuals.features.extend(down),
    }
    let x = tensor::<4>(case, "in.sample");
    let mut seen = Seen::default();
    match seen.tap(|tap| network.forward_added(x, time(case), &cond, &residuals, tap)) {
        Ok(output) => seen.output("out.sample", &output),
        Err(error) => case.fail(error.to_string()),
    }
    seen.compare(case)
}

/// What the fields of a case tell a text-conditional network.
pub fn condition(case: &Case<'_>, classes: ClassInput) -> TextCondition {
    let states = optional::<3>(case, "in.encoder_hidden_states");
    // Networks that look at an image embedding alone are given no states.
    let mut cond = TextCondition::new(states.unwrap_or_else(|| {
        let [rows, _] = tensor::<2>(case, "in.added_cond_kwargs.image_embeds").dims();
        Tensor::zeros([rows, 1, 1], &device())
    }));
    cond.mask = optional(case, "in.encoder_attention_mask");
    cond.pooled = optional(case, "in.added_cond_kwargs.text_embeds");
    cond.image_embedding = optional(case, "in.added_cond_kwargs.image_embeds");
    cond.guidance_embedding = optional(case, "in.timestep_cond");
    if let Some(ids) = case.tensor("in.added_cond_kwargs.time_ids") {
        let width = ids.data.len() / ids.shape[0];
        cond.sizes = Some(ids.data.chunks(width).map(<[f64]>::to_vec).collect());
    }
    if let Some(labels) = case.tensor("in.class_labels") {
        cond.labels = Some(match classes {
            ClassInput::None | ClassInput::Table { .. } => Labels::of(labels.data.iter().map(|l| *l as usize)),
            ClassInput::Timestep => Labels::values(labels.data.iter().copied()),
            _ => Labels::embeddings(tensor(case, "in.class_labels")),
        });
    }
    cond
}

/// The fields `NAME.0`, `NAME.1` and so on.
pub fn numbered(case: &Case<'_>, name: &str) -> Vec<Tensor<4>> {
    (0..).map_while(|i| optional(case, &format!("{name}.{i}"))).collect()
}
