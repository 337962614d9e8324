//! The motion diffusion model, against torch's own encoder.

use super::{assert_half_precision, assert_refused, assert_shows_every_module, filled, slopes};
use crate::common::{
    assert_gradient_agrees, assert_gradients_flow, assert_names_what_is_not_finite, flex, largest_difference, tensor,
    values,
};
use burn::tensor::{DType, Device, Tensor};
use langevin_core::{DenoiseError, Denoiser, Level, Levels, Network, Prediction, Query};
use langevin_models::transformer::mdm::MotionCondition;
use langevin_models::{Labels, Load, Mdm, MdmConfig, ModelError, Tap};
use safetensors::SafeTensors;
use std::path::PathBuf;

fn small() -> MdmConfig {
    MdmConfig::new(3, 2).width(8, 2).layers(2).text(5).dropout(0.0)
}

fn time(device: &Device) -> Tensor<1> {
    Tensor::from_data([3.0, 400.0], device)
}

fn text(device: &Device) -> Labels {
    Labels::embeddings(tensor([2, 5], 0.6, device))
}

fn ask(net: &Mdm, x: Tensor<4>) -> Tensor<4> {
    let device = x.device();
    net.forward_with(x, time(&device), &text(&device), &mut Tap::none()).unwrap()
}

/// `mdm/reference.py` made these folders.
#[test]
fn outputs_are_those_of_torch() {
    let device = flex();
    for (kind, mode) in
        [("text", MotionCondition::Text), ("action", MotionCondition::Action), ("none", MotionCondition::None)]
    {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/transformers/mdm").join(kind);
        let net = Mdm::load(&folder, Load::on(&device)).unwrap();
        assert_eq!(net.config().cond_mode, mode);
        let bytes = std::fs::read(folder.join("io.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let numbers = |name: &str| -> Vec<f64> {
            let data = file.tensor(name).unwrap().data();
            data.chunks(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
        };
        let read = |name: &str| Tensor::<1>::from_data(numbers(name).as_slice(), &device);
        let labels = match mode {
            MotionCondition::Text => Labels::embeddings(read("cond").reshape([3, 5])),
            MotionCondition::Action => {
                Labels::optional(numbers("cond").into_iter().map(|action| (action >= 0.0).then_some(action as usize)))
            }
            MotionCondition::None => Labels::none(3),
        };
        let x = read("x").reshape([3, 3, 2, 7]);
        let y = net.forward_with(x, read("time"), &labels, &mut Tap::none()).unwrap();
        for (i, (given, expected)) in values(&y).into_iter().zip(numbers("out")).enumerate() {
            assert!((given - expected).abs() < 2e-5, "{kind}, entry {i}: {given}, expected {expected}");
        }
    }
}

#[test]
fn a_saved_network_is_loaded_as_it_was() {
    let device = flex();
    let folder = tempfile::tempdir().unwrap();
    let net = small().init(&device).unwrap();
    net.save(folder.path()).unwrap();
    let same = Mdm::load(folder.path(), Load::on(&device)).unwrap();
    assert_eq!(same.config(), net.config());
    let x = tensor([2, 3, 2, 7], 0.3, &device);
    assert_eq!(values(&ask(&same, x.clone())), values(&ask(&net, x)));
}

#[test]
fn gradients_are_those_of_the_function_and_reach_every_parameter() {
    assert_gradient_agrees([2, 3, 2, 5], |device| {
        let net = filled(small().init(device).unwrap(), DType::F64);
        move |x| ask(&net, x)
    });
    let device = flex().autodiff();
    let net = small().init(&device).unwrap();
    let y = ask(&net, tensor([2, 3, 2, 5], 0.3, &device));
    assert_gradients_flow(&net, &slopes(y));
}

#[test]
fn half_precision_is_close() {
    let device = flex();
    let x = tensor([2, 3, 2, 5], 0.3, &device);
    assert_names_what_is_not_finite(&small().init(&device).unwrap(), x.clone(), time(&device), &text(&device));
    assert_half_precision(|| small().init(&device).unwrap(), &x, ask, [0.01, 0.08]);
}

#[test]
fn every_module_is_shown() {
    let device = flex();
    let mut net = small().init(&device).unwrap();
    // Its own copy of the positions is stored and never read: the time is told by the formula.
    let positions = net.embed_timestep.sequence_pos_encoder.pe.val();
    let expected = net.sequence_pos_encoder.pe.val();
    assert_eq!(values(&positions), values(&expected));
    let mut names = Vec::new();
    let mut see = |name: &str, _: langevin_models::Tapped<'_>| names.push(name.to_owned());
    let x = tensor([2, 3, 2, 7], 0.3, &device);
    net.forward_with(x, time(&device), &text(&device), &mut Tap::new(&mut see)).unwrap();
    for name in ["embed_timestep.time_embed.0", "embed_text", "input_process.poseEmbedding", "output_process"] {
        assert!(names.iter().any(|seen| seen == name), "{name} is not shown");
    }
    // All of the rest, layer by layer.
    let layers = std::mem::take(&mut net.seqTransEncoder.layers);
    assert_shows_every_module(&layers[0], |tap| {
        layers[0].forward(tensor([2, 4, 8], 0.3, &device), tap);
    });
}

#[test]
fn the_time_is_a_position_in_the_table() {
    let device = flex();
    let net = small().init(&device).unwrap();
    let mut first = Vec::new();
    let mut see = |name: &str, value: langevin_models::Tapped<'_>| {
        if name == "embed_timestep.time_embed.0" {
            first = value.to_data().iter::<f64>().collect();
        }
    };
    let x = tensor([2, 3, 2, 7], 0.3, &device);
    net.forward_with(x, time(&device), &text(&device), &mut Tap::new(&mut see)).unwrap();
    let table = net.sequence_pos_encoder.pe.val().reshape([5000, 8]);
    let rows = table.select(0, Tensor::from_data([3i64, 400], &device));
    let layer = net.embed_timestep.time_embed[0].as_ref().unwrap();
    let expected = values(&layer.forward(rows));
    assert!(first.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4), "{first:?} {expected:?}");
}

