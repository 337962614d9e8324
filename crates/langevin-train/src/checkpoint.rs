//! Files that a training run can go on from.
//!
//! A checkpoint is one file, so that it is there or not: magic bytes, version, lengths, a JSON header, Burn records of
//! the network, the optimizer's moments and the average, the losses, and a hash over all of it. It is written beside
//! its place, flushed to the disk and renamed: whenever the process is killed, the last complete checkpoint is intact.

use crate::CheckpointError;
use crate::precision::LossScale;
use burn::module::{Module, ModuleVisitor, Param};
use burn::store::ModuleRecord;
use burn::tensor::{Bytes, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"LANGEVIN";
const VERSION: u32 = 1;
/// Magic, version, length of the file, length of the header.
const PREFIX: usize = 8 + 4 + 8 + 8;
const HASH: usize = 8;
/// Name of the file in its folder.
const FILE: &str = "checkpoint.langevin";

/// The 64-bit FNV-1a hash: every change of a single byte changes it.
pub(crate) struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(crate) fn finish(&self) -> u64 {
        self.0
    }
}

/// A float parameter as a checkpoint describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Parameter {
    path: String,
    shape: Vec<usize>,
    dtype: String,
}

/// The float parameters of a network in the order of a visit.
pub(crate) fn parameters<M: Module>(network: &M) -> Vec<Parameter> {
    struct Describe {
        path: Vec<String>,
        list: Vec<Parameter>,
    }
    impl ModuleVisitor for Describe {
        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.path.push(name.into());
        }
        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let tensor = param.val();
            let (path, dtype) = (self.path.join("."), format!("{:?}", tensor.dtype()));
            self.list.push(Parameter { path, shape: tensor.dims().to_vec(), dtype });
        }
    }
    let mut describe = Describe { path: Vec::new(), list: Vec::new() };
    network.visit(&mut describe);
    describe.list
}

/// All that a run needs to go on.
pub(crate) struct Checkpoint {
    /// Steps done.
    pub(crate) step: u64,
    /// What decides the result of training, by name.
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) parameters: Vec<Parameter>,
    /// Updates of each float parameter.
    pub(crate) optimizer_updates: Vec<u64>,
    /// Updates of the average, if there is one.
    pub(crate) ema_updates: Option<u64>,
    pub(crate) loss_scale: LossScale,
    pub(crate) records: Records,
    /// The loss of each step.
    pub(crate) losses: Vec<f32>,
}

/// Burn records as bytes.
pub(crate) struct Records {
    pub(crate) network: Vec<u8>,
    pub(crate) first: Vec<u8>,
    pub(crate) second: Vec<u8>,
    /// Empty without an average.
    pub(crate) ema: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    step: u64,
    settings: BTreeMap<String, String>,
    parameters: Vec<Parameter>,
    optimizer_updates: Vec<u64>,
    ema_updates: Option<u64>,
    #[serde(default)]
    loss_scale: LossScale,
    /// Lengths of network, first and second moments, average, losses.
    sections: [u64; 5],
}

/// The record of a network as bytes.
pub(crate) fn record<M: Module>(network: M) -> Result<Vec<u8>, CheckpointError> {
    let bytes = network.into_record().into_bytes().map_err(|source| CheckpointError::Write { source })?;
    Ok(bytes.to_vec())
}

/// `network` with the parameters, and the parameter ids, of a record.
pub(crate) fn restore<M: Module>(network: M, bytes: Vec<u8>, path: &Path) -> Result<M, CheckpointError> {
    ModuleRecord::from_bytes(Bytes::from_bytes_vec(bytes))
        .and_then(|record| network.try_load_record(record))
        .map_err(|source| CheckpointError::Record { path: path.into(), source })
}

