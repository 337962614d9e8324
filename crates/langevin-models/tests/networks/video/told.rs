//! What the networks for videos are told: texts, guidance, images, and what a ControlNet adds.

use super::{NAMES, Net, changed, fixture, stilled};
use crate::common::{flex, largest_difference, tensor, values};
use burn::tensor::Tensor;
use langevin_core::{Denoiser, Level, Levels, Network, Prediction, Query};
use langevin_models::unet::conditional::ControlResiduals;
use langevin_models::unet::video::{UNet3dConditionalConfig, UNetMotionConfig};
use langevin_models::{Load, ModelError, Tap, TextCondition, UNet3dConditional, UNetMotion, UNetSpatioTemporal};
use serde_json::json;

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
    // A residual for all pixels is that of each.
    let pooled = |t: &Tensor<4>| t.clone().narrow(2, 0, 1).narrow(3, 0, 1);
    let all = |ts: &[Tensor<4>]| ts.iter().map(|t| pooled(t).expand(t.dims())).collect();
    let some = control(0.5);
    let spread = ControlResiduals { down: all(&some.down), mid: pooled(&some.mid).expand(some.mid.dims()) };
    let small = ControlResiduals { down: some.down.iter().map(pooled).collect(), mid: pooled(&some.mid) };
    assert!(largest_difference(&ask(&small).unwrap(), &ask(&spread).unwrap()) < 1e-6);
    // Two videos get what each of them gets alone.
    let both = |a: &[Tensor<4>], b: &[Tensor<4>]| {
        a.iter().zip(b).map(|(a, b)| Tensor::cat(vec![a.clone(), b.clone()], 0)).collect::<Vec<_>>()
    };
    let (a, b) = (control(0.5), control(-0.3));
    let joined =
        ControlResiduals { down: both(&a.down, &b.down), mid: Tensor::cat(vec![a.mid.clone(), b.mid.clone()], 0) };
    let twice = Tensor::cat(vec![x.clone(), x.clone()], 0);
    let given = net.forward_added(twice, time(), &text, Some(&joined), &mut Tap::none()).unwrap();
    for (row, alone) in [a, b].iter().enumerate() {
        assert!(largest_difference(&given.clone().narrow(0, row, 1), &ask(alone).unwrap()) < 1e-4);
    }
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
    let guided = json!({"time_cond_proj_dim": 6});
    for net in [
        Net::Conditional(
            UNet3dConditionalConfig::from_json(&changed("unet3d", &guided)).unwrap().init(&device).unwrap(),
        ),
        Net::Motion(UNetMotionConfig::from_json(&changed("unet_motion", &guided)).unwrap().init(&device).unwrap()),
    ] {
        let x = tensor(net.shape(1), 0.3, &device);
        let text = net.told(1, &device);
        let [weak, strong] = [1.5, 8.0].map(|scale| net.ask(x.clone(), &text.clone().guidance([scale])).unwrap());
        assert!(largest_difference(&weak, &strong) > 1e-5);
        // The scale is told as its sines and cosines.
        let angles: Vec<f64> = (0..3).map(|i| 500.0 * 10_000f64.powf(-f64::from(i) / 2.0)).collect();
        let told: Vec<f64> = angles.iter().map(|a| a.sin()).chain(angles.iter().map(|a| a.cos())).collect();
        let told = Tensor::<1>::from_data(told.as_slice(), &device).reshape([1, 6]);
        let same = net.ask(x, &text.clone().guidance_embedding(told)).unwrap();
        assert!(largest_difference(&weak, &same) < 1e-4);
        assert!(matches!(net.refusal(&text), ModelError::MissingPart { part: "guidance" }));
        let error = net.refusal(&text.clone().guidance_embedding(tensor([1, 5], 0.1, &device)));
        assert!(matches!(error, ModelError::Shape { what: "guidance_embedding", .. }), "{error}");
        assert!(matches!(net.refusal(&text.guidance([f64::NAN])), ModelError::NotFinite { row: 0, .. }));
    }
}

