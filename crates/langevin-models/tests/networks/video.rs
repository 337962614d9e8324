//! The networks for videos as users meet them: published folders, gradients, texts, and errors.

use std::path::PathBuf;

use crate::common::{assert_gradient_agrees, flex, largest_difference, tensor, values};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Tensor};
use langevin_core::{Condition, Denoiser, Level, Levels, Network, Prediction, Query};
use langevin_models::unet::conditional::ControlResiduals;
use langevin_models::unet::video::{
    MotionAdapterConfig, PerLevel, UNet3dConfig, UNetMotionConfig, UNetSpatioTemporalConfig, VideoLevel,
};
use langevin_models::weights::parameters;
use langevin_models::{
    Load, ModelError, MotionAdapter, Tap, TextCondition, UNet2dConditional, UNet2dConditionalConfig, UNet3dConditional,
    UNetMotion, UNetSpatioTemporal,
};
use serde_json::{Value, json};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/models").join(name)
}

fn config(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixture(name).join("config.json")).unwrap()).unwrap()
}

/// A published configuration with some keys replaced.
fn changed(name: &str, changes: &Value) -> String {
    let mut config = config(name);
    config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    config.to_string()
}

/// One of the three networks, by what they have in common.
#[expect(clippy::large_enum_variant, reason = "a test holds a few")]
enum Net {
    Conditional(UNet3dConditional),
    Motion(UNetMotion),
    SpatioTemporal(UNetSpatioTemporal),
}

/// What a network answers to a condition.
type Ask = dyn Fn(&TextCondition) -> Result<Tensor<5>, ModelError>;

const NAMES: [&str; 3] = ["unet3d", "unet_motion", "unet_svd"];

impl Net {
    fn load(name: &str, load: Load) -> Self {
        Self::load_folder(name, fixture(name), load)
    }

    fn load_folder(name: &str, folder: PathBuf, load: Load) -> Self {
        match name {
            "unet3d" => Self::Conditional(UNet3dConditional::load(folder, load).unwrap()),
            "unet_motion" => Self::Motion(UNetMotion::load(folder, load).unwrap()),
            _ => Self::SpatioTemporal(UNetSpatioTemporal::load(folder, load).unwrap()),
        }
    }

    /// Without dropout, which convolutions over frames have in training.
    fn frozen(self) -> Self {
        match self {
            Self::Conditional(net) => Self::Conditional(net.freeze()),
            Self::Motion(net) => Self::Motion(net.freeze()),
            Self::SpatioTemporal(net) => Self::SpatioTemporal(net.freeze()),
        }
    }

    /// With half of every weight, which is exact in every type.
    fn halved(self) -> Self {
        struct Halve;
        impl ModuleMapper for Halve {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                param.map(|tensor| tensor * 0.5)
            }
        }
        match self {
            Self::Conditional(net) => Self::Conditional(net.map(&mut Halve)),
            Self::Motion(net) => Self::Motion(net.map(&mut Halve)),
            Self::SpatioTemporal(net) => Self::SpatioTemporal(net.map(&mut Halve)),
        }
    }

    fn save(&self, folder: PathBuf) {
        match self {
            Self::Conditional(net) => net.save(folder),
            Self::Motion(net) => net.save(folder),
            Self::SpatioTemporal(net) => net.save(folder),
        }
        .unwrap();
    }

    /// Shape of an example of `rows` videos of three frames.
    fn shape(&self, rows: usize) -> [usize; 5] {
        match self {
            Self::SpatioTemporal(_) => [rows, 3, 8, 4, 4],
            _ => [rows, 4, 3, 4, 4],
        }
    }

    fn told(&self, rows: usize, device: &Device) -> TextCondition {
        match self {
            Self::SpatioTemporal(_) => {
                TextCondition::new(tensor([rows, 1, 8], 0.4, device)).sizes(vec![vec![6.0, 127.0, 0.02]; rows])
            }
            _ => TextCondition::new(tensor([rows, 5, 16], 0.4, device)),
        }
    }

    fn ask(&self, x: Tensor<5>, cond: &TextCondition) -> Result<Tensor<5>, ModelError> {
        let time = Tensor::from_data([30.0], &x.device());
        match self {
            Self::Conditional(net) => net.forward_with(x, time, cond, &mut Tap::none()),
            Self::Motion(net) => net.forward_with(x, time, cond, &mut Tap::none()),
            Self::SpatioTemporal(net) => net.forward_with(x, time, cond, &mut Tap::none()),
        }
    }
}

