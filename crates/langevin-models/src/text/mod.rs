//! Encoders of text, and of the images that stand in for text.
//!
//! * [`ClipText`]: the text tower of CLIP, which Stable Diffusion 1 and 2, SDXL, SD 3 and Flux are told by;
//! * [`ClipVision`]: the image tower of CLIP, for prompts that are images;
//! * [`T5Encoder`]: the encoder of T5, which SD 3, Flux, PixArt and many networks of videos are told by;
//! * [`Bert`]: embeddings of whole sentences;
//! * [`ByteText`]: a small encoder to train with a network of one's own;
//! * [`Tokens`]: token numbers, as a tokenizer makes them; with the feature `tokenizers`, `TextTokenizer` makes them from
//!   text.
//!
//! All but `ByteText` read the folders that transformers writes, and return the states that go into a
//! [`TextCondition`](crate::TextCondition).

mod attention;
mod bert;
mod bytes;
mod clip;
mod published;
mod t5;
#[cfg(feature = "tokenizers")]
mod tokenizer;
mod tokens;

pub use bert::{
    Bert, BertAttention, BertConfig, BertEmbeddings, BertEncoder, BertIntermediate, BertLayer, BertOutput, BertOutputs,
    BertPooler, BertSelfAttention,
};
pub use bytes::{ByteLayer, ByteText, ByteTextConfig};
pub use clip::{
    ClipAttention, ClipEncoder, ClipLayer, ClipMlp, ClipText, ClipTextConfig, ClipTextEmbeddings, ClipTextOutput,
    ClipTextTransformer, ClipVision, ClipVisionConfig, ClipVisionEmbeddings, ClipVisionOutput, ClipVisionTransformer,
    EndOfText,
};
pub use published::Unused;
pub use t5::{
    T5Attention, T5Block, T5Dense, T5Encoder, T5EncoderConfig, T5FeedForward, T5Layer, T5LayerAttention,
    T5LayerFeedForward, T5Stack,
};
#[cfg(feature = "tokenizers")]
pub use tokenizer::TextTokenizer;
pub use tokens::Tokens;
