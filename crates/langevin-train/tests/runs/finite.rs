//! Numbers that are not finite end a run by an error that says where they came from.

use crate::network::{alone, bits, objective, points, trainer};
use crate::precision::root;
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use langevin_core::{DenoiseError, Network};
use langevin_data::{Batch, DataError, DataSet, ImageSet, VectorSet};
use langevin_models::{UNet2d, UNet2dConfig};
use langevin_train::{Origin, Precision, TrainError, Trainer};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Points, and from the n-th batch on that many times as large.
pub struct Poisoned {
    pub points: VectorSet,
    pub good: AtomicUsize,
    pub factor: f32,
}

fn poisoned(good: usize) -> Poisoned {
    Poisoned { points: points(13), good: AtomicUsize::new(good), factor: f32::NAN }
}

impl DataSet<2> for Poisoned {
    fn len(&self) -> usize {
        self.points.len()
    }
    fn batch(&self, indices: &[usize], device: &Device) -> Result<Batch<2>, DataError> {
        let mut batch = self.points.batch(indices, device)?;
        if self.good.fetch_sub(1, Ordering::Relaxed) == 0 {
            self.good.store(0, Ordering::Relaxed);
            batch.x = batch.x.mul_scalar(self.factor);
        }
        Ok(batch)
    }
}

#[test]
fn a_loss_that_is_not_finite_names_its_step_and_keeps_the_checkpoint() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let data = poisoned(7);
    let every = || trainer(20).checkpoint_every(5).resume(folder.path());
    let error = every().fit(&data).unwrap_err();
    let TrainError::NonFiniteLoss { step: 7, loss, origin: Origin::Unknown, checkpoint: Some(5), .. } = error else {
        panic!("{error}")
    };
    assert!(loss.is_nan() && error.to_string().contains("run again with `.check_numbers()`"), "{error}");
    assert!(error.to_string().contains("the checkpoint of step 5 is kept"), "{error}");
    // And it is good to go on from.
    assert_eq!(every().fit(&points(13)).unwrap().history, trainer(20).fit(&points(13)).unwrap().history);
    // The first step is always looked at, each one if that is asked for.
    for (good, trainer) in [(0, trainer(20)), (7, trainer(20).check_numbers())] {
        let error = trainer.fit(&poisoned(good)).unwrap_err();
        assert!(error.to_string().contains("look at the samples"), "{error}");
        let TrainError::NonFiniteLoss { step, origin: Origin::Data, checkpoint: None, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(step, good as u64);
    }
}

#[test]
fn parameters_that_overflow_in_the_last_step_are_noticed() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let error = trainer(1).warmup(0).learning_rate(1e39).resume(folder.path()).fit(&points(13)).unwrap_err();
    assert!(
        matches!(error, TrainError::NonFiniteParameters { step: 1, ref parameter, checkpoint: None } if parameter == "input.weight"),
        "{error}"
    );
    assert!(!folder.path().join("checkpoint.langevin").exists());
}

fn unet() -> UNet2d {
    UNet2dConfig::images(1, 8).channels(&[32, 32]).init(&Device::flex()).unwrap()
}

fn fit(network: UNet2d, precision: Precision) -> Result<Vec<(u64, f32)>, TrainError> {
    let pixels: Vec<f32> = (0..8 * 64).map(|i| ((i * 37 % 101) as f32 / 50.0) - 1.0).collect();
    let data = ImageSet::new(pixels, [8, 1, 8, 8], vec![0; 8], 1).unwrap();
    let trainer = Trainer::new(network, objective()).steps(2).batch_size(4).condition_dropout(1.0).quiet();
    Ok(trainer.precision(precision).fit(&data)?.history)
}

fn origin(error: TrainError) -> Origin {
    match error {
        TrainError::NonFiniteLoss { step: 0, origin, .. } => origin,
        other => panic!("{other}"),
    }
}