#[test]
fn saved_networks_are_the_same_networks() {
    let device = flex();
    for name in NAMES {
        let net = Net::load(name, Load::on(&device));
        let folder = tempfile::tempdir().unwrap();
        net.save(folder.path().to_owned());
        let again = Net::load_folder(name, folder.path().to_owned(), Load::on(&device));
        let x = tensor(net.shape(2), 0.3, &device);
        let [a, b] = [&net, &again].map(|net| net.ask(x.clone(), &net.told(2, &device)).unwrap());
        assert_eq!(values(&a), values(&b), "{name}");
        let read = |folder: PathBuf| -> Value {
            serde_json::from_str(&std::fs::read_to_string(folder.join("config.json")).unwrap()).unwrap()
        };
        let (saved, published) = (read(folder.path().to_owned()), read(fixture(name)));
        for (key, value) in published.as_object().unwrap() {
            let same = saved[key] == *value || saved[key].as_f64().is_some_and(|v| value.as_f64() == Some(v));
            assert!(same || key == "_diffusers_version", "{name} {key}: {} instead of {value}", saved[key]);
        }
    }
}

#[test]
fn an_adapter_is_saved_as_it_was() {
    let adapter = MotionAdapter::load(fixture("motion_adapter"), Load::on(&flex())).unwrap();
    let folder = tempfile::tempdir().unwrap();
    adapter.save(folder.path()).unwrap();
    let again = MotionAdapter::load(folder.path(), Load::on(&flex())).unwrap();
    assert_eq!(adapter.config(), again.config());
    let weight = |adapter: &MotionAdapter| values(&adapter.up_blocks[1].motion_modules[1].proj_out.weight.val());
    assert_eq!(weight(&adapter), weight(&again));
}

/// A network for images that the adapter of the fixture fits.
fn images(changes: &Value) -> UNet2dConditional {
    let mut config = json!({
        "_class_name": "UNet2DConditionModel",
        "block_out_channels": [8, 8],
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "attention_head_dim": 2,
        "cross_attention_dim": 6,
    });
    config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    UNet2dConditionalConfig::from_json(&config.to_string()).unwrap().init(&flex()).unwrap()
}

#[test]
fn motion_modules_join_a_network_for_images() {
    let device = flex();
    let unet = images(&json!({}));
    let adapter = MotionAdapter::load(fixture("motion_adapter"), Load::on(&device)).unwrap();
    let mut video = UNetMotion::from_unet2d(&unet, &adapter).unwrap();
    assert_eq!(video.config().motion_max_seq_length, 8);
    // Every parameter is one of the two.
    let stored: Vec<_> = [parameters(&unet), parameters(&adapter)].concat();
    assert_eq!(parameters(&video).len(), stored.len());
    let module = |video: &UNetMotion| values(&video.up_blocks[0].motion_modules[1].proj_in.weight.val());
    assert_eq!(module(&video), values(&adapter.up_blocks[0].motion_modules[1].proj_in.weight.val()));
    let (x, text) = (tensor([1, 4, 3, 4, 4], 0.3, &device), TextCondition::new(tensor([1, 5, 6], 0.4, &device)));
    let time = || Tensor::<1>::from_data([30.0], &device);
    let moved = video.forward(x.clone(), time(), &text).unwrap();
    // Motion modules that add nothing leave the network for images, on every frame.
    for block in video.down_blocks.iter_mut().chain([&mut video.mid_block]).chain(&mut video.up_blocks) {
        for module in &mut block.motion_modules {
            module.proj_out.weight = module.proj_out.weight.clone().map(|t| t * 0.0);
            module.proj_out.bias = module.proj_out.bias.take().map(|bias| bias.map(|t| t * 0.0));
        }
    }
    let still = video.forward(x.clone(), time(), &text).unwrap();
    assert!(largest_difference(&still, &moved) > 1e-3);
    for frame in 0..3 {
        let image = x.clone().narrow(2, frame, 1).reshape([1, 4, 4, 4]);
        let alone = unet.forward(image, time(), &text).unwrap();
        let given = still.clone().narrow(2, frame, 1).reshape([1, 4, 4, 4]);
        assert!(largest_difference(&given, &alone) < 1e-4, "frame {frame}");
    }
}