/// The file of a folder.
pub(crate) fn file(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> CheckpointError {
    let path = path.to_path_buf();
    move |source| CheckpointError::Io { action, path, source }
}

impl Checkpoint {
    fn into_bytes(self) -> Result<Vec<u8>, CheckpointError> {
        let losses: Vec<u8> = self.losses.iter().flat_map(|loss| loss.to_le_bytes()).collect();
        let Records { network, first, second, ema } = self.records;
        let sections = [network, first, second, ema, losses];
        let header = Header {
            step: self.step,
            settings: self.settings,
            parameters: self.parameters,
            optimizer_updates: self.optimizer_updates,
            ema_updates: self.ema_updates,
            loss_scale: self.loss_scale,
            sections: sections.each_ref().map(|section| section.len() as u64),
        };
        let header = serde_json::to_vec(&header).map_err(|source| CheckpointError::Header { path: None, source })?;
        let length = PREFIX + header.len() + sections.iter().map(Vec::len).sum::<usize>() + HASH;
        let mut bytes = Vec::with_capacity(length);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((length as u64).to_le_bytes());
        bytes.extend((header.len() as u64).to_le_bytes());
        bytes.extend(header);
        for section in sections {
            bytes.extend(section);
        }
        let mut hash = Hash::default();
        hash.write(&bytes);
        bytes.extend(hash.finish().to_le_bytes());
        Ok(bytes)
    }

    /// Writes the checkpoint into `dir`, in the place of the one that is there.
    pub(crate) fn save(self, dir: &Path) -> Result<(), CheckpointError> {
        let bytes = self.into_bytes()?;
        fs::create_dir_all(dir).map_err(io("create", dir))?;
        let path = file(dir);
        let beside = path.with_extension("langevin.tmp");
        let written = File::create(&beside).map_err(io("create", &beside)).and_then(|mut out| {
            out.write_all(&bytes).map_err(io("write", &beside))?;
            out.sync_all().map_err(io("flush", &beside))
        });
        if let Err(error) = written {
            // On a full disk the part that was written takes room that others need. If it cannot be removed, the next
            // checkpoint is written over it.
            let _ = fs::remove_file(&beside);
            return Err(error);
        }
        fs::rename(&beside, &path).map_err(io("replace", &path))?;
        // The rename itself must reach the disk; only Unix can open a folder for that.
        if cfg!(unix) {
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("flush", dir))?;
        }
        Ok(())
    }

    /// Reads the checkpoint of `dir`; `None` if there is none.
    pub(crate) fn load(dir: &Path) -> Result<Option<Self>, CheckpointError> {
        let path = file(dir);
        match fs::read(&path) {
            Ok(bytes) => Self::from_bytes(&bytes, &path).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io("read", &path)(error)),
        }
    }

    fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, CheckpointError> {
        let truncated =
            |expected: u64| CheckpointError::Truncated { path: path.into(), found: bytes.len() as u64, expected };
        let damaged = || CheckpointError::Damaged { path: path.into() };
        if !bytes.starts_with(&MAGIC[..bytes.len().min(MAGIC.len())]) {
            return Err(CheckpointError::NotACheckpoint { path: path.into() });
        }
        if bytes.len() < PREFIX + HASH {
            return Err(truncated((PREFIX + HASH) as u64));
        }
        let found = u32::from_le_bytes(number(bytes, 8));
        if found != VERSION {
            return Err(CheckpointError::Version { path: path.into(), found, expected: VERSION });
        }
        let length = u64::from_le_bytes(number(bytes, 12));
        if (bytes.len() as u64) < length {
            return Err(truncated(length));
        }
        let end = bytes.len() - HASH;
        let mut hash = Hash::default();
        hash.write(&bytes[..end]);
        if length != bytes.len() as u64 || hash.finish().to_le_bytes() != bytes[end..] {
            return Err(damaged());
        }
        let header_length = usize::try_from(u64::from_le_bytes(number(bytes, 20))).map_err(|_| damaged())?;
        let mut rest = &bytes[PREFIX..end];
        let mut cut = |length: usize| {
            let (part, after) = rest.split_at_checked(length).ok_or_else(damaged)?;
            rest = after;
            Ok::<_, CheckpointError>(part.to_vec())
        };
        let header: Header = serde_json::from_slice(&cut(header_length)?)
            .map_err(|source| CheckpointError::Header { path: Some(path.into()), source })?;
        let mut section = |i: usize| cut(usize::try_from(header.sections[i]).map_err(|_| damaged())?);
        let records = Records { network: section(0)?, first: section(1)?, second: section(2)?, ema: section(3)? };
        let losses = section(4)?.chunks_exact(4).map(|b| f32::from_le_bytes(number(b, 0))).collect();
        Ok(Self {
            step: header.step,
            settings: header.settings,
            parameters: header.parameters,
            optimizer_updates: header.optimizer_updates,
            ema_updates: header.ema_updates,
            loss_scale: header.loss_scale,
            records,
            losses,
        })
    }

    /// Checks that this checkpoint is of a run with these settings and a network with these parameters.
    pub(crate) fn check(
        &self,
        settings: &BTreeMap<String, String>,
        given: &[Parameter],
        path: &Path,
    ) -> Result<(), CheckpointError> {
        for setting in settings.keys().chain(self.settings.keys()) {
            // Full precision is not written down.
            let nothing = || if setting == "precision" { "Full" } else { "not there" }.to_string();
            let (old, new) = (self.settings.get(setting), settings.get(setting));
            if old != new {
                return Err(CheckpointError::Setting {
                    path: path.into(),
                    setting: setting.clone(),
                    checkpoint: old.cloned().unwrap_or_else(nothing),
                    given: new.cloned().unwrap_or_else(nothing),
                });
            }
        }
        check_parameters(&self.parameters, given, path)
    }
}

