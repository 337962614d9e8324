//! Whole networks of each published kind, and training steps.

use crate::Case;
use crate::probe::{Measured, filled, module, tensor, value};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Tensor};
use langevin::core::Prediction;
use langevin::core::process::{Betas, DiscreteChain};
use langevin::data::digits;
use langevin::models::autoencoder::AutoencoderKlTemporalDecoderConfig;
use langevin::models::control::ControlOptions;
use langevin::models::layers::cast_parameters;
use langevin::models::text::{BertConfig, ByteTextConfig, ClipTextConfig, ClipVisionConfig, T5EncoderConfig, Tokens};
use langevin::models::unet::video::{UNet3dConditionalConfig, UNetMotionConfig, UNetSpatioTemporalConfig};
use langevin::models::{
    AutoencoderKlConfig, ControlNetConfig, Edm2UNetConfig, Labels, T2iAdapterConfig, Tap, Tapped, TextCondition,
    TinyAutoencoderConfig, UNet1dConfig, UNet2d, UNet2dConditionalConfig, UNet2dConfig, VqModelConfig,
};
use langevin::train::{AdamW, EmaDecay, EmaWarmup, Objective, Precision, Trained, Trainer};
use std::path::Path;

const DANCE: &str = include_str!("../fixtures/models/unet1d_dance/config.json");
const PLANNER: &str = include_str!("../fixtures/models/unet1d_rl/config.json");
const VALUE: &str = include_str!("../fixtures/models/unet1d_value/config.json");
const VIDEO: &str = include_str!("../fixtures/models/unet3d/config.json");
const MOTION: &str = include_str!("../fixtures/models/unet_motion/config.json");
const ANIMATION: &str = include_str!("../fixtures/models/unet_svd/config.json");
const DDPM: &str = include_str!("../fixtures/models/unet2d_ddpm/config.json");
const SCALE_SHIFT: &str = include_str!("../fixtures/models/unet2d_class_scale_shift/config.json");
const TIMESTEP: &str = include_str!("../fixtures/models/unet2d_class_embed_timestep/config.json");
const SDXL: &str = include_str!("../fixtures/models/unet_sdxl/config.json");
const IF: &str = include_str!("../fixtures/models/unet_if_simple_cross_attn/config.json");
const CONTROLNET: &str = include_str!("../fixtures/models/controlnet_sd15/config.json");
const ADAPTER: &str = include_str!("../fixtures/models/t2i_adapter/config.json");
const KL: &str = include_str!("../fixtures/models/vae_kl_sd/config.json");
const VQ: &str = include_str!("../fixtures/models/vae_vq_attention/config.json");
const TINY: &str = include_str!("../fixtures/models/vae_tiny/config.json");
const NCSNPP: &str = include_str!("../fixtures/models/unet2d_ncsnpp/config.json");
const CLIP_TEXT: &str = include_str!("../fixtures/models/clip_text_projection/config.json");
const T5: &str = include_str!("../fixtures/models/t5_encoder_v11/config.json");
const CLIP_VISION: &str = include_str!("../fixtures/models/clip_vision_projection/config.json");

fn unet(device: &Device, config: &UNet2dConfig, labels: &Labels) -> Measured {
    let network = config.init(device).expect("a valid configuration");
    let size = config.sample_size.expect("a fixed size");
    module(network, [2, config.in_channels, size[0], size[1]], device, |network, x| {
        let time = Tensor::from_data([0.7, 3.0], &x.device());
        network.forward_with(x, time, labels, &mut Tap::none()).expect("a valid input")
    })
}

fn published(device: &Device, json: &str, labels: &Labels) -> Measured {
    unet(device, &UNet2dConfig::from_json(json).expect("a published configuration"), labels)
}

