//! Attention among the tokens of texts.

use burn::tensor::Tensor;

use super::tokens::Sight;
use crate::layers::{Embedding, attention_with, join_heads, random, split_heads};
use burn::tensor::{Device, Distribution};

/// Attention of projected tokens `[batch, tokens, heads·d]` to one another. A token that sees nothing gets zeros.
pub(super) fn attend([query, key, value]: [Tensor<3>; 3], heads: usize, sight: &Sight, scale: f64) -> Tensor<3> {
    let split = |x| split_heads(x, heads);
    let y = attention_with(split(query), split(key), split(value), sight.bias.clone(), scale);
    join_heads(match &sight.seeing {
        Some(seeing) => y * seeing.clone(),
        None => y,
    })
}

/// A table of vectors with entries of standard deviation `deviation`.
pub(super) fn table(count: usize, width: usize, deviation: f64, device: &Device) -> Embedding {
    Embedding { weight: random([count, width], Distribution::Normal(0.0, deviation), device) }
}
