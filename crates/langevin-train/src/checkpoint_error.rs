//! The errors of checkpoints.

use burn::store::RecordError;
use std::path::PathBuf;

/// Why a checkpoint could not be written, or cannot be resumed from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file system refused.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The parameters could not be written as a record.
    #[error("the parameters cannot be written as a record: {source}")]
    Write {
        /// What Burn said.
        source: RecordError,
    },
    /// There is no checkpoint.
    #[error("there is no checkpoint at {}: train with `.resume(folder)` first", .path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The checkpoint has no moving average.
    #[error("the checkpoint {} has no moving average: load the trained weights, or train with `.ema(..)`", .path.display())]
    NoAverage {
        /// The file.
        path: PathBuf,
    },
    /// The file is something else.
    #[error("{} is not a checkpoint: choose another folder, or remove the file", .path.display())]
    NotACheckpoint {
        /// The file.
        path: PathBuf,
    },
    /// The file has another version of the format.
    #[error("the checkpoint {} has format version {found}, this library reads version {expected}", .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version that can be read.
        expected: u32,
    },
    /// The end of the file is missing.
    #[error(
        "the checkpoint {} is truncated: {found} bytes of {expected}; copy it again, or remove it to start over",
        .path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes there.
        found: u64,
        /// Bytes there should be, at least.
        expected: u64,
    },
    /// Bytes in the file have changed.
    #[error("the checkpoint {} is damaged: its hash does not match; copy it again, or remove it to start over", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The description in the file cannot be read or written.
    #[error("the header of the checkpoint {} cannot be read or written: {source}", .path.as_deref().map_or("in memory".into(), |path| path.display().to_string()))]
    Header {
        /// The file; `None` while writing.
        path: Option<PathBuf>,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The checkpoint is of a run with other settings.
    #[error(
        "the checkpoint {} was written with {setting} = {checkpoint}, this run has {given}: \
         use the same settings, or another folder",
        .path.display()
    )]
    Setting {
        /// The file.
        path: PathBuf,
        /// Name of the setting.
        setting: String,
        /// Its value in the checkpoint.
        checkpoint: String,
        /// Its value in this run.
        given: String,
    },
    /// The checkpoint is of another network.
    #[error(
        "parameter {parameter} is {checkpoint} in the checkpoint {}, {given} in the network: \
         build the network with the same configuration, or use another folder",
        .path.display()
    )]
    Parameter {
        /// The file.
        path: PathBuf,
        /// Path of the parameter in the network.
        parameter: String,
        /// Its shape and dtype in the checkpoint, or "not there".
        checkpoint: String,
        /// Its shape and dtype in the network, or "not there".
        given: String,
    },
    /// A record does not fit the network.
    #[error("a record in the checkpoint {} does not fit the network: {source}", .path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What Burn said.
        source: RecordError,
    },
    /// The checkpoint has more steps than were asked for.
    #[error(
        "the checkpoint {} has {step} steps, {steps} were asked for: ask for at least {step}, or use another folder",
        .path.display()
    )]
    Beyond {
        /// The file.
        path: PathBuf,
        /// Steps in the checkpoint.
        step: u64,
        /// Steps asked for.
        steps: u64,
    },
}