#[test]
fn an_adapter_may_bring_channels() {
    let config = |channels| {
        let json = changed("motion_adapter", &json!({"conv_in_channels": channels}));
        MotionAdapterConfig::from_json(&json).unwrap().init(&flex()).unwrap()
    };
    let (unet, adapter) = (images(&json!({})), config(9));
    let video = UNetMotion::from_unet2d(&unet, &adapter).unwrap();
    assert_eq!(video.config().in_channels, 9);
    let weight = video.conv_in.weight.val();
    assert_eq!(weight.dims(), [8, 9, 3, 3]);
    assert_eq!(values(&weight.clone().narrow(1, 0, 4)), values(&unet.conv_in.weight.val()));
    let own = adapter.conv_in.unwrap().weight.val();
    assert_eq!(values(&weight.narrow(1, 4, 5)), values(&own.narrow(1, 4, 5)));
    assert_eq!(values(&video.conv_in.bias.unwrap().val()), values(&unet.conv_in.bias.clone().unwrap().val()));
    let error = UNetMotion::from_unet2d(&unet, &config(3)).unwrap_err();
    assert!(matches!(error, ModelError::Config { field: "conv_in_channels", .. }), "{error}");
}

#[test]
fn networks_and_adapters_that_do_not_fit_are_errors() {
    let adapter = |changes| {
        let json = changed("motion_adapter", &changes);
        MotionAdapterConfig::from_json(&json).unwrap().init(&flex()).unwrap()
    };
    let plain = || adapter(json!({}));
    for (unet, adapter, expected) in [
        (images(&json!({})), adapter(json!({"block_out_channels": [8]})), "block_out_channels"),
        (images(&json!({})), adapter(json!({"motion_layers_per_block": 2})), "motion_layers_per_block"),
        (images(&json!({})), adapter(json!({"motion_norm_num_groups": 2})), "motion_norm_num_groups"),
        (images(&json!({"class_embed_type": "timestep"})), plain(), "class_embed_type"),
        (images(&json!({"resnet_time_scale_shift": "scale_shift"})), plain(), "resnet_time_scale_shift"),
        (images(&json!({"conv_out_kernel": 1})), plain(), "conv_out_kernel"),
        (images(&json!({"flip_sin_to_cos": false})), plain(), "flip_sin_to_cos"),
    ] {
        match UNetMotion::from_unet2d(&unet, &adapter).unwrap_err() {
            ModelError::Config { field, .. } => assert_eq!(field, expected),
            ModelError::Unsupported { key, .. } => assert_eq!(key, expected),
            other => panic!("{expected}: {other}"),
        }
    }
    let error = UNetMotion::from_unet2d(&images(&json!({"block_out_channels": [8, 16]})), &plain()).unwrap_err();
    assert!(matches!(error, ModelError::Config { field: "block_out_channels", .. }), "{error}");
}

#[test]
fn a_control_net_adds_to_what_the_way_up_takes() {
    let device = flex();
    let net = UNet3dConditional::load(fixture("unet3d"), Load::on(&device)).unwrap();
    let (x, text) = (tensor([1, 4, 3, 4, 4], 0.3, &device), TextCondition::new(tensor([1, 5, 16], 0.4, &device)));
    let time = || Tensor::<1>::from_data([30.0], &device);
    let control = |scale: f64| {
        let residual = |shape: [usize; 4]| tensor(shape, 0.7, &device) * scale;
        let down = vec![residual([3, 4, 4, 4]), residual([3, 4, 4, 4]), residual([3, 4, 2, 2]), residual([3, 8, 2, 2])];
        ControlResiduals { down, mid: residual([3, 8, 2, 2]) }
    };
    let ask = |control: &ControlResiduals| net.forward_added(x.clone(), time(), &text, Some(control), &mut Tap::none());
    let plain = net.forward(x.clone(), time(), &text).unwrap();
    assert!(largest_difference(&ask(&control(0.0)).unwrap(), &plain) < 1e-6);
    assert!(largest_difference(&ask(&control(0.5)).unwrap(), &plain) > 1e-3);
    let mut few = control(0.5);
    few.down.pop();
    assert!(matches!(ask(&few), Err(ModelError::Shape { what: "control residuals", .. })));
    let mut small = control(0.5);
    small.mid = Tensor::zeros([3, 8, 4, 4], &device);
    assert!(matches!(ask(&small), Err(ModelError::Shape { what: "control residuals", .. })));
}

