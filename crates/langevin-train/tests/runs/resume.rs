//! Checkpoints: exact resume, interruption, and everything that must not be resumed from.

use crate::network::{Net, alone, bits, objective, points, trainer};
use burn::tensor::Device;
use langevin_core::Prediction;
use langevin_core::process::VpSde;
use langevin_data::{Batch, DataError, DataSet, VectorSet};
use langevin_models::MlpConfig;
use langevin_train::{
    AdamW, CheckpointError, Objective, TrainError, Trained, Trainer, Weighting, Weights, load_network,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn file(folder: &Path) -> PathBuf {
    folder.join("checkpoint.langevin")
}

fn assert_same(a: &Trained<Net>, b: &Trained<Net>) {
    assert_eq!(a.history, b.history);
    assert_eq!(bits(&a.network), bits(&b.network));
    assert_eq!(bits(a.ema.as_ref().unwrap()), bits(b.ema.as_ref().unwrap()));
}

#[test]
fn a_resumed_run_ends_at_the_same_bits() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let whole = trainer(20).fit(&points(13)).unwrap();
    let half = trainer(10).resume(folder.path()).fit(&points(13)).unwrap();
    assert_eq!(half.history, whole.history[..10]);
    let resumed = trainer(20).resume(folder.path()).fit(&points(13)).unwrap();
    assert_same(&whole, &resumed);
    // Nothing is left to do: the same again.
    assert_same(&whole, &trainer(20).resume(folder.path()).fit(&points(13)).unwrap());
    // Dropout, the labels that are dropped, and the seed do matter, or this test would show little.
    assert_ne!(whole.history, trainer(20).condition_dropout(0.0).fit(&points(13)).unwrap().history);
    assert_ne!(whole.history, trainer(20).seed(12).fit(&points(13)).unwrap().history);
    let dry = Trainer::new(Net::new(2, 8, 0.0, &Device::flex()), objective());
    let dry = dry.steps(20).batch_size(4).seed(11).learning_rate(1e-2).warmup(5).condition_dropout(0.2).quiet();
    assert_ne!(whole.history, dry.fit(&points(13)).unwrap().history);
}

#[test]
fn workers_and_how_often_checkpoints_are_written_do_not_matter() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let whole = trainer(20).fit(&points(13)).unwrap();
    let resume = |steps| trainer(steps).resume(folder.path()).checkpoint_every(3).workers(2);
    resume(7).fit(&points(13)).unwrap();
    assert_same(&whole, &resume(20).fit(&points(13)).unwrap());
}

/// Data that break off at the n-th batch.
struct Interrupted {
    points: VectorSet,
    batches_left: AtomicUsize,
}

impl DataSet<2> for Interrupted {
    fn len(&self) -> usize {
        self.points.len()
    }
    fn batch(&self, indices: &[usize], device: &Device) -> Result<Batch<2>, DataError> {
        if self.batches_left.fetch_sub(1, Ordering::Relaxed) == 0 {
            return Err(DataError::Empty { what: "the disk" });
        }
        self.points.batch(indices, device)
    }
}

#[test]
fn an_interrupted_run_goes_on_from_its_last_checkpoint() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    // The cosine ends with the last step, so that the length of the run matters here.
    let cosine = || trainer(20).cosine().checkpoint_every(5);
    let whole = cosine().fit(&points(13)).unwrap();
    let data = Interrupted { points: points(13), batches_left: AtomicUsize::new(13) };
    let error = cosine().resume(folder.path()).fit(&data).unwrap_err();
    assert!(matches!(error, TrainError::Data(_)), "{error}");
    // What a kill in the middle of writing leaves behind does no harm.
    fs::write(folder.path().join("checkpoint.langevin.tmp"), b"LANG").unwrap();
    // Ten steps are in the checkpoint, ten are missing.
    let data = Interrupted { points: points(13), batches_left: AtomicUsize::new(10) };
    assert_same(&whole, &cosine().resume(folder.path()).fit(&data).unwrap());
}

/// Where the child of the next test trains; without it that child does nothing.
const KILLED: &str = "LANGEVIN_TEST_TRAIN_UNTIL_KILLED";

#[test]
fn trains_until_killed() {
    if let Some(folder) = std::env::var_os(KILLED) {
        trainer(1_000_000).checkpoint_every(1).resume(folder).fit(&points(13)).unwrap();
    }
}