fn shift(bias: &mut Option<Param<Tensor<1>>>, by: f64) {
    *bias = bias.take().map(|bias| bias.map(|bias| bias + by));
}

#[test]
fn an_overflow_is_named_by_its_layer() {
    let _turn = alone();
    // Each of the two is in the range of f16, and their sum is not.
    let mut network = unet();
    shift(&mut network.conv_in.bias, 6e4);
    shift(&mut network.down_blocks[0].resnets[0].conv2.bias, 6e4);
    let error = fit(network.clone(), Precision::F16).unwrap_err();
    assert!(error.to_string().contains("Precision::Bf16"), "{error}");
    assert_eq!(origin(error), Origin::Layer("down_blocks.0.resnets.0".into()));
    for precision in [Precision::Bf16, Precision::Full] {
        assert!(fit(network.clone(), precision).unwrap().iter().all(|(_, loss)| loss.is_finite()));
    }
}

#[test]
fn a_parameter_that_is_not_finite_is_named() {
    let _turn = alone();
    for precision in [Precision::Full, Precision::Bf16, Precision::F16] {
        let mut network = unet();
        shift(&mut network.conv_out.bias, f64::NAN);
        let error = fit(network, precision).unwrap_err();
        // Nothing has been learned: neither rate nor clipping is to blame.
        assert!(!error.to_string().contains("learning rate"), "{error}");
        assert_eq!(origin(error), Origin::Parameter("conv_out.bias".into()));
    }
    // In range for f32 only.
    let mut network = unet();
    shift(&mut network.conv_out.bias, 1e5);
    assert_eq!(origin(fit(network, Precision::F16).unwrap_err()), Origin::Parameter("conv_out.bias".into()));
}

/// `size·p·x`, by a network that does not know the names of its parts.
#[derive(Module, Debug)]
struct Nameless {
    p: Param<Tensor<1>>,
    size: f64,
}

impl Network<2> for Nameless {
    type Cond = ();

    fn forward(&self, x: Tensor<2>, _: Tensor<1>, _: &()) -> Result<Tensor<2>, DenoiseError> {
        Ok(x * self.p.val().reshape([1, 1]) * self.size * self.size)
    }

    fn for_sampling(&self) -> Self {
        self.valid()
    }
}

#[test]
fn output_and_loss_are_told_apart() {
    let _turn = alone();
    for (size, expected) in [(1e15, Origin::Loss), (1e25, Origin::Output)] {
        let network = Nameless { p: Param::from_data([1.0], &Device::flex()), size };
        let trainer = Trainer::conditioned(network, objective(), |_| Ok(())).steps(1).batch_size(4).quiet();
        assert_eq!(origin(trainer.fit(&points(13)).unwrap_err()), expected);
    }
}

#[test]
fn a_gradient_is_looked_at_before_it_does_harm() {
    let _turn = alone();
    // The root of zero is finite, and its slope is not.
    for trainer in [root(0.0, 1.0, 3), root(0.0, 1.0, 3).no_clipping()] {
        let error = trainer.fit(&points(13)).unwrap_err();
        let told = error.to_string();
        let TrainError::NonFiniteGradient { step: 0, parameter, precision: Precision::Full, .. } = error else {
            panic!("{told}")
        };
        assert!(parameter == "p" && !told.contains("scaled"), "{told}");
    }
    // No scale helps, which is not for sixteen steps to find out.
    let error = root(0.0, 1.0, 3).precision(Precision::F16).fit(&points(13)).unwrap_err();
    assert!(matches!(error, TrainError::NonFiniteGradient { step: 0, .. }), "{error}");
}

#[test]
fn looking_changes_nothing() {
    let _turn = alone();
    let (plain, looked) =
        (trainer(12).fit(&points(13)).unwrap(), trainer(12).check_numbers().fit(&points(13)).unwrap());
    assert_eq!((plain.history, bits(&plain.network)), (looked.history, bits(&looked.network)));
}