#[test]
fn a_distilled_network_is_told_its_guidance() {
    let device = flex();
    for (name, told) in [("unet3d", true), ("unet_motion", false)] {
        let json = changed(name, &json!({"time_cond_proj_dim": 6}));
        let (x, text) = (tensor([1, 4, 3, 4, 4], 0.3, &device), TextCondition::new(tensor([1, 5, 16], 0.4, &device)));
        let time = Tensor::<1>::from_data([30.0], &device);
        let ask: Box<Ask> = if told {
            let net = UNet3dConfig::from_json(&json).unwrap().init(&device).unwrap();
            Box::new(move |cond| net.forward_with(x.clone(), time.clone(), cond, &mut Tap::none()))
        } else {
            let net = UNetMotionConfig::from_json(&json).unwrap().init(&device).unwrap();
            Box::new(move |cond| net.forward_with(x.clone(), time.clone(), cond, &mut Tap::none()))
        };
        let [weak, strong] = [1.5, 8.0].map(|scale| ask(&text.clone().guidance([scale])).unwrap());
        assert!(largest_difference(&weak, &strong) > 1e-5, "{name}");
        assert!(matches!(ask(&text), Err(ModelError::MissingPart { part: "guidance" })), "{name}");
    }
}

#[test]
fn half_precision_is_close_to_single() {
    let device = flex();
    for name in NAMES {
        // With its whole weights the first of them carries a rounding of its input up to a hundred times further: in half
        // precision the original is 2 to 8 % off there.
        let net = Net::load(name, Load::on(&device)).halved();
        let x = tensor(net.shape(1), 0.3, &device);
        let expected = values(&net.ask(x.clone(), &net.told(1, &device)).unwrap());
        for (dtype, bound) in [(DType::F16, 0.01), (DType::BF16, 0.06)] {
            let half = Net::load(name, Load::on(&device).dtype(dtype)).halved();
            let given = half.ask(x.clone(), &half.told(1, &device)).unwrap();
            assert_eq!(given.dtype(), DType::F32);
            let error: f64 = values(&given).iter().zip(&expected).map(|(g, e)| (g - e).powi(2)).sum();
            let size: f64 = expected.iter().map(|e| e * e).sum();
            let relative = (error / size).sqrt();
            assert!(relative > 0.0 && relative < bound, "{name} {dtype:?}: {relative}");
        }
    }
}

#[test]
fn gradients_agree_with_differences() {
    for name in NAMES {
        let shape = Net::load(name, Load::on(&flex())).shape(1);
        assert_gradient_agrees(shape, |device| {
            let net = Net::load(name, Load::on(device).dtype(DType::F64)).frozen();
            let told = net.told(1, device);
            // These small networks bend so strongly that the differences must be closer than the helper's: a step of it
            // is a shorter one around the same input.
            let near = tensor(shape, 0.77, device).cast(DType::F64) * 0.997;
            move |x| net.ask(x * 0.003 + near.clone(), &told).unwrap()
        });
    }
}

#[test]
fn one_text_serves_all_videos_and_each_video_sees_its_own() {
    let device = flex();
    for name in NAMES {
        let net = Net::load(name, Load::on(&device));
        let x = tensor(net.shape(2), 0.3, &device);
        let told = net.told(2, &device);
        let both = net.ask(x.clone(), &told).unwrap();
        let mut first = told.clone();
        first.states = told.states.clone().narrow(0, 0, 1);
        first.sizes = told.sizes.clone().map(|sizes| sizes[..1].to_vec());
        let alone = net.ask(x.clone().narrow(0, 0, 1), &first).unwrap();
        assert!(largest_difference(&alone, &both.clone().narrow(0, 0, 1)) < 1e-4, "{name}");
        let repeated = net.ask(x, &first).unwrap();
        assert!(largest_difference(&repeated.clone().narrow(0, 0, 1), &both.clone().narrow(0, 0, 1)) < 1e-4, "{name}");
        assert!(largest_difference(&repeated, &both) > 1e-4, "{name}: the text has no influence");
    }
}

