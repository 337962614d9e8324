//! Training learns, does not depend on where the network comes from, and refuses what cannot work.

use crate::network::{Net, alone, bits, objective, points, trainer};
use burn::module::{Module, ParamGroup};
use burn::tensor::{Device, Tensor, TensorData};
use langevin_core::process::{RectifiedFlow, VpSde};
use langevin_core::{DenoiseError, Network, Prediction, Process};
use langevin_data::VectorSet;
use langevin_models::{Labels, MlpConfig};
use langevin_train::{CheckpointError, Decay, Objective, TrainError, Trainer};

/// Quantiles of N(1, 0.5²), a sample without sampling error.
fn gaussian(n: usize) -> VectorSet {
    // The normal distribution function as a series, inverted by bisection.
    let cdf = |z: f64| {
        // Marsaglia 2004, "Evaluating the Normal Distribution": Φ(z) = 1/2 + φ(z)·Σ z^(2k+1)/(1·3·…·(2k+1)).
        let (mut term, mut sum) = (z, z);
        for k in 1..100 {
            term *= z * z / f64::from(2 * k + 1);
            sum += term;
        }
        0.5 + sum * (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt()
    };
    let quantile = |p: f64| {
        let (mut low, mut high) = (-5.0, 5.0);
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            if cdf(middle) < p { low = middle } else { high = middle }
        }
        low
    };
    let values = (0..n).map(|i| (1.0 + 0.5 * quantile((i as f64 + 0.5) / n as f64)) as f32).collect();
    VectorSet::new(values, [n, 1]).unwrap()
}

#[test]
fn a_network_learns_the_posterior_mean_of_a_gaussian() {
    let _turn = alone();
    let process = RectifiedFlow::new();
    let objective = Objective::new(process.clone(), Prediction::Sample).unwrap();
    let device = Device::flex();
    let trained = Trainer::new(Net::new(1, 32, 0.0, &device), objective)
        .steps(1500)
        .batch_size(256)
        .learning_rate(5e-3)
        .warmup(50)
        .cosine()
        .ema(0.99)
        .quiet()
        .fit(&gaussian(512))
        .unwrap();
    let mean = |steps: &[(u64, f32)]| steps.iter().map(|(_, loss)| f64::from(*loss)).sum::<f64>() / steps.len() as f64;
    let (first, last) = (mean(&trained.history[..5]), mean(&trained.history[1400..]));
    // What is left is the posterior variance, the mean of s²σ²/(α²s² + σ²) over t: 0.1612 by the trapezoidal rule.
    let noise = (0..=10_000)
        .map(|i| {
            let t = f64::from(i) / 1e4;
            let (a, s) = (0.25 * (1.0 - t) * (1.0 - t), t * t);
            0.25 * s / (a + s) * if i % 10_000 == 0 { 0.5 } else { 1.0 } / 1e4
        })
        .sum::<f64>();
    assert!(first > 4.0 * last, "{first} to {last}");
    // 100 batches of 256 samples with a deviation of about 0.25: a standard error of 0.0016.
    assert!((last - noise).abs() < 0.008, "{last}, the best there is is {noise}");
    let classes = crate::network::Classes(vec![0]);
    for t in [0.2, 0.5, 0.8] {
        let (alpha, sigma) = (process.alpha(t), process.sigma(t));
        let std = (alpha * alpha * 0.25 + sigma * sigma).sqrt();
        let states = [-1.0, 0.0, 1.0].map(|z| alpha + z * std);
        let x = Tensor::<2>::from_data(TensorData::new(states.to_vec(), [3, 1]), &device);
        let time = Tensor::<1>::full([3], t, &device);
        let network = trained.for_sampling();
        let learned = network.forward(x, time, &classes).unwrap().try_into_vec_as::<f32>().unwrap();
        for (x, learned) in states.into_iter().zip(learned) {
            let exact = 1.0 + alpha * 0.25 / (std * std) * (x - alpha);
            assert!((f64::from(learned) - exact).abs() < 0.06, "x {x} t {t}: {learned}, exactly {exact}");
        }
    }
}

#[test]
fn networks_of_the_library_train_with_and_without_classes() {
    let _turn = alone();
    let config = MlpConfig::new(2).hidden(8);
    let fit = |config: &MlpConfig, dropout| {
        let network = config.init(&Device::flex()).unwrap();
        let trainer = Trainer::new(network, objective()).steps(3).batch_size(4).condition_dropout(dropout).quiet();
        trainer.fit(&points(13))
    };
    assert_eq!(fit(&config.clone().classes(3), 0.1).unwrap().history.len(), 3);
    assert_eq!(fit(&config, 1.0).unwrap().history.len(), 3);
    // Labels that the network cannot take are an error of the first step.
    assert!(matches!(fit(&config, 0.0), Err(TrainError::Denoise(_))));
    assert!(matches!(fit(&config.classes(2), 0.0), Err(TrainError::Classes { known: 2, given: 3 })));
}

