use super::*;
use crate::sampler::SampleError;
use burn::tensor::{DType, Device, Tensor};
use langevin_core::noise::Seeded;

fn read(class: &str, options: &str) -> Result<Helios, ConfigError> {
    helios_from_config(&format!(r#"{{"_class_name": "{class}"{options}}}"#))
}

#[test]
fn options_that_cannot_be_honored_are_refused() {
    for (options, named) in [
        (r#", "gamma": 0.5"#, "gamma"),
        (r#", "gamma": 0.0"#, "gamma"),
        (r#", "shift": -1.0"#, "shift"),
        (r#", "num_train_timesteps": 1"#, "num_train_timesteps"),
        (r#", "prediction_type": "epsilon""#, "prediction_type"),
        (r#", "use_flow_sigmas": false"#, "use_flow_sigmas"),
        (r#", "time_shift_type": "cubic""#, "time_shift_type"),
        (r#", "use_dynamic_shifting": true, "shift": 3.0"#, "use_dynamic_shifting"),
        (r#", "stages": 0"#, "stages"),
        (r#", "stages": 4"#, "stages"),
        (r#", "stage_range": [0.0, 0.6, 0.5, 1.0]"#, "stage_range"),
        (r#", "stage_range": [0.0, 0.1, 0.1001, 1.0], "num_train_timesteps": 100"#, "stage_range"),
        (r#", "beta_start": 0.1"#, "beta_start"),
    ] {
        for class in HELIOS_CLASSES {
            let error = read(class, options).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
    for (options, named) in [
        (r#", "scheduler_type": "dmd""#, "HeliosDMDScheduler"),
        (r#", "thresholding": true"#, "thresholding"),
        (r#", "predict_x0": false"#, "predict_x0"),
        (r#", "solver_type": "bh3""#, "solver_type"),
        (r#", "solver_p": {}"#, "solver_p"),
    ] {
        let error = read("HeliosScheduler", options).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
        let other = read("HeliosDMDScheduler", options).unwrap_err();
        assert!(matches!(other, ConfigError::UnknownKey { .. }), "{other}");
    }
    assert!(matches!(read("PNDMScheduler", ""), Err(ConfigError::Class { .. })));
    let (plain, dynamic) = (read("HeliosScheduler", "").unwrap(), r#", "use_dynamic_shifting": true"#);
    assert_eq!((plain.class(), plain.stages(), plain.prediction()), ("HeliosScheduler", 3, Prediction::Flow));
    let shifted = read("HeliosScheduler", dynamic).unwrap();
    for (wrong, key) in [
        (plain.grid(3, 4, None), "stage_index"),
        (plain.grid(0, 4, Some(0.7)), "mu"),
        (shifted.grid(0, 4, None), "mu"),
        (shifted.grid(0, 4, Some(f64::NAN)), "mu"),
        (read("HeliosDMDScheduler", dynamic).unwrap().grid(0, 4, Some(-0.7)), "mu"),
    ] {
        assert!(matches!(&wrong, Err(ConfigError::Value { key: named, .. }) if *named == key), "{wrong:?}");
    }
    assert!(matches!(plain.grid(0, 0, None), Err(ConfigError::Grid(_))) && plain.entry(3).is_err());
    assert_eq!(plain.entry(0).unwrap(), None);
}

/// Enlarged noise and what is added are a state of the flow: white, and of the variance of its level.
#[test]
fn stages_begin_with_states_of_their_flow() {
    let helios = read("HeliosScheduler", "").unwrap();
    let noise = Seeded::new(7);
    let device = Device::flex();
    let x = Tensor::<4>::from_data(
        burn::tensor::TensorData::new(vec![0.0; 4 * 128 * 128], [4, 1, 128, 128]),
        (&device, DType::F64),
    );
    let old = langevin_core::noise::like(&noise, &x, 0, langevin_core::Key::INITIAL).unwrap();
    for stage in 1..3 {
        let entry = helios.entry(stage).unwrap().unwrap();
        // The state before: noise alone, of the share that is left there.
        let signal = 1.0 - helios.stages[stage].begin;
        let state = entry.enter(old.clone().mul_scalar(1.0 - signal), &noise, 0).unwrap();
        assert_eq!(state.dims(), [4, 1, 256, 256]);
        let values = state.try_to_vec_as::<f64>().unwrap();
        let blocks = (0..4 * 128).flat_map(|i| (0..128).map(move |j| 512 * i + 2 * j));
        let mut moments = [[0.0f64; 4]; 4];
        for at in blocks {
            let block = [values[at], values[at + 1], values[at + 256], values[at + 257]];
            for (i, row) in moments.iter_mut().enumerate() {
                row.iter_mut().zip(block).for_each(|(sum, other)| *sum += block[i] * other / 65536.0);
            }
        }
        // Signal and noise together: what is left of 1.
        let left = 1.0 - entry.of_samples() * signal;
        for (i, row) in moments.iter().enumerate() {
            for (j, found) in row.iter().enumerate() {
                let expected = if i == j { left * left } else { 0.0 };
                assert!(
                    (found - expected).abs() < 4.0 * left * left * (2.0 / 65536.0f64).sqrt(),
                    "{i} {j}: {found} and {expected}"
                );
            }
        }
    }
    let entry = helios.entry(1).unwrap().unwrap();
    let odd = Tensor::<4>::zeros([1, 1, 3, 4], &device);
    let error = entry.block_noise(&odd, &noise, 0).unwrap_err();
    assert_eq!(error, SampleError::OddSides { height: 3, width: 4 });
    assert!(matches!(
        entry.enter(Tensor::<2>::zeros([1, 3], &device), &noise, 0),
        Err(SampleError::ResizedRank { given: 2, .. })
    ));
}
