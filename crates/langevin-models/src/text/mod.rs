//! Encoders of text, and of the images that stand in for text.
//!
//! * [`ClipText`]: the text tower of CLIP, which Stable Diffusion 1 and 2, SDXL, SD 3 and Flux are told by;
//! * [`ClipVision`]: the image tower of CLIP, for prompts that are images;
//! * [`Tokens`]: token numbers, as a tokenizer makes them.
//!
//! All of them read the folders that transformers writes, and return the states that go into a
//! [`TextCondition`](crate::TextCondition).

mod attention;
mod clip;
mod published;
mod tokens;

pub use clip::{
    ClipAttention, ClipEncoder, ClipLayer, ClipMlp, ClipText, ClipTextConfig, ClipTextEmbeddings, ClipTextOutput,
    ClipTextTransformer, ClipVision, ClipVisionConfig, ClipVisionEmbeddings, ClipVisionOutput, ClipVisionTransformer,
    EndOfText,
};
pub use tokens::Tokens;