#[test]
fn guidance_extrapolates_from_no_text_and_no_action() {
    let device = flex();
    let levels = Levels::Shared(Level { alpha: 0.8, sigma: 0.6, time: 500.0 });
    let noise = langevin_core::noise::Seeded::new(1);
    let x = tensor::<4>([2, 3, 2, 7], 0.3, &device);
    let ask = |denoiser: &dyn Denoiser<4>| {
        let query = Query { x: x.clone(), levels: &levels, past: &[], noise: &noise };
        denoiser.denoise(query).unwrap().output()
    };
    let by_text = filled(small().init(&device).unwrap(), DType::F32);
    let by_action = filled(small().actions(4).init(&device).unwrap(), DType::F32);
    let none = by_text.no_text(2, &device);
    for (net, told, none) in [(&by_text, text(&device), none), (&by_action, Labels::of([1, 3]), Labels::none(2))] {
        let bound = |labels: &Labels| net.denoiser(Prediction::Sample, labels.clone()).unwrap();
        let (with, without) = (ask(&bound(&told)), ask(&bound(&none)));
        assert!(largest_difference(&with, &without) > 1e-3);
        let guided = ask(&bound(&told).guided(none, 2.5).unwrap());
        let expected = without.clone() + (with - without) * 2.5;
        assert!(largest_difference(&guided, &expected) < 1e-4);
    }
}

#[test]
fn each_bad_field_is_named() {
    let with = |change: fn(&mut MdmConfig)| {
        let mut c = small();
        change(&mut c);
        c.init(&flex())
    };
    for (result, name) in [
        (with(|c| c.njoints = 0), "njoints"),
        (with(|c| c.nfeats = 0), "nfeats"),
        (with(|c| c.latent_dim = 0), "latent_dim"),
        (with(|c| (c.latent_dim, c.num_heads) = (9, 3)), "latent_dim"),
        (with(|c| c.ff_size = 0), "ff_size"),
        (with(|c| c.num_layers = 0), "num_layers"),
        (with(|c| c.num_heads = 3), "num_heads"),
        (with(|c| c.clip_dim = 0), "clip_dim"),
        (with(|c| c.num_actions = 0), "num_actions"),
        (with(|c| c.max_len = 1), "max_len"),
        (with(|c| c.dropout = -0.1), "dropout"),
    ] {
        assert_refused(result, name);
    }
    let error = MdmConfig::from_json(r#"{"arch": "gru"}"#).unwrap_err();
    assert!(matches!(error, ModelError::UnknownKeys { .. }), "{error}");
}

#[test]
fn what_does_not_fit_is_a_typed_error() {
    let device = flex();
    let mut config = small();
    config.max_len = 8;
    let net = config.init(&device).unwrap();
    let ask = |shape, labels: Labels| {
        let x = tensor::<4>(shape, 0.3, &device);
        net.forward_with(x, Tensor::from_data([1.0], &device), &labels, &mut Tap::none()).unwrap_err()
    };
    for shape in [[2, 4, 2, 7], [2, 3, 1, 7], [2, 3, 2, 8]] {
        let error = ask(shape, text(&device));
        assert!(matches!(&error, ModelError::Shape { what: "x", given, .. } if *given == shape), "{error}");
    }
    let error = ask([3, 3, 2, 7], text(&device));
    assert!(matches!(error, ModelError::Rows { given: 2, batch: 3 }), "{error}");
    let error = ask([2, 3, 2, 7], Labels::embeddings(tensor([2, 4], 0.6, &device)));
    assert!(matches!(error, ModelError::Shape { .. }), "{error}");
    let error = ask([2, 3, 2, 7], Labels::of([1, 2]));
    assert!(matches!(error, ModelError::ConditionKind { given: "classes", .. }), "{error}");
    let by_action = small().actions(4).init(&device).unwrap();
    assert!(matches!(by_action.check_condition(&Labels::of([4])), Err(DenoiseError::Class { given: 4, classes: 4 })));
    by_action.check_condition(&Labels::none(1)).unwrap();
    let alone = small().unconditional().init(&device).unwrap();
    assert!(alone.check_condition(&text(&device)).is_err());
    alone.check_condition(&Labels::none(2)).unwrap();
    assert!(matches!(alone.check_shape(&[3, 2, 0]), Err(DenoiseError::Shape { .. })));
}
