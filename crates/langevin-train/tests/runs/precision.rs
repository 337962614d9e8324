//! Training in half precision.

use crate::finite::Poisoned;
use crate::network::{alone, bits, objective, points, trainer};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Tensor};
use langevin_core::{DenoiseError, Network};
use langevin_data::ImageSet;
use langevin_models::unet::TimeFeatures;
use langevin_models::{MlpConfig, UNet2d, UNet2dConfig};
use langevin_train::{AdamW, CheckpointError, Precision, TrainError, Trainer};
use std::sync::atomic::AtomicUsize;

/// Adds `size·√p` to its input: its gradient is as large as one likes, and infinite at p = 0.
#[derive(Module, Debug)]
pub struct Root {
    p: Param<Tensor<1>>,
    size: f64,
}

impl Network<2> for Root {
    type Cond = ();

    fn forward(&self, x: Tensor<2>, _: Tensor<1>, _: &()) -> Result<Tensor<2>, DenoiseError> {
        let p = self.p.val();
        let y = x.clone().cast(p.dtype()) + (p.sqrt() * self.size).reshape([1, 1]);
        Ok(y.cast(x.dtype()))
    }

    fn casts_input(&self) -> bool {
        true
    }

    fn for_sampling(&self) -> Self {
        self.valid()
    }
}

pub fn root(p: f32, size: f64, steps: u64) -> Trainer<Root, 2> {
    let network = Root { p: Param::from_data([p], &Device::flex()), size };
    Trainer::conditioned(network, objective(), |_| Ok(())).steps(steps).batch_size(4).learning_rate(1e-2).quiet()
}

#[test]
fn half_precision_learns_what_full_precision_learns() {
    let _turn = alone();
    let loss = |precision| {
        let network = MlpConfig::new(2).hidden(32).classes(3).init(&Device::flex()).unwrap();
        let trainer = Trainer::new(network, objective()).steps(300).batch_size(13).learning_rate(1e-2).seed(3).quiet();
        let trained = trainer.precision(precision).fit(&points(13)).unwrap();
        for network in [&trained.network, trained.ema.as_ref().unwrap()] {
            assert!(network.linear_in.weight.val().dtype() == DType::F32);
        }
        let mean = |steps: &[(u64, f32)]| steps.iter().map(|(_, l)| f64::from(*l)).sum::<f64>() / steps.len() as f64;
        (mean(&trained.history[..10]), mean(&trained.history[250..]))
    };
    let (first, full) = loss(Precision::Full);
    assert!(full < 0.9 * first, "{first} to {full}");
    for precision in [Precision::F16, Precision::Bf16] {
        let (_, half) = loss(precision);
        // The same noise in every run: what differs is rounding alone.
        assert!(
            (half - full).abs() < 0.2 * (first - full) && half != full,
            "{precision:?}: {half}, in full precision {full}"
        );
    }
}

#[test]
fn steps_that_overflow_change_nothing_and_a_resumed_run_remembers_them() {
    let _turn = alone();
    let trainer = |steps| root(1.0, 20.0, steps).precision(Precision::F16);
    // Gradients of more than one do not bear a factor of 65,536.
    let mut first = Vec::new();
    let whole = trainer(24).fit_watched(&points(13), 1, |watch| {
        first.extend(bits(&watch.network).into_iter().filter(|_| watch.step == 1));
        Ok(())
    });
    let whole = whole.unwrap();
    assert_eq!(first, [1.0f32.to_bits()]);
    assert_ne!(bits(&whole.network), [1.0f32.to_bits()]);
    let folder = tempfile::tempdir().unwrap();
    for steps in [2, 9, 24] {
        let trained = trainer(steps).resume(folder.path()).fit(&points(13)).unwrap();
        assert_eq!(trained.history, whole.history[..steps as usize]);
        assert_eq!(trained.left_out.min(2), 2);
        if steps == 24 {
            assert_eq!(bits(&trained.network), bits(&whole.network));
        }
    }
}

#[test]
fn small_gradients_are_not_lost() {
    let _turn = alone();
    // A gradient of about 1e-8 is zero in f16, and not if the loss is scaled. Nothing else moves the parameter.
    let still = AdamW { weight_decay: 0.0, ..AdamW::default() };
    let trained = root(1.0, 1e-7, 3).precision(Precision::F16).optimizer(still).fit(&points(13)).unwrap();
    assert_ne!(bits(&trained.network), [1.0f32.to_bits()]);
    let x = Tensor::<1>::from_data([1.0f32], &Device::flex()).cast(DType::F16);
    assert_eq!((x * 1e-8).try_into_vec_as::<f32>().unwrap(), [0.0]);
}

/// A UNet with attention whose time is told by Fourier features that are not trained.
fn fourier() -> UNet2d {
    let config = UNet2dConfig { time: TimeFeatures::Fourier, ..UNet2dConfig::images(1, 8) };
    config.channels(&[32, 32]).attention_at(&[1]).init(&Device::flex()).unwrap()
}

