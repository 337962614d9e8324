//! BERT, for embeddings of sentences.
//!
//! Devlin et al. 2018, [arXiv:1810.04805](https://arxiv.org/abs/1810.04805).

mod config;
mod layers;
mod model;

pub use config::BertConfig;
pub use layers::{BertAttention, BertIntermediate, BertLayer, BertOutput, BertSelfAttention};
pub use model::{Bert, BertEmbeddings, BertEncoder, BertOutputs, BertPooler};
