//! The autoencoder of videos as users meet it.

use std::path::PathBuf;

use crate::common::{assert_gradient_agrees, flex, largest_difference, tensor, values};
use burn::tensor::{DType, Tensor};
use langevin_models::autoencoder::{AutoencoderKlTemporalDecoder, AutoencoderKlTemporalDecoderConfig};
use langevin_models::{Load, ModelError};

fn fixture() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/models/vae_temporal_decoder")
}

fn load(load: Load) -> AutoencoderKlTemporalDecoder {
    AutoencoderKlTemporalDecoder::load(fixture(), load).unwrap()
}

#[test]
fn a_saved_network_is_the_same_network() {
    let device = flex();
    let net = load(Load::on(&device));
    let folder = tempfile::tempdir().unwrap();
    net.save(folder.path()).unwrap();
    let again = AutoencoderKlTemporalDecoder::load(folder.path(), Load::on(&device)).unwrap();
    assert_eq!(net.config(), again.config());
    let z = tensor([4, 4, 3, 5], 0.3, &device);
    let [a, b] = [&net, &again].map(|net| values(&net.decode(z.clone(), 2).unwrap()));
    assert_eq!(a, b);
    let x = tensor([1, 3, 6, 5], 0.3, &device);
    let [a, b] = [&net, &again].map(|net| values(&net.encode(x.clone()).unwrap().mode()));
    assert_eq!(a, b);
}

#[test]
fn half_precision_is_kept_away_where_the_network_overflows() {
    let device = flex();
    let single = load(Load::on(&device));
    let z = tensor([2, 4, 3, 3], 0.3, &device);
    let expected = values(&single.decode(z.clone(), 2).unwrap());
    let half = load(Load::on(&device).dtype(DType::F16));
    assert_eq!(half.quant_conv.weight.val().dtype(), DType::F32);
    let brain = load(Load::on(&device).dtype(DType::BF16));
    assert_eq!(brain.quant_conv.weight.val().dtype(), DType::BF16);
    let given = brain.decode(z, 2).unwrap();
    assert_eq!(given.dtype(), DType::F32);
    let error: f64 = values(&given).iter().zip(&expected).map(|(g, e)| (g - e).powi(2)).sum();
    let relative = (error / expected.iter().map(|e| e * e).sum::<f64>()).sqrt();
    assert!(relative > 0.0 && relative < 0.06, "{relative}");
}

#[test]
fn gradients_agree_with_differences() {
    assert_gradient_agrees([2, 4, 3, 3], |device| {
        let net = load(Load::on(device).dtype(DType::F64));
        move |z| net.decode(z, 2).unwrap()
    });
    assert_gradient_agrees([1, 3, 6, 6], |device| {
        let net = load(Load::on(device).dtype(DType::F64));
        move |x| net.encode(x).unwrap().mode()
    });
}

#[test]
fn frames_see_their_own_video_only() {
    let device = flex();
    let net = load(Load::on(&device));
    let z = tensor([4, 4, 3, 3], 0.3, &device);
    let videos = net.decode(z.clone(), 2).unwrap();
    let alone = net.decode(z.clone().narrow(0, 2, 2), 2).unwrap();
    assert!(largest_difference(&videos.clone().narrow(0, 2, 2), &alone) < 1e-5);
    // As one video of four frames, the neighbours count.
    assert!(largest_difference(&net.decode(z, 4).unwrap(), &videos) > 1e-4);
}

#[test]
fn latents_are_scaled_and_back() {
    let net = AutoencoderKlTemporalDecoderConfig::new(3, 4, &[32]).init(&flex()).unwrap();
    let z = tensor([1, 4, 2, 2], 0.3, &flex());
    let latents = net.to_latents(z.clone());
    assert!((values(&latents)[3] - values(&z)[3] * 0.18215).abs() < 1e-6);
    assert!(largest_difference(&net.from_latents(latents), &z) < 1e-6);
}

#[test]
fn what_does_not_fit_is_a_typed_error() {
    let device = flex();
    let net = AutoencoderKlTemporalDecoderConfig::new(3, 4, &[32, 32]).init(&device).unwrap();
    for shape in [[1, 4, 8, 8], [1, 3, 1, 8], [0, 3, 8, 8]] {
        let error = net.encode(Tensor::zeros(shape, &device)).unwrap_err();
        assert!(matches!(error, ModelError::Shape { what: "x", .. }), "{error}");
    }
    for (shape, frames) in [([2, 3, 4, 4], 2), ([2, 4, 0, 4], 2), ([3, 4, 4, 4], 2), ([2, 4, 4, 4], 0)] {
        let error = net.decode(Tensor::zeros(shape, &device), frames).unwrap_err();
        assert!(matches!(error, ModelError::Shape { what: "z", .. }), "{error}");
    }
}