#[test]
fn networks_of_images_take_steps_in_half_precision() {
    let _turn = alone();
    let pixels: Vec<f32> = (0..8 * 64).map(|i| ((i * 37 % 101) as f32 / 50.0) - 1.0).collect();
    let data = ImageSet::new(pixels, [8, 1, 8, 8], vec![0; 8], 1).unwrap();
    let fit = |precision| {
        let trainer = Trainer::new(fourier(), objective()).steps(2).batch_size(4).seed(5).condition_dropout(1.0);
        trainer.quiet().precision(precision).fit(&data).unwrap()
    };
    let full = fit(Precision::Full);
    for precision in [Precision::F16, Precision::Bf16] {
        let half = fit(precision);
        // A step that is left out makes the next ones other steps.
        let alike = if half.left_out == 0 { 2 } else { 1 };
        for ((_, half), (_, full)) in half.history.iter().zip(&full.history).take(alike) {
            // Rounded features of time, or other first parameters, would be off by more than this.
            assert!((half / full - 1.0).abs() < 0.05, "{precision:?}: {half}, in full precision {full}");
        }
        assert!(precision == Precision::F16 || half.left_out == 0);
    }
}

#[test]
fn gradients_that_are_never_finite_are_named() {
    let _turn = alone();
    // Slopes of 2e5, from the second step on.
    let data = || Poisoned { points: points(13), good: AtomicUsize::new(1), factor: 1e4 };
    let folder = tempfile::tempdir().unwrap();
    let trainer = || root(1.0, 20.0, 40).precision(Precision::F16);
    let error = trainer().resume(folder.path()).checkpoint_every(4).fit(&data()).unwrap_err();
    let told = error.to_string();
    let TrainError::NonFiniteGradient { step, parameter, precision: Precision::F16, checkpoint } = error else {
        panic!("{told}")
    };
    // 65,536 is halved 17 times, the first time in the first step.
    assert_eq!((step, parameter.as_str(), checkpoint), (16, "p", Some(16)));
    for hint in [
        "`p` in step 16",
        "`Precision::Bf16`",
        "a lower learning rate",
        "the checkpoint of step 16 is kept",
        "`load_network`",
    ] {
        assert!(told.contains(hint), "{hint} in {told}");
    }
    // Who has numbers checked hears of it in the step where it begins.
    let error = trainer().check_numbers().fit(&data()).unwrap_err();
    assert!(matches!(error, TrainError::NonFiniteGradient { step: 1, .. }), "{error}");
}

#[test]
fn parameters_in_half_precision_are_refused() {
    let _turn = alone();
    let network = MlpConfig::new(2).hidden(8).classes(3).init(&Device::flex()).unwrap();
    let network = network.map(&mut ToHalf);
    let error = Trainer::new(network, objective()).steps(1).batch_size(4).precision(Precision::F16).quiet();
    let error = error.fit(&points(13)).unwrap_err();
    assert!(matches!(error, TrainError::NarrowParameter { dtype: DType::F16, .. }), "{error}");
}

#[test]
fn an_epsilon_that_half_precision_does_not_hold_is_refused() {
    let _turn = alone();
    let fit = |epsilon| {
        let network = MlpConfig::new(2).hidden(8).classes(3).init(&Device::flex()).unwrap().map(&mut ToHalf);
        let optimizer = AdamW { epsilon, ..AdamW::default() };
        Trainer::new(network, objective()).steps(20).batch_size(4).optimizer(optimizer).quiet().fit(&points(13))
    };
    let error = fit(1e-8).unwrap_err();
    let told = error.to_string();
    assert!(told.contains("`linear_in.weight` is F16") && told.contains("epsilon of 1e-8"), "{told}");
    // What the message advises.
    assert_eq!(fit(1e-4).unwrap().history.len(), 20);
}

#[test]
fn a_network_that_does_not_cast_is_refused() {
    let _turn = alone();
    let error = trainer(2).precision(Precision::Bf16).fit(&points(13)).unwrap_err();
    assert!(matches!(error, TrainError::InputNotCast) && error.to_string().contains("Network::casts_input"), "{error}");
}

struct ToHalf;

impl ModuleMapper for ToHalf {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor.cast(DType::F16))
    }
}

#[test]
fn another_precision_is_another_run() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    root(1.0, 1.0, 2).precision(Precision::Bf16).resume(folder.path()).fit(&points(13)).unwrap();
    let error = root(1.0, 1.0, 4).resume(folder.path()).fit(&points(13)).unwrap_err();
    let TrainError::Checkpoint(CheckpointError::Setting { setting, checkpoint, given, .. }) = error else {
        panic!("{error}")
    };
    assert_eq!((setting.as_str(), checkpoint.as_str(), given.as_str()), ("precision", "Bf16", "Full"));
}

/// Brings its input to its parameters' type, and its output not back.
#[derive(Module, Debug)]
struct HalfWay {
    p: Param<Tensor<1>>,
}

impl Network<2> for HalfWay {
    type Cond = ();

    fn forward(&self, x: Tensor<2>, _: Tensor<1>, _: &()) -> Result<Tensor<2>, DenoiseError> {
        let p = self.p.val();
        Ok(x.cast(p.dtype()) * p.reshape([1, 1]))
    }

    fn for_sampling(&self) -> Self {
        self.valid()
    }

    fn casts_input(&self) -> bool {
        true
    }
}

#[test]
fn an_output_in_half_precision_is_refused() {
    let _turn = alone();
    let network = HalfWay { p: Param::from_data([1.0], &Device::flex()) };
    let trainer = Trainer::new(network, objective()).steps(1).batch_size(4).precision(Precision::Bf16).quiet();
    let error = trainer.fit(&points(13)).unwrap_err();
    let TrainError::Denoise(DenoiseError::DType { what, given: DType::BF16, .. }) = error else { panic!("{error}") };
    assert_eq!(what, "the network's output");
}