fn edm2(device: &Device) -> Measured {
    let network = Edm2UNetConfig::new(2, 8, 16).classes(10).init(device).expect("a valid configuration");
    module(network, [2, 2, 8, 8], device, |network, x| {
        let time = Tensor::from_data([-0.7, 0.4], &x.device());
        network.forward_with(x, time, &Labels::of([3, 7]), &mut Tap::none()).expect("a valid input")
    })
}

fn kl(device: &Device) -> Measured {
    let config = AutoencoderKlConfig::from_json(KL).expect("a published configuration");
    module(config.init(device).expect("a valid configuration"), [2, 3, 16, 16], device, |network, x| {
        let posterior = network.encode(x).expect("a valid input");
        network.decode(posterior.mean() + posterior.std()).expect("a valid input")
    })
}

/// Without the codebook: a nearly equal distance may be decided either way.
fn vq(device: &Device, spatial: bool) -> Measured {
    let mut config = VqModelConfig::from_json(VQ).expect("a published configuration");
    if spatial {
        config.spatial = true;
        config.channels = vec![32, 64];
    }
    module(config.init(device).expect("a valid configuration"), [2, 3, 16, 16], device, |network, x| {
        let z = network.encode(x).expect("a valid input");
        network.decode_unquantized(z, &mut Tap::none()).expect("a valid input")
    })
}

fn tiny(device: &Device) -> Measured {
    let config = TinyAutoencoderConfig::from_json(TINY).expect("a published configuration");
    module(config.init(device).expect("a valid configuration"), [2, 3, 16, 16], device, |network, x| {
        network.decode(network.encode(x).expect("a valid input")).expect("a valid input")
    })
}

/// Two texts, the second shorter.
fn texts() -> Tokens {
    Tokens::padded([vec![1, 30, 7, 12, 31], vec![1, 9, 31]], 0).expect("rows of tokens")
}

/// From embedded tokens to the projection of the whole text.
fn clip_text(device: &Device) -> Measured {
    let config = ClipTextConfig::from_json(CLIP_TEXT).expect("a published configuration");
    let network = config.init(device).expect("a valid configuration");
    module(network, [2, 5, config.width], device, |network, x| {
        let output = network.forward_embedded(x, &texts(), &mut Tap::none()).expect("a valid input");
        output.text_embeds.expect("a projection")
    })
}

fn t5(device: &Device) -> Measured {
    let config = T5EncoderConfig::from_json(T5).expect("a published configuration");
    let network = config.init(device).expect("a valid configuration");
    module(network, [2, 5, config.width], device, |network, x| {
        network.forward_embedded(x, &texts(), &mut Tap::none()).expect("a valid input")
    })
}

fn bert(device: &Device) -> Measured {
    let config = BertConfig { epsilon: 1e-5, ..BertConfig::new(40, 24).layers(2).heads(3) };
    let network = config.init(device).expect("a valid configuration");
    module(network, [2, 5, 24], device, |network, x| {
        network.forward_embedded(x, &texts(), &mut Tap::none()).expect("a valid input").last_hidden_state
    })
}

/// Bytes are no input with a gradient: a tensor weighs their states.
fn byte_text(device: &Device) -> Measured {
    let network = ByteTextConfig::new(16).layers(2).heads(2).length(8).init(device).expect("a valid configuration");
    module(network, [2, 4, 16], device, |network, x| network.encode(&["abc", "é"]).expect("valid texts").states * x)
}

fn clip_vision(device: &Device) -> Measured {
    let config = ClipVisionConfig::from_json(CLIP_VISION).expect("a published configuration");
    let network = config.init(device).expect("a valid configuration");
    module(network, [2, config.channels, config.image, config.image], device, |network, x| {
        network.forward(x).expect("a valid input").image_embeds.expect("a projection")
    })
}

fn signals(device: &Device, json: &str, length: usize) -> Measured {
    let config = UNet1dConfig::from_json(json).expect("a published configuration");
    let network = config.init(device).expect("a valid configuration");
    module(network, [2, config.in_channels, length], device, |network, x| {
        let time = Tensor::from_data([0.7, 3.0], &x.device());
        network.forward_with(x, time, &Labels::none(2), &mut Tap::none()).expect("a valid input")
    })
}

