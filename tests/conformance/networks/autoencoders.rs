//! Autoencoders: which half of one a case runs is told by its inputs.

use super::{Seen, load, tensor};
use crate::fixture::Case;
use crate::outcome::Outcome;
use langevin::models::AutoencoderKl;
use langevin::models::autoencoder::AutoencoderKlTemporalDecoder;

/// `AutoencoderKL`: moments of images, or images of latents.
pub fn kl(case: &Case<'_>) -> Outcome {
    let network = load(case, AutoencoderKl::load)?;
    let mut seen = Seen::default();
    let result = if case.fields().contains(&"in.x".to_owned()) {
        seen.tap(|tap| network.encode_with(tensor(case, "in.x"), tap)).map(|posterior| {
            seen.output("out.mean", &posterior.mean());
            seen.output("out.logvar", &posterior.log_variance());
            seen.output("out.std", &posterior.std());
            seen.output("out.mode", &posterior.mode());
        })
    } else {
        seen.tap(|tap| network.decode_with(tensor(case, "in.z"), tap)).map(|image| seen.output("out", &image))
    };
    if let Err(error) = result {
        case.fail(error.to_string());
    }
    seen.compare(case)
}

/// `AutoencoderKLTemporalDecoder`: the mode of the latents of images, or images of the latents of one video.
pub fn temporal(case: &Case<'_>) -> Outcome {
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