#[test]
fn a_text_for_each_frame_is_a_text_for_each_frame() {
    let device = flex();
    let net = Net::load("unet_motion", Load::on(&device));
    let x = tensor(net.shape(2), 0.3, &device);
    let told = net.told(2, &device);
    let frames: Vec<_> = (0..6).map(|row| told.states.clone().narrow(0, row / 3, 1)).collect();
    let each = TextCondition::new(Tensor::cat(frames.clone(), 0));
    let expected = net.ask(x.clone(), &told).unwrap();
    assert!(largest_difference(&net.ask(x.clone(), &each).unwrap(), &expected) < 1e-5);
    let mut other = frames;
    other[4] = other[4].clone() * -1.0;
    let given = net.ask(x, &TextCondition::new(Tensor::cat(other, 0))).unwrap();
    assert!(largest_difference(&given, &expected) > 1e-4);
}

#[test]
fn the_image_stands_behind_every_frame() {
    let device = flex();
    let net = UNetSpatioTemporal::load(fixture("unet_svd"), Load::on(&device)).unwrap();
    let told = Net::load("unet_svd", Load::on(&device)).told(1, &device);
    let (noisy, image) = (tensor([1, 3, 4, 4, 4], 0.3, &device), tensor([1, 4, 4, 4], 0.8, &device));
    let time = Tensor::<1>::from_data([1.3], &device);
    let whole = Tensor::cat(vec![noisy.clone(), image.clone().reshape([1, 1, 4, 4, 4]).expand([1, 3, 4, 4, 4])], 2);
    let expected = net.forward(whole, time.clone(), &told).unwrap();
    let given = net.forward(noisy.clone(), time.clone(), &told.clone().image(image)).unwrap();
    assert!(largest_difference(&given, &expected) < 1e-6);
    net.check_shape(&[3, 4, 4, 4]).unwrap();
    let error = net.forward_with(noisy.clone(), time.clone(), &told, &mut Tap::none()).unwrap_err();
    assert!(matches!(error, ModelError::MissingPart { part: "image" }), "{error}");
    let wide = told.image(tensor([1, 5, 4, 4], 0.8, &device));
    let error = net.forward_with(noisy, time, &wide, &mut Tap::none()).unwrap_err();
    assert!(matches!(error, ModelError::Shape { what: "image", .. }), "{error}");
}

#[test]
fn a_guided_video_extrapolates_from_the_empty_text() {
    let device = flex();
    let net = UNet3dConditional::load(fixture("unet3d"), Load::on(&device)).unwrap();
    let x = tensor([1, 4, 3, 4, 4], 0.3, &device);
    let text = |seed| TextCondition::new(tensor([1, 5, 16], seed, &device));
    let levels = Levels::Shared(Level { alpha: 0.8, sigma: 0.6, time: 500.0 });
    let noise = langevin_core::noise::Seeded::new(1);
    let ask = |denoiser: &dyn Denoiser<5>| {
        let query = Query { x: x.clone(), levels: &levels, past: &[], noise: &noise };
        denoiser.denoise(query).unwrap().output()
    };
    let bound = |seed| net.denoiser(Prediction::Epsilon, text(seed)).unwrap();
    let (with, without) = (ask(&bound(0.2)), ask(&bound(0.9)));
    let guided = ask(&bound(0.2).guided(text(0.9), 3.0).unwrap());
    assert!(largest_difference(&guided, &(without.clone() + (with - without) * 3.0)) < 1e-4);
    assert_eq!(TextCondition::cat(&[&text(0.1), &text(0.2)]).unwrap().rows(), Some(2));
}

#[test]
fn gradients_reach_every_parameter() {
    let device = flex().autodiff();
    for name in NAMES {
        let net = Net::load(name, Load::on(&device));
        let y = net.ask(tensor(net.shape(2), 0.3, &device), &net.told(2, &device)).unwrap();
        let gradients = (y.clone() * tensor(y.dims(), 0.9, &device)).sum().backward();
        let found = match &net {
            Net::Conditional(net) => crate::common::gradients(net, &gradients),
            Net::Motion(net) => crate::common::gradients(net, &gradients),
            Net::SpatioTemporal(net) => crate::common::gradients(net, &gradients),
        };
        assert!(found.len() > 50, "{name}: only {} parameters are trained", found.len());
        assert!(found.iter().all(|(name, _)| !name.ends_with("pos_embed.pe")), "positions are not trained");
        for (parameter, largest) in found {
            // A single token gets all the weight: what asks for it has no influence.
            let single = name == "unet_svd" && (parameter.contains("attn2.to_q") || parameter.contains("attn2.to_k"));
            let single = single || name == "unet_svd" && parameter.contains("norm2.") && parameter.contains("blocks.");
            assert!(single || largest.is_some_and(|g| g > 1e-12), "{name} {parameter}: {largest:?}");
        }
    }
}