fn text_to_video(device: &Device) -> Measured {
    let network = UNet3dConditionalConfig::from_json(&wide(VIDEO))
        .expect("a published configuration")
        .init(device)
        .expect("valid");
    let text = TextCondition::new(tensor([1, 6, 16], 5, device));
    module(network, [1, 4, 3, 8, 8], device, |network, x| {
        let time = Tensor::from_data([30.0], &x.device());
        network.forward_with(x, time, &text, &mut Tap::none()).expect("a valid input")
    })
}

/// With 16 and 32 channels: normalized in groups of one channel and 16 pixels, roundings grow a thousandfold in the gradient, on any
/// device.
fn wide(config: &str) -> String {
    let mut config: serde_json::Value = serde_json::from_str(config).expect("a published configuration");
    config["block_out_channels"] = serde_json::json!([16, 32]);
    config.to_string()
}

fn motion_modules(device: &Device) -> Measured {
    let network =
        UNetMotionConfig::from_json(&wide(MOTION)).expect("a published configuration").init(device).expect("valid");
    let text = TextCondition::new(tensor([1, 6, 16], 5, device));
    module(network, [1, 4, 3, 8, 8], device, |network, x| {
        let time = Tensor::from_data([30.0], &x.device());
        network.forward_with(x, time, &text, &mut Tap::none()).expect("a valid input")
    })
}

fn image_to_video(device: &Device) -> Measured {
    let config = UNetSpatioTemporalConfig::from_json(ANIMATION).expect("a published configuration");
    let told = TextCondition::new(tensor([1, 1, 8], 5, device)).sizes([vec![6.0, 127.0, 0.02]]);
    module(config.init(device).expect("valid"), [1, 2, 8, 8, 8], device, |network, x| {
        let time = Tensor::from_data([1.3], &x.device());
        network.forward_with(x, time, &told, &mut Tap::none()).expect("a valid input")
    })
}

fn videos_of_latents(device: &Device) -> Measured {
    let network = AutoencoderKlTemporalDecoderConfig::new(3, 4, &[32, 32]).init(device).expect("valid");
    module(network.decoder, [3, 4, 4, 4], device, |decoder, z| decoder.forward(z, 3, &mut Tap::none()))
}

fn case(item: &'static str, settings: &'static str, run: fn(&Device) -> Measured) -> Case {
    Case { item, settings, run, limit: None }
}

fn text_conditional(device: &Device, json: &str, cond: fn(&Device) -> TextCondition) -> Measured {
    let config = UNet2dConditionalConfig::from_json(json).expect("a published configuration");
    let network = config.init(device).expect("a valid configuration");
    let cond = cond(device);
    module(network, [2, config.encoder.in_channels, 8, 8], device, move |network, x| {
        let time = Tensor::from_data([3.0, 700.0], &x.device());
        network.forward_with(x, time, &cond, &mut Tap::none()).expect("a valid input")
    })
}

fn controlnet(device: &Device) -> Measured {
    let config = ControlNetConfig::from_json(CONTROLNET).expect("a published configuration");
    let network = config.init(device).expect("a valid configuration");
    let cond = TextCondition::new(tensor([2, 5, 16], 5, device));
    let image = tensor([2, 3, 16, 16], 6, device);
    module(network, [2, 4, 8, 8], device, move |network, x| {
        let time = Tensor::from_data([3.0, 700.0], &x.device());
        let (options, image) = (ControlOptions::default(), Tensor::from_inner(image.clone()));
        let added = network.forward_with(x, time, &cond, image, &options, &mut Tap::none()).expect("a valid input");
        added.mid
    })
}

