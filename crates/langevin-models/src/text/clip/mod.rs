//! The two towers of CLIP.
//!
//! Radford et al. 2021, [arXiv:2103.00020](https://arxiv.org/abs/2103.00020), section 2.4.

mod config;
mod encoder;
mod text;
mod vision;
mod vision_config;

pub use config::{ClipTextConfig, EndOfText};
pub use encoder::{ClipAttention, ClipEncoder, ClipLayer, ClipMlp};
pub use text::{ClipText, ClipTextEmbeddings, ClipTextOutput, ClipTextTransformer};
pub use vision::{ClipVision, ClipVisionEmbeddings, ClipVisionOutput, ClipVisionTransformer};
pub use vision_config::ClipVisionConfig;
