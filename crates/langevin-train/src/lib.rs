//! Training of diffusion models: objectives, EMA, trainer, checkpoints.
//!
//! * [`Objective`]: a process and a prediction as a regression problem; loss weights ([`Weighting`]) and the noise levels
//!   it is asked at ([`Times`]).
//! * [`Trainer`]: the loop, with AdamW, warm-up and cosine learning rate, clipping, conditioning dropout, moving
//!   average, half precision, progress bar, checkpoints and exact resume.
//! * [`HeldOut`]: the loss of data that training does not see.
//! * [`Ema`], [`LearningRate`], [`AdamW`]: its parts, for loops of your own.
//!
//! Whatever is random in training (order of data, noise, levels, dropout) is a pure function of the seed and the step:
//! a run that was stopped and resumed ends at the same numbers as one that was not.

mod adam;
mod batches;
mod checkpoint;
mod checkpoint_error;
mod conditioning;
mod ema;
mod error;
mod finite;
mod held_out;
mod norm;
mod objective;
mod optimizer;
mod precision;
mod progress;
mod question;
mod random;
mod run;
mod schedule;
mod times;
mod trainer;
mod watch;
mod weighting;

pub use adam::AdamW;
pub use checkpoint::{Weights, load_network};
pub use checkpoint_error::CheckpointError;
pub use conditioning::FromLabels;
pub use ema::{Ema, EmaDecay, EmaWarmup};
pub use error::TrainError;
pub use finite::Origin;
pub use held_out::HeldOut;
pub use objective::Objective;
pub use precision::Precision;
pub use schedule::{Decay, LearningRate};
pub use times::Times;
pub use trainer::{Trained, Trainer};
pub use watch::{Watch, WatchError};
pub use weighting::Weighting;
