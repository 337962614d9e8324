//! Training that is looked at and stopped from outside.

use crate::network::{Classes, Net, alone, bits, objective, points, trainer};
use burn::tensor::{Device, Tensor};
use langevin_core::Network;
use langevin_core::noise::{Domain, Key, Seeded, like};
use langevin_data::DataSet;
use langevin_train::TrainError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn watching_changes_nothing_and_shows_what_there_is() {
    let _turn = alone();
    let whole = trainer(10).fit(&points(13)).unwrap();
    let mut seen = Vec::new();
    let watched = trainer(10)
        .fit_watched(&points(13), 3, |watch| {
            assert_eq!((watch.steps, watch.resumed_at, watch.losses.len() as u64), (10, 0, watch.step));
            let last = watch.losses[watch.losses.len() - 2..].iter().sum::<f32>() / 2.0;
            assert!((watch.mean_loss(2) - last).abs() < 1e-6);
            let all = watch.losses.iter().sum::<f32>() / watch.losses.len() as f32;
            assert!((watch.mean_loss(1000) - all).abs() < 1e-6);
            // What a watcher draws must not move the run.
            Tensor::<1>::random([5], burn::tensor::Distribution::Default, &Device::flex()).into_data();
            seen.push((watch.step, bits(&watch.network)));
            Ok(())
        })
        .unwrap();
    assert_eq!(seen.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [3, 6, 9]);
    assert_eq!((bits(&watched.network), watched.history), (bits(&whole.network), whole.history));
    // It is the average, as it was then.
    assert!(watched.finished && watched.resumed_at == 0);
    let nine = trainer(9).fit(&points(13)).unwrap();
    assert_eq!(seen[2].1, bits(nine.ema.as_ref().unwrap()));
}

#[test]
fn what_a_watcher_fails_with_ends_the_run_and_says_when() {
    let _turn = alone();
    let error = trainer(10).fit_watched(&points(13), 4, |_| Err("no room for pictures".into())).unwrap_err();
    assert!(matches!(error, TrainError::Watch { step: 4, .. }));
    assert!(error.to_string().contains("no room for pictures"), "{error}");
    let error = trainer(10).fit_watched(&points(13), 0, |_| Ok(())).unwrap_err();
    assert!(matches!(error, TrainError::Setting { setting: "every", .. }), "{error}");
}

#[test]
fn a_stopped_run_saves_and_goes_on_to_the_same_bits() {
    let _turn = alone();
    let whole = trainer(20).cosine().fit(&points(13)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let stoppable = || trainer(20).cosine().resume(folder.path()).checkpoint_every(1000).stop_when(Arc::clone(&stop));
    let stopped = stoppable()
        .fit_watched(&points(13), 7, |_| {
            stop.store(true, Ordering::Relaxed);
            Ok(())
        })
        .unwrap();
    // The flag is seen at the end of the step after.
    assert!(!stopped.finished);
    assert_eq!(stopped.history, whole.history[..8]);
    stop.store(false, Ordering::Relaxed);
    let resumed = stoppable().fit(&points(13)).unwrap();
    assert!(resumed.finished);
    assert_eq!(resumed.resumed_at, 8);
    assert_eq!((bits(&resumed.network), resumed.history), (bits(&whole.network), whole.history));
}

/// Without dropout, the loss of held-out data is the loss of training.
#[test]
fn held_out_loss_is_the_loss_without_gradients() {
    let _turn = alone();
    let device = Device::flex();
    let (objective, network) = (objective(), Net::new(2, 8, 0.5, &device));
    let batch = points(6).batch(&[0, 2, 4, 5], &device).unwrap();
    let key = Key { domain: Domain::Training, index: 3, lane: 0 };
    let noise = like(&Seeded::new(4), &batch.x, 0, key).unwrap();
    let levels = objective.levels(4, 3, 4).unwrap();
    let cond = Classes(vec![0, 1, 2, 3]);
    let evaluate = || {
        let loss = objective.evaluate(&network.for_sampling(), batch.x.clone(), noise.clone(), &levels, &cond).unwrap();
        loss.try_into_scalar::<f32>().unwrap()
    };
    // No dropout: the same twice; and what the formula says.
    assert_eq!(evaluate().to_bits(), evaluate().to_bits());
    let x = levels.map(|l| l.alpha).times(batch.x.clone()) + levels.map(|l| l.sigma).times(noise.clone());
    let target = levels.map(|l| l.alpha).times(noise.clone()) - levels.map(|l| l.sigma).times(batch.x.clone());
    let output = network.for_sampling().forward(x.clone(), levels.times(&x), &cond).unwrap();
    let expected = (output - target).powi_scalar(2).mean().into_scalar::<f32>();
    assert!((evaluate() - expected).abs() < 1e-5 * expected, "{} and {expected}", evaluate());
}