#[test]
fn a_run_that_is_killed_at_any_moment_goes_on_exactly() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    for milliseconds in [3, 17, 8, 29, 11] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "resume::trains_until_killed"])
            .env(KILLED, folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // It writes a checkpoint after each step, so most of its time, and most likely its end, is in the writing.
        let before = fs::metadata(file(folder.path())).and_then(|data| data.modified()).ok();
        while fs::metadata(file(folder.path())).and_then(|data| data.modified()).ok() == before {
            assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // How far it came is known from an error only: one step is too few.
    let steps = match trainer(1).resume(folder.path()).fit(&points(13)).unwrap_err() {
        TrainError::Checkpoint(CheckpointError::Beyond { step, .. }) => step + 5,
        other => panic!("{other}"),
    };
    let whole = trainer(steps).fit(&points(13)).unwrap();
    assert_same(&whole, &trainer(steps).resume(folder.path()).fit(&points(13)).unwrap());
}

#[test]
fn a_checkpoint_that_cannot_be_written_leaves_the_last_one() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    trainer(5).resume(folder.path()).fit(&points(13)).unwrap();
    let before = fs::read(file(folder.path())).unwrap();
    fs::create_dir(folder.path().join("checkpoint.langevin.tmp")).unwrap();
    let error = trainer(10).resume(folder.path()).fit(&points(13)).unwrap_err();
    assert!(matches!(error, TrainError::Checkpoint(CheckpointError::Io { action: "create", .. })), "{error}");
    assert_eq!(fs::read(file(folder.path())).unwrap(), before);
}

#[test]
fn other_settings_are_refused_by_name() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    trainer(5).resume(folder.path()).fit(&points(13)).unwrap();
    let refused = |trainer: Trainer<Net, 2>, samples: usize, expected: &str| {
        let error = trainer.resume(folder.path()).fit(&points(samples)).unwrap_err();
        match error {
            TrainError::Checkpoint(CheckpointError::Setting { ref setting, ref checkpoint, ref given, .. }) => {
                assert_eq!(setting, expected);
                assert!(error.to_string().contains(checkpoint) && error.to_string().contains(given), "{error}");
            }
            other => panic!("{expected}: {other}"),
        }
    };
    refused(trainer(8).batch_size(5), 13, "batch_size");
    refused(trainer(8).seed(1), 13, "seed");
    refused(trainer(8).learning_rate(2e-2), 13, "learning_rate");
    refused(trainer(8).warmup(4), 13, "learning_rate");
    refused(trainer(8).cosine(), 13, "learning_rate");
    refused(trainer(8).optimizer(AdamW { beta_2: 0.99, ..AdamW::default() }), 13, "optimizer");
    refused(trainer(8).clip_norm(2.0), 13, "clip_norm");
    refused(trainer(8).no_clipping(), 13, "clip_norm");
    refused(trainer(8).ema(0.8), 13, "ema");
    refused(trainer(8).no_ema(), 13, "ema");
    refused(trainer(8).condition_dropout(0.3), 13, "condition_dropout");
    refused(trainer(8), 14, "samples");
    let other = |objective| {
        let trainer = Trainer::new(Net::new(2, 8, 0.1, &Device::flex()), objective).steps(8).batch_size(4).seed(11);
        trainer.learning_rate(1e-2).warmup(5).condition_dropout(0.2).ema(0.9).quiet()
    };
    let sde = VpSde::default();
    refused(other(Objective::new(sde.clone(), Prediction::Epsilon).unwrap()), 13, "prediction");
    refused(other(Objective::new(VpSde::new(0.1, 10.0).unwrap(), Prediction::Velocity).unwrap()), 13, "process");
    refused(other(objective().weighting(Weighting::MinSnr(5.0)).unwrap()), 13, "weighting");
    refused(other(objective().times(langevin_train::Times::Stratified).unwrap()), 13, "times");
}

#[test]
fn a_network_that_differs_beside_its_parameters_is_refused() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let fit = |time_scale| {
        let network = MlpConfig::new(2).hidden(8).layers(1).time_scale(time_scale).init(&Device::flex()).unwrap();
        let trainer = Trainer::new(network, objective()).steps(3).batch_size(4).condition_dropout(1.0).quiet();
        trainer.resume(folder.path()).fit(&points(13)).map(|_| ())
    };
    fit(1.0).unwrap();
    let error = fit(1000.0).unwrap_err();
    let TrainError::Checkpoint(CheckpointError::Setting { ref setting, .. }) = error else { panic!("{error}") };
    assert_eq!(setting, "network");
    assert!(error.to_string().contains("1000"), "{error}");
}