fn adapter(device: &Device) -> Measured {
    let config = T2iAdapterConfig::from_json(ADAPTER).expect("a published configuration");
    let network = config.init(device).expect("a valid configuration");
    module(network, [2, 3, 16, 16], device, |network, x| {
        network.forward_with(x, &mut Tap::none()).expect("a valid input").remove(1)
    })
}

/// The network of the quickstart: the one whole network for which a slow device has time.
fn quickstart() -> UNet2dConfig {
    UNet2dConfig::images(1, 8).channels(&[32, 64]).layers(1).classes(10).scale_shift(true)
}

/// The network of the training steps: time added, groups of two channels.
fn learner() -> UNet2dConfig {
    UNet2dConfig::images(1, 8).channels(&[16, 32]).layers(1).classes(10).norm_groups(8)
}

/// These two.
pub fn small() -> Vec<Case> {
    vec![
        case("UNet2d", "of the quickstart", |device| unet(device, &quickstart(), &Labels::of([0, 9]))),
        case("UNet2d", "of the training steps", |device| unet(device, &learner(), &Labels::of([0, 9]))),
    ]
}

/// What each module of that network returns, in the order in which they run.
pub fn modules(device: &Device) -> Vec<(String, Measured)> {
    let network = filled(quickstart().init(device).expect("a valid configuration")).valid();
    let x = tensor([2, 1, 8, 8], 4, device);
    let time = Tensor::from_data([10.0, 900.0], device);
    let mut seen = Vec::new();
    let mut look = |name: &str, tapped: Tapped<'_>| {
        let values = tapped.to_data().convert::<f32>().try_to_vec().expect("f32");
        seen.push((name.to_owned(), Measured { values, gradients: Vec::new() }));
    };
    let output = network.forward_with(x, time, &Labels::of([0, 9]), &mut Tap::new(&mut look)).expect("a valid input");
    seen.push(("output".to_owned(), value(output)));
    seen
}

/// The table of the networks of each published kind.
pub fn table() -> Vec<Case> {
    vec![
        case("UNet2d", "DDPM, attention", |d| published(d, DDPM, &Labels::none(2))),
        case("UNet2d", "residual resampling, scale and shift, classes", |d| {
            published(d, SCALE_SHIFT, &Labels::of([3, 7]))
        }),
        case("UNet2dConditional", "SDXL: transformers, sizes, pooled text", |d| {
            text_conditional(d, SDXL, |d| {
                let text = TextCondition::new(tensor([2, 5, 16], 5, d)).pooled(tensor([2, 10], 6, d));
                text.sizes(vec![vec![64.0, 48.0, 0.0, 3.0, 64.0, 64.0]; 2])
            })
        }),
        case("UNet2dConditional", "IF: attention to pixels and text at once", |d| {
            text_conditional(d, IF, |d| TextCondition::new(tensor([2, 5, 10], 5, d)))
        }),
        case("ControlNet", "SD 1.5", controlnet),
        case("T2iAdapter", "full", adapter),
        case("UNet2d", "time as a class", |d| published(d, TIMESTEP, &Labels::values([0.2, 5.0]))),
        case("Edm2UNet", "classes", edm2),
        case("AutoencoderKl", "Stable Diffusion", kl),
        case("VqModel", "attention", |d| vq(d, false)),
        case("VqModel", "MoVQ", |d| vq(d, true)),
        case("TinyAutoencoder", "TAESD", tiny),
        case("UNet1d", "audio: filters, attention, Fourier features", |d| signals(d, DANCE, 32)),
        case("UNet1d", "planner: residual blocks, transposed convolutions", |d| signals(d, PLANNER, 16)),
        case("UNet1d", "value", |d| signals(d, VALUE, 16)),
        case("UNet3dConditional", "convolutions and attention over frames", text_to_video),
        case("UNetMotion", "motion modules", motion_modules),
        case("UNetSpatioTemporal", "mixtures of what frames say alone and together", image_to_video),
        case("TemporalDecoder", "3 frames", videos_of_latents),
        case("UNet2d", "NCSN++, filtered skips, Fourier features", |d| published(d, NCSNPP, &Labels::none(2))),
        case("ClipText", "with projection and mask", clip_text),
        case("ClipVision", "with projection", clip_vision),
        case("T5Encoder", "1.1, masked", t5),
        case("Bert", "masked", bert),
        case("ByteText", "two texts of different lengths", byte_text),
    ]
}