/// A network with classes learns of none from data without labels: that is an error of the first step, unless it is meant.
#[test]
fn networks_with_classes_want_labels() {
    let _turn = alone();
    let data = VectorSet::new(vec![0.5, 1.0, -0.5, -1.0, 0.2, 0.1, 0.7, -0.3], [4, 2]).unwrap();
    let fit = |config: MlpConfig, dropout| {
        let network = config.init(&Device::flex()).unwrap();
        let trainer = Trainer::new(network, objective()).steps(2).batch_size(4).condition_dropout(dropout).quiet();
        trainer.fit(&data).map(|trained| trained.history.len())
    };
    let (with, without) = (MlpConfig::new(2).hidden(8).classes(3), MlpConfig::new(2).hidden(8));
    for dropout in [0.0, 0.1] {
        let error = fit(with.clone(), dropout).unwrap_err();
        assert!(matches!(error, TrainError::NoLabels { classes: 3 }), "{error:?}");
        let message = error.to_string();
        for part in ["knows 3 classes", "no labels", "give the data labels", "`.condition_dropout(1.0)`"] {
            assert!(message.contains(part), "{message}");
        }
    }
    assert_eq!(fit(with.clone(), 1.0).unwrap(), 2);
    assert_eq!(fit(without, 0.0).unwrap(), 2);
    // Whoever makes the condition by hand knows what for.
    let network = with.init(&Device::flex()).unwrap();
    let trainer = Trainer::conditioned(network, objective(), |labels| Ok(Labels::of(vec![1; labels.len()])));
    assert_eq!(trainer.steps(2).batch_size(4).quiet().fit(&data).unwrap().history.len(), 2);
}

#[test]
fn it_does_not_matter_where_the_network_comes_from() {
    let _turn = alone();
    let device = Device::flex();
    // One set of parameters: lazily drawn ones depend on the seed at their first use.
    let plain = Trainer::new(Net::new(2, 8, 0.1, &device), objective()).steps(1).batch_size(4).quiet();
    let plain = plain.fit(&points(13)).unwrap().network;
    let fit = |network: Net| {
        let trainer = Trainer::new(network, objective()).steps(6).batch_size(4).condition_dropout(0.2).quiet();
        trainer.fit(&points(13)).unwrap()
    };
    let expected = fit(plain.clone());
    assert_eq!(expected.history, fit(plain.clone().train()).history);
    assert_eq!(expected.history, fit(plain.clone().fork(&device.clone().autodiff())).history);
    assert_ne!(bits(&expected.network), bits(&plain));
    // What comes back is ready to sample: no autodiff, no dropout.
    for network in [&expected.network, expected.for_sampling()] {
        assert!(network.devices().iter().all(|device| !device.is_autodiff()));
        let ask = || {
            let (x, time) = (Tensor::<2>::ones([3, 2], &device), Tensor::<1>::ones([3], &device));
            let output = network.forward(x, time, &crate::network::Classes(vec![1])).unwrap();
            assert!(!output.is_autodiff());
            output.try_into_vec_as::<f32>().unwrap()
        };
        assert_eq!(ask(), ask());
    }
}

#[test]
fn lazily_drawn_parameters_follow_the_seed() {
    let _turn = alone();
    let fit = |seed: u64| {
        // Something else drew from the process-wide generator in the meantime.
        Device::flex().seed(seed ^ 99);
        trainer(3).seed(seed).fit(&points(13)).unwrap()
    };
    let first = fit(1);
    Tensor::<1>::random([7], burn::tensor::Distribution::Default, &Device::flex());
    assert_eq!(bits(&first.network), bits(&fit(1).network));
    assert_ne!(bits(&first.network), bits(&fit(2).network));
}

#[test]
fn frozen_parameters_stay() {
    let _turn = alone();
    let network = Net::new(2, 8, 0.0, &Device::flex()).freeze_group(ParamGroup::from_path("hidden.weight"));
    let before = network.clone();
    let after = Trainer::new(network, objective()).steps(3).batch_size(4).quiet().fit(&points(13)).unwrap();
    let same: Vec<bool> = parts(&before).into_iter().zip(parts(&after.network)).map(|(a, b)| a == b).collect();
    // input weight and bias, classes, hidden weight and bias, output weight and bias
    assert_eq!(same, [false, false, false, true, false, false, false]);
    assert_eq!(parts(after.for_sampling())[3], parts(&before)[3]);
}

fn parts(network: &Net) -> Vec<Vec<f32>> {
    struct Parts(Vec<Vec<f32>>);
    impl burn::module::ModuleVisitor for Parts {
        fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<D>>) {
            self.0.push(param.val().try_into_vec_as::<f32>().unwrap());
        }
    }
    let mut parts = Parts(Vec::new());
    network.visit(&mut parts);
    parts.0
}