#[test]
fn what_does_not_fit_is_a_typed_error() {
    let device = flex();
    for name in NAMES {
        let net = Net::load(name, Load::on(&device));
        let told = net.told(1, &device);
        let good = net.shape(1);
        for axis in 1..5 {
            let mut shape = good;
            shape[axis] = if shape[axis] == 3 || axis > 2 { 0 } else { 9 };
            let error = net.ask(Tensor::zeros(shape, &device), &told).unwrap_err();
            assert!(matches!(error, ModelError::Shape { what: "x", .. }), "{name} {shape:?}: {error}");
        }
        let x = || Tensor::zeros(good, &device);
        let mut wide = told.clone();
        wide.states = tensor([1, 5, 7], 0.4, &device);
        assert!(matches!(net.ask(x(), &wide), Err(ModelError::Shape { what: "text states", .. })), "{name}");
        assert!(matches!(net.ask(x(), &net.told(2, &device)), Err(ModelError::Rows { given: 2, .. })), "{name}");
        let pooled = told.clone().guidance([3.0]);
        assert!(matches!(net.ask(x(), &pooled), Err(ModelError::UnknownPart { part: "guidance" })), "{name}");
    }
    let net = Net::load("unet_svd", Load::on(&device));
    let mut told = net.told(1, &device);
    told.sizes = None;
    let error = net.ask(Tensor::zeros(net.shape(1), &device), &told).unwrap_err();
    assert!(matches!(error, ModelError::MissingPart { part: "sizes" }), "{error}");
    // More frames than positions.
    let net = Net::load("unet_motion", Load::on(&device));
    let error = net.ask(Tensor::zeros([1, 4, 9, 4, 4], &device), &net.told(1, &device)).unwrap_err();
    assert!(error.to_string().contains("1 to 8 frames"), "{error}");
}

