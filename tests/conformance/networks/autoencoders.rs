//! Autoencoders: which half of one a case runs is told by its inputs.

use super::{Seen, load, tensor};
use crate::fixture::Case;
use crate::outcome::Outcome;
use langevin::models::{AutoencoderKl, Tap, TinyAutoencoder, VqModel};

/// `AutoencoderKL`: moments of images, or images of latents.
pub fn kl(case: &Case<'_>) -> Outcome {
    let network = load(case, AutoencoderKl::load)?;
    let mut seen = Seen::default();
    let result = if encodes(case) {
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

/// `VQModel`: latents of images, images of latents (quantized first or not), or latents quantized.
pub fn vq(case: &Case<'_>) -> Outcome {
    let network = load(case, VqModel::load)?;
    let mut seen = Seen::default();
    let result = if encodes(case) {
        seen.tap(|tap| network.encode_with(tensor(case, "in.x"), tap)).map(|z| seen.output("out", &z))
    } else if case.fields().contains(&"out.quant".to_owned()) {
        network.quantize(tensor(case, "in.z")).map(|quantized| {
            seen.output("out.quant", &quantized.latents);
            seen.output("out.loss", &quantized.loss);
            seen.values("out.indices", quantized.indices.to_data().iter::<f64>().collect());
        })
    } else {
        let unquantized = case.value["scalars"]["force_not_quantize"].as_bool().unwrap_or(false);
        let decode = if unquantized { VqModel::decode_unquantized } else { VqModel::decode_with };
        let z = tensor(case, "in.z");
        seen.tap(|tap: &mut Tap<'_>| decode(&network, z, tap)).map(|image| seen.output("out", &image))
    };
    if let Err(error) = result {
        case.fail(error.to_string());
    }
    seen.compare(case)
}

/// `AutoencoderTiny`: latents of images, or images of latents.
pub fn tiny(case: &Case<'_>) -> Outcome {
    let network = load(case, TinyAutoencoder::load)?;
    let mut seen = Seen::default();
    let result = if encodes(case) {
        seen.tap(|tap| network.encode_with(tensor(case, "in.x"), tap))
    } else {
        seen.tap(|tap| network.decode_with(tensor(case, "in.z"), tap))
    };
    match result {
        Ok(output) => seen.output("out", &output),
        Err(error) => case.fail(error.to_string()),
    }
    seen.compare(case)
}

fn encodes(case: &Case<'_>) -> bool {
    case.fields().contains(&"in.x".to_owned())
}