/// In half precision, where the device has it: the distance to the same network in `f32` on the same device.
pub fn half(device: &Device) -> Option<(Measured, Measured)> {
    if !device.supports_dtype(DType::F16) {
        return None;
    }
    let config = UNet2dConfig::images(3, 16).channels(&[32, 64]).layers(1);
    let run = |dtype| {
        let network = filled(config.init(device).expect("a valid configuration")).valid();
        let network = cast_parameters(network, dtype);
        let x = tensor([2, 3, 16, 16], 4, device).cast(dtype);
        let time = Tensor::from_data([10.0, 900.0], device);
        value(network.forward_with(x, time, &Labels::none(2), &mut Tap::none()).expect("a valid input"))
    };
    Some((run(DType::F16), run(DType::F32)))
}

/// The losses of a few steps of training on real digits, with AdamW, clipping and the moving average. Batches, noise
/// and levels come from the host, so every device sees the same.
pub fn training(device: &Device, precision: Precision, steps: u64, folder: Option<&Path>) -> Vec<f32> {
    let trained = trained(device, precision, steps, folder, |trainer| trainer.learning_rate(1e-3).ema(0.9));
    trained.history.iter().map(|(_, loss)| *loss).collect()
}

/// How far the parameters, and their moving average, have gone in a few steps whose length hangs on that of the gradients: AdamW forgets it
/// but for its epsilon, which is large here. Gradients are clipped to less than they are.
pub fn way(device: &Device, precision: Precision) -> [Measured; 2] {
    let rule = AdamW { epsilon: 0.1, weight_decay: 0.0, ..AdamW::default() };
    let decay = EmaDecay { decay: 0.6, warmup: EmaWarmup::None };
    let set = |trainer: Trainer<UNet2d, 4>| trainer.optimizer(rule).learning_rate(0.5).clip_norm(0.05).ema(decay);
    let trained = trained(device, precision, 4, None, set);
    let start = filled(learner().init(device).expect("a valid configuration"));
    [trained.network, trained.ema.expect("an average")].map(|network| {
        let values = parameters(&network).iter().zip(parameters(&start)).map(|(now, before)| now - before).collect();
        Measured { values, gradients: Vec::new() }
    })
}

fn parameters(network: &UNet2d) -> Vec<f32> {
    struct Read(Vec<f32>);
    impl ModuleVisitor for Read {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.extend(param.val().into_data().iter::<f32>());
        }
    }
    let mut read = Read(Vec::new());
    network.visit(&mut read);
    read.0
}

fn trained(
    device: &Device,
    precision: Precision,
    steps: u64,
    folder: Option<&Path>,
    set: impl FnOnce(Trainer<UNet2d, 4>) -> Trainer<UNet2d, 4>,
) -> Trained<UNet2d> {
    let network = filled(learner().init(device).expect("a valid configuration"));
    let chain = DiscreteChain::new(Betas::SquaredCosine, 1000).expect("a chain");
    let objective = Objective::new(chain, Prediction::Velocity).expect("an objective");
    let trainer = set(Trainer::new(network, objective).steps(steps).batch_size(16));
    // Batches are made by a thread of their own.
    let trainer = trainer.precision(precision).workers(1).quiet();
    let trainer = folder.into_iter().fold(trainer, |trainer, folder| trainer.resume(folder));
    trainer.fit(&digits().expect("the digits")).expect("training")
}
