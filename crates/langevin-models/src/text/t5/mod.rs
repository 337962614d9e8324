//! The encoder of T5.
//!
//! Raffel et al. 2019, [arXiv:1910.10683](https://arxiv.org/abs/1910.10683).

mod buckets;
mod config;
mod layers;
mod model;

pub use config::{T5EncoderConfig, T5FeedForward};
pub use layers::{T5Attention, T5Block, T5Dense, T5Layer, T5LayerAttention, T5LayerFeedForward};
pub use model::{T5Encoder, T5Stack};