/// The setting that a trainer's error names.
fn rejected(trainer: Trainer<Net, 2>) -> &'static str {
    let _turn = alone();
    match trainer.fit(&points(13)).unwrap_err() {
        TrainError::Setting { setting, .. } => setting,
        other => panic!("{other}"),
    }
}

#[test]
fn zero_steps_are_rejected() {
    assert_eq!(rejected(trainer(0)), "steps");
}

#[test]
fn an_empty_batch_is_rejected() {
    assert_eq!(rejected(trainer(2).batch_size(0)), "batch_size");
}

#[test]
fn a_batch_larger_than_the_data_is_rejected() {
    let _turn = alone();
    let error = trainer(2).batch_size(14).fit(&points(13)).unwrap_err();
    assert!(matches!(error, TrainError::BatchSize { batch_size: 14, len: 13 }), "{error}");
}

#[test]
fn a_learning_rate_that_is_not_positive_is_rejected() {
    for rate in [0.0, -1e-3, f64::NAN, f64::INFINITY] {
        assert_eq!(rejected(trainer(2).learning_rate(rate)), "learning_rate");
    }
}

#[test]
fn a_cosine_shorter_than_the_warmup_is_rejected() {
    assert_eq!(rejected(trainer(5).cosine()), "warmup");
    assert_eq!(rejected(trainer(9).decay(Decay::Cosine { steps: 9, floor: -1.0 })), "floor of the cosine");
}

#[test]
fn a_clipping_norm_that_is_not_positive_is_rejected() {
    for norm in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(rejected(trainer(2).clip_norm(norm)), "clip_norm");
    }
}

#[test]
fn a_condition_dropout_that_is_no_probability_is_rejected() {
    for p in [-0.1, 1.1, f64::NAN] {
        assert_eq!(rejected(trainer(2).condition_dropout(p)), "condition_dropout");
    }
}

#[test]
fn an_ema_decay_outside_its_range_is_rejected() {
    for decay in [1.0, -0.5, f64::NAN] {
        assert_eq!(rejected(trainer(2).ema(decay)), "ema decay");
    }
}

#[test]
fn an_optimizer_out_of_range_is_rejected() {
    let optimizer = langevin_train::AdamW { weight_decay: -1.0, ..Default::default() };
    assert_eq!(rejected(trainer(2).optimizer(optimizer)), "weight_decay of AdamW");
}

#[test]
fn checkpoints_every_zero_steps_are_rejected() {
    assert_eq!(rejected(trainer(2).checkpoint_every(0)), "checkpoint_every");
}

#[test]
fn too_many_workers_are_rejected() {
    assert_eq!(rejected(trainer(2).workers(65)), "workers");
}

#[test]
fn a_network_without_parameters_is_rejected() {
    let _turn = alone();
    #[derive(Module, Debug)]
    struct Nothing {}
    impl Network<2> for Nothing {
        type Cond = ();
        fn forward(&self, x: Tensor<2>, _: Tensor<1>, _: &()) -> Result<Tensor<2>, DenoiseError> {
            Ok(x)
        }
        fn for_sampling(&self) -> Self {
            self.clone()
        }
    }
    let error = Trainer::new(Nothing {}, objective()).batch_size(4).quiet().fit(&points(13)).unwrap_err();
    assert!(matches!(error, TrainError::NoParameters), "{error}");
}

#[test]
fn errors_of_the_condition_and_of_the_network_come_through() {
    let _turn = alone();
    let make = || Net::new(2, 8, 0.0, &Device::flex());
    let class = Trainer::conditioned(make(), objective(), |_| Err(DenoiseError::Class { given: 9, classes: 3 }));
    let error = class.batch_size(4).quiet().fit(&points(13)).unwrap_err();
    assert!(matches!(error, TrainError::Denoise(DenoiseError::Class { given: 9, classes: 3 })), "{error}");
    let rows = Trainer::conditioned(make(), objective(), |_| Ok(crate::network::Classes(vec![1, 2])));
    let error = rows.batch_size(4).quiet().fit(&points(13)).unwrap_err();
    assert!(matches!(error, TrainError::Denoise(DenoiseError::ConditionRows { condition: 2, batch: 4 })), "{error}");
}

#[test]
fn a_folder_that_cannot_be_made_is_reported() {
    let _turn = alone();
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = trainer(1).resume(file.path().join("run")).fit(&points(13)).unwrap_err();
    assert!(matches!(error, TrainError::Checkpoint(CheckpointError::Io { .. })), "{error}");
}

#[test]
fn errors_and_trainers_cross_threads() {
    fn send<T: Send + 'static>() {}
    send::<TrainError>();
    send::<Trainer<Net, 2>>();
    fn sync<T: Sync>() {}
    sync::<Objective>();
    assert!(Objective::new(VpSde::default(), Prediction::Epsilon).is_ok());
}