#[test]
fn a_vector_and_sizes_are_added_to_the_time() {
    let device = flex();
    let json = json!({
        "addition_embed_type": "text_time", "addition_time_embed_dim": 4, "projection_class_embeddings_input_dim": 20,
    });
    let net = UNetMotionConfig::from_json(&changed("unet_motion", &json)).unwrap().init(&device).unwrap();
    let net = Net::Motion(net);
    let text = |pooled, sizes: usize| {
        net.told(1, &device).pooled(tensor([1, pooled], 0.4, &device)).sizes([vec![64.0; sizes]])
    };
    net.ask(tensor(net.shape(2), 0.3, &device), &text(8, 3)).unwrap();
    for (pooled, sizes, part) in [(7, 3, "pooled"), (24, 3, "pooled"), (20, 0, "pooled"), (8, 2, "sizes")] {
        let error = net.refusal(&text(pooled, sizes));
        assert!(matches!(error, ModelError::Shape { what, .. } if what == part), "{error}");
    }
    let error = net.refusal(&text(8, 3).sizes([vec![1.0, 2.0, f64::INFINITY]]));
    assert!(matches!(error, ModelError::NotFinite { row: 0, .. }), "{error}");
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
        let repeated = net.ask(x.clone(), &first).unwrap();
        assert!(largest_difference(&repeated.clone().narrow(0, 0, 1), &both.clone().narrow(0, 0, 1)) < 1e-4, "{name}");
        let alone = net.ask(x.narrow(0, 1, 1), &first).unwrap();
        assert!(largest_difference(&alone, &repeated.clone().narrow(0, 1, 1)) < 1e-4, "{name}");
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
    let each = |texts: &[Tensor<3>]| TextCondition::new(Tensor::cat(texts.to_vec(), 0)).frames(3);
    let expected = net.ask(x.clone(), &told).unwrap();
    assert!(largest_difference(&net.ask(x.clone(), &each(&frames)).unwrap(), &expected) < 1e-5);
    // Another text for one frame of the second video leaves the first as it was.
    let mut other = frames.clone();
    other[4] = other[4].clone() * -1.0;
    let given = net.ask(x.clone(), &each(&other)).unwrap();
    let video = |y: &Tensor<5>, row| y.clone().narrow(0, row, 1);
    assert!(largest_difference(&video(&given, 0), &video(&expected, 0)) < 1e-6);
    assert!(largest_difference(&video(&given, 1), &video(&expected, 1)) > 1e-4);
    // Where frames do not look at each other, each is an image of its own with its text.
    let Net::Motion(moving) = net else { panic!("a network with motion modules") };
    let net = Net::Motion(stilled(moving));
    let given = net.ask(x.clone(), &each(&other)).unwrap();
    for (i, text) in other.iter().enumerate() {
        let frame = |t: &Tensor<5>| t.clone().narrow(0, i / 3, 1).narrow(2, i % 3, 1);
        let alone = net.ask(frame(&x), &TextCondition::new(text.clone())).unwrap();
        assert!(largest_difference(&alone, &frame(&given)) < 1e-4);
    }
    let error = net.ask(x.clone(), &each(&frames[..4]).frames(2)).unwrap_err();
    assert!(matches!(error, ModelError::Shape { what: "frames", .. }), "{error}");
    let error = Net::load("unet3d", Load::on(&device)).ask(x, &each(&frames)).unwrap_err();
    assert!(matches!(error, ModelError::UnknownPart { part: "frames" }), "{error}");
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

/// Guidance of two videos is the extrapolation from what the network says without a text, whatever way it is told.
fn assert_guided<N: Network<5, Cond = TextCondition>>(
    net: &N,
    x: &Tensor<5>,
    with: TextCondition,
    without: TextCondition,
) {
    let levels = Levels::Shared(Level { alpha: 0.8, sigma: 0.6, time: 500.0 });
    let noise = langevin_core::noise::Seeded::new(1);
    let ask = |denoiser: &dyn Denoiser<5>| {
        denoiser.check(&x.dims()).unwrap();
        let query = Query { x: x.clone(), levels: &levels, past: &[], noise: &noise };
        denoiser.denoise(query).unwrap().output()
    };
    let bound = |told: &TextCondition| net.denoiser(Prediction::Epsilon, told.clone()).unwrap();
    let (told, empty) = (ask(&bound(&with)), ask(&bound(&without)));
    assert!(largest_difference(&told, &empty) > 1e-4, "the text has no influence");
    let guided = ask(&bound(&with).guided(without, 3.0).unwrap());
    let expected = empty.clone() + (told - empty) * 3.0;
    let size = values(&expected).iter().fold(1f64, |most, v| most.max(v.abs()));
    assert!(largest_difference(&guided, &expected) < 1e-4 * size);
}

#[test]
fn a_guided_video_extrapolates_from_the_empty_text() {
    let device = flex();
    let x = tensor([2, 4, 3, 4, 4], 0.3, &device);
    let text = |rows, seed| TextCondition::new(tensor([rows, 5, 16], seed, &device));
    let net = UNet3dConditional::load(fixture("unet3d"), Load::on(&device)).unwrap();
    assert_guided(&net, &x, text(1, 0.2), text(1, 0.9));
    let net = UNetMotion::load(fixture("unet_motion"), Load::on(&device)).unwrap();
    // A text for each frame of both videos or of each, and one for all that leads away.
    assert_guided(&net, &x, text(3, 0.2).frames(3), text(1, 0.9));
    assert_guided(&net, &x, text(6, 0.2).frames(3), text(2, 0.9));
    let net = UNetSpatioTemporal::load(fixture("unet_svd"), Load::on(&device)).unwrap();
    let x = tensor([2, 3, 4, 4, 4], 0.3, &device);
    let image = |rows, seed| {
        let states = tensor([rows, 1, 8], seed, &device);
        let told = TextCondition::new(states).sizes(vec![vec![6.0, 127.0, 0.02]; rows]);
        told.image(tensor([rows, 4, 4, 4], seed, &device))
    };
    assert_guided(&net, &x, image(1, 0.2), image(1, 0.9));
    assert_guided(&net, &x, image(2, 0.2), image(2, 0.9));
}
