//! The errors of this crate.

use crate::CheckpointError;
use crate::weighting::Weighting;
use crate::{Origin, Precision};
use burn::tensor::TensorReadError;
use langevin_core::{DenoiseError, Level, NoiseError, PredictionError, ProcessError};
use langevin_data::DataError;

/// What can be wrong with a training run: its settings, its data, its numbers or its checkpoints.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A setting is out of range.
    #[error("{setting} is {given}, expected {expected}")]
    Setting {
        /// Name of the setting, as its method is called.
        setting: &'static str,
        /// Its value.
        given: f64,
        /// What is allowed, in words.
        expected: &'static str,
    },
    /// A network with classes on data without labels.
    #[error(
        "the network knows {classes} classes and the data has no labels, so that it would learn of none: give the data labels, make the \
         network without classes, or say that it is trained without them by `.condition_dropout(1.0)`"
    )]
    NoLabels {
        /// Classes that the network knows.
        classes: usize,
    },
    /// More classes in the data than the network has.
    #[error(
        "the data has {given} classes and the network knows {known}: make the network with more, or say that it is trained without them by \
         `.condition_dropout(1.0)`"
    )]
    Classes {
        /// Classes that the network knows.
        known: usize,
        /// Classes of the data.
        given: usize,
    },
    /// A batch larger than the data set.
    #[error(
        "batch_size is {batch_size}, the data set has {len} samples: give a batch size of at most {len}, or more data"
    )]
    BatchSize {
        /// The batch size asked for.
        batch_size: usize,
        /// Samples in the data set.
        len: usize,
    },
    /// The process has a level that is not a pair of finite, non-negative numbers.
    #[error(
        "the process has alpha = {alpha}, sigma = {sigma} at time {t}: both must be finite and not negative, and not both zero"
    )]
    Level {
        /// Process time.
        t: f64,
        /// α there.
        alpha: f64,
        /// σ there.
        sigma: f64,
    },
    /// The process is not one: its range, its signs, or a level that the noise does not rise to.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Times were asked for that need a chain, or a continuous process.
    #[error("{times} cannot be drawn on this process: {reason}")]
    Times {
        /// The way of drawing times.
        times: &'static str,
        /// Why not, and what to use instead.
        reason: &'static str,
    },
    /// The prediction has bad settings, or its training target is infinite somewhere on the process.
    #[error(transparent)]
    Prediction(#[from] PredictionError),
    /// The loss weight is infinite at a level of the process.
    #[error(
        "the loss weight {weighting:?} is infinite at alpha = {}, sigma = {} (time {}): use constant or min-SNR weights, \
         or a process that leaves this level out",
        .level.alpha, .level.sigma, .level.time
    )]
    Weight {
        /// The weighting.
        weighting: Weighting,
        /// Where it is infinite.
        level: Level,
    },
    /// The network, or its condition, does not fit the data.
    #[error(transparent)]
    Denoise(#[from] DenoiseError),
    /// Who watched the run failed. The last checkpoint stays.
    #[error("the watcher failed after step {step}: {source}")]
    Watch {
        /// Steps done.
        step: u64,
        /// What it said.
        source: crate::WatchError,
    },
    /// Noise could not be delivered.
    #[error(transparent)]
    Noise(#[from] NoiseError),
    /// The data could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A batch does not hold what was asked for.
    #[error("the data set answered with {given} {what} to a request for {expected} samples")]
    Batch {
        /// "samples" or "labels".
        what: &'static str,
        /// How many came.
        given: usize,
        /// How many were asked for.
        expected: usize,
    },
    /// The network has nothing to train.
    #[error("the network has no parameters: there is nothing to train")]
    NoParameters,
    /// The parameters of the network are on several devices.
    #[error("the network's parameters are on {count} devices: move it to one of them with `Module::fork`")]
    Devices {
        /// How many.
        count: usize,
    },
    /// The loss is NaN or infinite.
    #[error(
        "the loss of step {step} is {loss}: {origin}; {}{}",
        kept(.checkpoint),
        advice(Some(.origin), *.precision, *.step, .checkpoint)
    )]
    NonFiniteLoss {
        /// The step, from 0.
        step: u64,
        /// NaN or an infinity.
        loss: f32,
        /// Where it came from.
        origin: Origin,
        /// What the network computed in.
        precision: Precision,
        /// Steps in the last good checkpoint, which stays, if there is one.
        checkpoint: Option<u64>,
    },
    /// A parameter became NaN or infinite although the losses were finite.
    #[error(
        "after {step} steps the parameter `{parameter}` is NaN or infinite: {}{}",
        kept(.checkpoint),
        advice(None, Precision::Full, *.step, .checkpoint)
    )]
    NonFiniteParameters {
        /// Steps done.
        step: u64,
        /// Path of the first such parameter.
        parameter: String,
        /// Steps in the last good checkpoint, which stays, if there is one.
        checkpoint: Option<u64>,
    },
    /// The device does not compute in the type that was asked for.
    #[error("the network's device does not compute in {dtype:?}: train with another `precision`")]
    Precision {
        /// The type.
        dtype: burn::tensor::DType,
    },
    /// A parameter is too narrow to be trained beside a network in half precision.
    #[error("`{parameter}` is {dtype:?}: with a `precision` of the network, its parameters have to be in F32")]
    NarrowParameter {
        /// Its path.
        parameter: String,
        /// Its type.
        dtype: burn::tensor::DType,
    },
    /// The network does not bring its input to the type of its parameters.
    #[error(
        "`precision` gives the network parameters in half precision and states in F32, and the network does not say that it brings the one to \
         the other: cast what `forward` is given to the type of the parameters and the output back to that of the state, and let \
         `Network::casts_input` return true"
    )]
    InputNotCast,
    /// AdamW's ε is zero in the type of a parameter.
    #[error(
        "`{parameter}` is {dtype:?}, in which AdamW's epsilon of {epsilon:e} is zero, so that the first step would be NaN: keep the parameters in \
         F32 and train with `.precision(Precision::F16)`, or give an epsilon such as 1e-4"
    )]
    EpsilonVanishes {
        /// Path of the first such parameter.
        parameter: String,
        /// Its type.
        dtype: burn::tensor::DType,
        /// The ε that was asked for.
        epsilon: f32,
    },
    /// A gradient is NaN or infinite although the loss is finite; in `f16`, however little the loss is scaled.
    #[error(
        "the gradient of `{parameter}` in step {step} is NaN or infinite{}, and of no parameter declared after it: {}; look for a root, a \
         logarithm or a quotient of zero{}",
        if *.precision == Precision::F16 { " even where the loss is not scaled" } else { "" },
        kept(.checkpoint),
        advice(None, *.precision, *.step, .checkpoint)
    )]
    NonFiniteGradient {
        /// The step, from 0.
        step: u64,
        /// Path of the last parameter, in order of declaration, with such a gradient: gradients run from the loss to the input, and spoil
        /// all that lies before.
        parameter: String,
        /// What the network computed in.
        precision: Precision,
        /// Steps in the last good checkpoint, which stays, if there is one.
        checkpoint: Option<u64>,
    },
    /// A tensor could not be read back from its device.
    #[error("cannot read a tensor back from its device")]
    Read(#[from] TensorReadError),
    /// A checkpoint could not be written or cannot be resumed from.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// What to try against numbers that are not finite.
fn advice(origin: Option<&Origin>, precision: Precision, step: u64, checkpoint: &Option<u64>) -> String {
    let rate = "try a lower learning rate, a longer warm-up or gradient clipping";
    let range = "try `Precision::Bf16`, or a network whose numbers stay below 65,504";
    let advice = match (origin, precision, step) {
        (Some(Origin::Data), _, _) => return "; look at the samples, and at what prepares them".into(),
        (Some(Origin::Parameter(_)), Precision::F16, 0) => {
            "look at the weights that the network was given, which have to stay below 65,504".into()
        }
        (Some(Origin::Parameter(_)), _, 0) => "look at the weights that the network was given".into(),
        (_, Precision::F16, 0) => range.to_string(),
        // Nothing has been learned yet that could be too much.
        (Some(_), _, 0) => "look at what the network was given, and at its weights".into(),
        (None, _, 0) => return String::new(),
        (_, Precision::F16, _) => format!("{rate}, or {}", &range["try ".len()..]),
        _ => rate.to_string(),
    };
    match checkpoint {
        // With other settings it is another run.
        Some(_) if step > 0 => {
            format!("; {advice} (`load_network` reads the checkpoint's weights for a run with other settings)")
        }
        _ => format!("; {advice}"),
    }
}

fn kept(checkpoint: &Option<u64>) -> String {
    match checkpoint {
        Some(step) => format!("the checkpoint of step {step} is kept"),
        None => "there is no checkpoint to go back to".into(),
    }
}

/// An error unless `ok`.
pub(crate) fn require(ok: bool, setting: &'static str, given: f64, expected: &'static str) -> Result<(), TrainError> {
    if ok { Ok(()) } else { Err(TrainError::Setting { setting, given, expected }) }
}