fn check_parameters(old: &[Parameter], new: &[Parameter], path: &Path) -> Result<(), CheckpointError> {
    let describe = |parameter: Option<&Parameter>| match parameter {
        Some(Parameter { shape, dtype, .. }) => format!("{shape:?} of {dtype}"),
        None => "not there".into(),
    };
    let find = |list: &[Parameter], name: &str| list.iter().find(|parameter| parameter.path == name).cloned();
    for Parameter { path: name, .. } in new.iter().chain(old) {
        let (checkpoint, given) = (find(old, name), find(new, name));
        if checkpoint != given {
            return Err(CheckpointError::Parameter {
                path: path.into(),
                parameter: name.clone(),
                checkpoint: describe(checkpoint.as_ref()),
                given: describe(given.as_ref()),
            });
        }
    }
    Ok(())
}

/// `N` bytes at `at`; the caller has checked that they are there.
fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|i| bytes[at + i])
}

/// Which parameters of a checkpoint to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// Those in training.
    Trained,
    /// Their moving average, which usually samples better.
    Averaged,
}

/// Loads the parameters of the checkpoint in `dir` into a network of the same shape, to sample without training.
///
/// The average is kept in `f32` and loads as such.
///
/// # Errors
/// [`CheckpointError::Missing`] if there is no checkpoint, [`CheckpointError::NoAverage`] if it has no average, and
/// [`CheckpointError`] for a file that is damaged or of another network.
pub fn load_network<M: Module>(dir: impl AsRef<Path>, network: M, weights: Weights) -> Result<M, CheckpointError> {
    let path = file(dir.as_ref());
    let Some(checkpoint) = Checkpoint::load(dir.as_ref())? else {
        return Err(CheckpointError::Missing { path });
    };
    check_parameters(&checkpoint.parameters, &parameters(&network), &path)?;
    match weights {
        Weights::Trained => restore(network, checkpoint.records.network, &path),
        Weights::Averaged if checkpoint.ema_updates.is_none() => Err(CheckpointError::NoAverage { path }),
        Weights::Averaged => restore(network, checkpoint.records.ema, &path),
    }
}
