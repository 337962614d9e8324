//! The motion diffusion model: an encoder-only transformer over the frames of a motion.

mod config;
mod encoder;
mod model;

pub use config::{MdmConfig, MotionCondition};
pub use encoder::{EncoderLayer, PackedAttention};
pub use model::{ActionEmbedding, InputProcess, Mdm, MotionEncoder, MotionPositions, OutputProcess, TimeEmbedding};
