//! Networks for videos.

use super::unet2d_conditional::{condition, numbered};
use super::{Seen, load, optional, tensor, time};
use crate::fixture::Case;
use crate::outcome::Outcome;
use langevin::models::unet::conditional::{ClassInput, ControlResiduals};
use langevin::models::{AutoencoderKlTemporalDecoder, UNet3dConditional, UNetMotion, UNetSpatioTemporal};

fn control(case: &Case<'_>) -> Option<ControlResiduals> {
    let down = numbered(case, "in.down_block_additional_residuals");
    optional(case, "in.mid_block_additional_residual").map(|mid| ControlResiduals { down, mid })
}

pub fn conditional(case: &Case<'_>) -> Outcome {
    let network = load(case, UNet3dConditional::load)?;
    let (x, cond, control) = (tensor(case, "in.sample"), condition(case, ClassInput::None), control(case));
    let mut seen = Seen::default();
    match seen.tap(|tap| network.forward_added(x, time(case), &cond, control.as_ref(), tap)) {
        Ok(output) => seen.output("out.sample", &output),
        Err(error) => case.fail(error.to_string()),
    }
    seen.compare(case)
}

pub fn motion(case: &Case<'_>) -> Outcome {
    let network = load(case, UNetMotion::load)?;
    let (x, control) = (tensor::<5>(case, "in.sample"), control(case));
    // The class is told a text for each frame.
    let cond = condition(case, ClassInput::None).frames(x.dims()[2]);
    let mut seen = Seen::default();
    match seen.tap(|tap| network.forward_added(x, time(case), &cond, control.as_ref(), tap)) {
        Ok(output) => seen.output("out.sample", &output),
        Err(error) => case.fail(error.to_string()),
    }
    seen.compare(case)
}

pub fn spatio_temporal(case: &Case<'_>) -> Outcome {
    let network = load(case, UNetSpatioTemporal::load)?;
    let mut cond = condition(case, ClassInput::None);
    let numbers = case.tensor("in.added_time_ids");
    cond.sizes = numbers.map(|ids| ids.data.chunks(ids.shape[1].max(1)).map(<[f64]>::to_vec).collect());
    let mut seen = Seen::default();
    match seen.tap(|tap| network.forward_with(tensor(case, "in.sample"), time(case), &cond, tap)) {
        Ok(output) => seen.output("out.sample", &output),
        Err(error) => case.fail(error.to_string()),
    }
    seen.compare(case)
}

/// The mode of the latents of images, or images of the latents of one video.
pub fn temporal_decoder(case: &Case<'_>) -> Outcome {
    let network = load(case, AutoencoderKlTemporalDecoder::load)?;
    let mut seen = Seen::default();
    let result = if case.fields().contains(&"in.x".to_owned()) {
        seen.tap(|tap| network.encode_with(tensor(case, "in.x"), tap)).map(|posterior| {
            seen.output("out", &posterior.mode());
            seen.output("out.mean", &posterior.mean());
            seen.output("out.logvar", &posterior.log_variance());
            seen.output("out.std", &posterior.std());
            seen.output("out.mode", &posterior.mode());
        })
    } else {
        let z = tensor::<4>(case, "in.z");
        let rows = z.dims()[0];
        let frames = case.value["scalars"]["num_frames"].as_u64().map_or(rows, |frames| frames as usize);
        seen.tap(|tap| network.decode_with(z, frames, tap)).map(|image| seen.output("out", &image))
    };
    if let Err(error) = result {
        case.fail(error.to_string());
    }
    seen.compare(case)
}