#[test]
fn impossible_configurations_are_named() {
    let name_of = |error: ModelError| match error {
        ModelError::Config { field, .. } => field.to_owned(),
        ModelError::Unsupported { key, .. } => key.to_owned(),
        ModelError::BadValue { key, .. } => key,
        ModelError::UnknownKeys { keys, .. } => keys.concat(),
        other => panic!("{other}"),
    };
    let shared = [
        (json!({"in_channels": 0}), "in_channels"),
        (json!({"out_channels": 0}), "out_channels"),
        (json!({"block_out_channels": [32, 32, 32]}), "down_block_types"),
        (json!({"down_block_types": ["DownBlock2D", "DownBlock2D"]}), "down_block_types"),
        (json!({"up_block_types": []}), "up_block_types"),
        (json!({"layers_per_block": 0}), "layers_per_block"),
        (json!({"cross_attention_dim": 0}), "cross_attention_dim"),
        (json!({"unknown": 1}), "unknown"),
    ];
    let pixels = [
        (json!({"block_out_channels": [4, 6]}), "block_out_channels"),
        (json!({"norm_num_groups": 0}), "norm_num_groups"),
        (json!({"norm_eps": 0.0}), "norm_eps"),
        (json!({"downsample_padding": 2}), "downsample_padding"),
        (json!({"mid_block_scale_factor": 0.0}), "mid_block_scale_factor"),
        (json!({"act_fn": "tanh"}), "act_fn"),
        (json!({"time_cond_proj_dim": 1}), "time_cond_proj_dim"),
    ];
    type Read = fn(&str) -> Result<(), ModelError>;
    let read: [(&str, Read); 3] = [
        ("unet3d", |json| UNet3dConfig::from_json(json).map(drop)),
        ("unet_motion", |json| UNetMotionConfig::from_json(json).map(drop)),
        ("unet_svd", |json| UNetSpatioTemporalConfig::from_json(json).map(drop)),
    ];
    let own = [
        vec![
            (json!({"attention_head_dim": 0}), "attention_head_dim"),
            (json!({"attention_head_dim": 5}), "attention_head_dim"),
            (json!({"num_attention_heads": 2}), "num_attention_heads"),
        ],
        vec![
            (json!({"num_attention_heads": [1]}), "num_attention_heads"),
            (json!({"num_attention_heads": 5}), "num_attention_heads"),
            (json!({"motion_num_attention_heads": 0}), "motion_num_attention_heads"),
            (json!({"motion_max_seq_length": 0}), "motion_max_seq_length"),
            (json!({"transformer_layers_per_block": 0}), "transformer_layers_per_block"),
            (json!({"transformer_layers_per_block": [[1, 1], 1]}), "transformer_layers_per_block"),
            (json!({"temporal_transformer_layers_per_block": [1]}), "temporal_transformer_layers_per_block"),
            (json!({"transformer_layers_per_mid_block": [1, 1]}), "transformer_layers_per_mid_block"),
            (json!({"cross_attention_dim": [16, 8]}), "cross_attention_dim"),
            (json!({"addition_embed_type": "text"}), "addition_embed_type"),
            (json!({"addition_embed_type": "text_time"}), "addition_time_embed_dim"),
            (json!({"encoder_hid_dim": 4}), "encoder_hid_dim"),
            (json!({"encoder_hid_dim_type": "ip_image_proj"}), "encoder_hid_dim_type"),
            (json!({"reverse_motion_num_attention_heads": 2}), "reverse_motion_num_attention_heads"),
        ],
        vec![
            (json!({"block_out_channels": [48]}), "block_out_channels"),
            (json!({"addition_time_embed_dim": 5}), "projection_class_embeddings_input_dim"),
            (json!({"addition_time_embed_dim": 1}), "addition_time_embed_dim"),
            (json!({"num_attention_heads": 3}), "num_attention_heads"),
            (json!({"transformer_layers_per_block": 0}), "transformer_layers_per_block"),
            (json!({"num_frames": 0}), "num_frames"),
        ],
    ];
    for ((name, read), own) in read.iter().zip(own) {
        read(&changed(name, &json!({}))).unwrap();
        let pixels = if *name == "unet_svd" { &[][..] } else { &pixels[..] };
        for (changes, expected) in shared.iter().chain(pixels).chain(&own) {
            let error = read(&changed(name, changes)).unwrap_err();
            assert_eq!(name_of(error), *expected, "{name}: {changes}");
        }
        assert!(matches!(read(&changed(name, &json!({"_class_name": "Other"}))), Err(ModelError::WrongClass { .. })));
    }
    let read = |changes| {
        let json = changed("motion_adapter", &changes);
        name_of(MotionAdapterConfig::from_json(&json).unwrap_err())
    };
    for (changes, expected) in [
        (json!({"block_out_channels": []}), "block_out_channels"),
        (json!({"block_out_channels": [8, 6]}), "block_out_channels"),
        (json!({"motion_num_attention_heads": [2]}), "motion_num_attention_heads"),
        (json!({"motion_num_attention_heads": 9}), "motion_num_attention_heads"),
        (json!({"motion_max_seq_length": 0}), "motion_max_seq_length"),
        (json!({"motion_norm_num_groups": 0}), "motion_norm_num_groups"),
        (json!({"conv_in_channels": 0}), "conv_in_channels"),
        (json!({"motion_transformer_layers_per_block": 0}), "motion_transformer_layers_per_block"),
    ] {
        assert_eq!(read(changes.clone()), expected, "{changes}");
    }
}

#[test]
fn published_forms_round_trip() {
    let motion = UNetMotionConfig {
        layers_per_block: PerLevel::Each(vec![1, 2]),
        block_out_channels: vec![32, 64],
        down_block_types: vec![VideoLevel::Plain, VideoLevel::Attention],
        up_block_types: vec![VideoLevel::Attention, VideoLevel::Plain],
        temporal_transformer_layers_per_block: PerLevel::Each(vec![PerLevel::Same(2), PerLevel::Same(1)]),
        ..UNetMotionConfig::default()
    };
    assert_eq!(UNetMotionConfig::from_json(&motion.to_json()).unwrap(), motion);
    let conditional = UNet3dConfig { act_fn: langevin_models::layers::Activation::Gelu, ..UNet3dConfig::default() };
    assert_eq!(UNet3dConfig::from_json(&conditional.to_json()).unwrap(), conditional);
    let spatio_temporal = UNetSpatioTemporalConfig { num_frames: 14, ..UNetSpatioTemporalConfig::default() };
    assert_eq!(UNetSpatioTemporalConfig::from_json(&spatio_temporal.to_json()).unwrap(), spatio_temporal);
}
