//! What blocks over two streams share.

use burn::tensor::{Device, Tensor};

use crate::error::ModelError;
use crate::layers::{Activation, FeedForward, FeedForwardConfig, Gate, Gates, LayerNorm, LayerNormConfig, modulate};
use crate::tap::Tap;

/// The plain normalization before feed-forward layers, and these.
pub(super) fn feed_forward(width: usize, device: &Device) -> Result<(LayerNorm, FeedForward), ModelError> {
    let norm = LayerNormConfig::new(width).epsilon(1e-6).plain().init(device)?;
    Ok((norm, FeedForwardConfig::new(width).gate(Gate::None(Activation::GeluTanh)).init(device)?))
}

/// Adds what attention returned, the first through its gate, then the feed-forward layers through theirs; `names` are
/// those of the norm and the layers.
pub(super) fn finish(
    x: Tensor<3>,
    gates: Gates,
    [first, second]: [Option<Tensor<3>>; 2],
    (norm, layers): (&LayerNorm, &FeedForward),
    names: [&str; 2],
    tap: &mut Tap<'_>,
) -> Tensor<3> {
    let x = first.into_iter().fold(x, |x, first| x + gates.attention.clone() * first);
    let x = second.into_iter().fold(x, |x, second| x + second);
    let h = norm.forward(x.clone());
    tap.see(names[0], &h);
    let h = tap.scope(names[1], |tap| layers.forward(modulate(h, gates.shift, gates.scale), tap));
    x + gates.feed_forward * h
}