#[test]
fn another_network_is_refused_by_parameter() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    trainer(5).resume(folder.path()).fit(&points(13)).unwrap();
    let wide = Trainer::new(Net::new(2, 9, 0.1, &Device::flex()), objective()).steps(8).batch_size(4).seed(11);
    let wide = wide.learning_rate(1e-2).warmup(5).condition_dropout(0.2).ema(0.9).quiet().resume(folder.path());
    match wide.fit(&points(13)).unwrap_err() {
        TrainError::Checkpoint(CheckpointError::Parameter { parameter, checkpoint, given, .. }) => {
            assert_eq!(parameter, "input.weight");
            assert_eq!((checkpoint.as_str(), given.as_str()), ("[3, 8] of F32", "[3, 9] of F32"));
        }
        other => panic!("{other}"),
    }
}

#[test]
fn fewer_steps_than_the_checkpoint_has_are_refused() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    trainer(5).resume(folder.path()).fit(&points(13)).unwrap();
    let error = trainer(4).resume(folder.path()).fit(&points(13)).unwrap_err();
    assert!(matches!(error, TrainError::Checkpoint(CheckpointError::Beyond { step: 5, steps: 4, .. })), "{error}");
}

#[test]
fn damaged_files_are_refused() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    trainer(5).resume(folder.path()).fit(&points(13)).unwrap();
    let good = fs::read(file(folder.path())).unwrap();
    let refusal = |bytes: &[u8]| {
        fs::write(file(folder.path()), bytes).unwrap();
        match trainer(8).resume(folder.path()).fit(&points(13)).unwrap_err() {
            TrainError::Checkpoint(error) => error,
            other => panic!("{other}"),
        }
    };
    for length in [0, 5, 8, 20, 35, 36, 100, good.len() / 2, good.len() - 1] {
        let error = refusal(&good[..length]);
        assert!(matches!(error, CheckpointError::Truncated { found, .. } if found == length as u64), "{error}");
    }
    // One bit in the lengths, the header, the records, the losses, the hash.
    for at in [21, 40, good.len() / 3, good.len() / 2, good.len() - 20, good.len() - 3] {
        let mut bytes = good.clone();
        bytes[at] ^= 4;
        let error = refusal(&bytes);
        assert!(matches!(error, CheckpointError::Damaged { .. }), "byte {at}: {error}");
    }
    let error = refusal(&[&good[..], b"more"].concat());
    assert!(matches!(error, CheckpointError::Damaged { .. }), "{error}");
    let error = refusal(b"PNG or whatever else is there");
    assert!(matches!(error, CheckpointError::NotACheckpoint { .. }), "{error}");
    let mut bytes = good.clone();
    bytes[8] = 77;
    let error = refusal(&bytes);
    assert!(matches!(error, CheckpointError::Version { found: 77, expected: 1, .. }), "{error}");
    fs::write(file(folder.path()), &good).unwrap();
    trainer(8).resume(folder.path()).fit(&points(13)).unwrap();
}

#[test]
fn networks_load_from_a_checkpoint_without_training() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let fresh = || Net::new(2, 8, 0.1, &Device::flex());
    let missing = load_network(folder.path(), fresh(), Weights::Trained).unwrap_err();
    assert!(matches!(missing, CheckpointError::Missing { .. }), "{missing}");
    let trained = trainer(5).resume(folder.path()).fit(&points(13)).unwrap();
    let load = |weights| bits(&load_network(folder.path(), fresh(), weights).unwrap());
    assert_eq!(load(Weights::Trained), bits(&trained.network));
    assert_eq!(load(Weights::Averaged), bits(trained.for_sampling()));
    assert_ne!(load(Weights::Trained), load(Weights::Averaged));
    let wide = load_network(folder.path(), Net::new(2, 9, 0.1, &Device::flex()), Weights::Trained).unwrap_err();
    assert!(matches!(wide, CheckpointError::Parameter { .. }), "{wide}");
    let folder = tempfile::tempdir().unwrap();
    trainer(2).no_ema().resume(folder.path()).fit(&points(13)).unwrap();
    let none = load_network(folder.path(), fresh(), Weights::Averaged).unwrap_err();
    assert!(matches!(none, CheckpointError::NoAverage { .. }), "{none}");
}
