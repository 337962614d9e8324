//! The layers of transformers over patches, each with the settings that choose another path through it.

use crate::Case;
use crate::probe::{Measured, function, module, tensor, value};
use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor};
use langevin::models::Tap;
use langevin::models::layers::{
    Activation, AdaLayerNormContinuous, AdaLayerNormDual, AdaLayerNormLabels, AdaLayerNormSingle, AdaLayerNormZero,
    ContextStream, GridPositions, JointAttentionConfig, PatchEmbeddingConfig, PatchOrder, RotaryEmbedding,
    TextProjection, TimestepLabelEmbedding, TimestepSizeEmbedding, TimestepTextEmbedding, modulate, patchify,
    unpatchify,
};

const OK: &str = "a valid configuration";

fn patches(device: &Device, config: PatchEmbeddingConfig) -> Measured {
    let layer = config.init(device).expect(OK);
    module(layer, [2, config.channels, 8, 12], device, |layer, x| layer.forward(x, &mut Tap::none()))
}

/// What an image gathers from itself and a text, as in the last block of a network.
fn image_of_both(device: &Device, norm: bool, [tokens, words]: [usize; 2], [width, heads]: [usize; 2]) -> Measured {
    let config = JointAttentionConfig::new(width, heads).context(ContextStream::ReadOnly).norm(norm);
    let text = tensor([2, words, width], 5, device);
    module(config.init(device).expect(OK), [2, tokens, width], device, move |layer, x| {
        let text = Tensor::from_inner(text.clone());
        layer.forward(x, Some(text), None, &mut Tap::none()).0
    })
}

/// A normalization of 24 entries that is told an embedding.
fn adaptive<M: Module>(layer: M, device: &Device, f: impl Fn(&M, Tensor<3>, Tensor<2>) -> Tensor<3>) -> Measured {
    let embedding = tensor([2, 24], 5, device);
    module(layer, [2, 5, 24], device, move |layer, x| f(layer, x, Tensor::from_inner(embedding.clone())))
}

fn times_and_classes(device: &Device) -> (Tensor<1>, Tensor<1, Int>) {
    (Tensor::from_data([3.0, 10.0], device), Tensor::from_data([2, 3], device))
}

/// The table: which public item, with what settings.
pub fn table() -> Vec<Case> {
    let case = |item, settings, run: fn(&Device) -> Measured| Case { item, settings, run, limit: None };
    vec![
        case("PatchEmbedding", "patches of 2", |d| patches(d, PatchEmbeddingConfig::new(3, 16, 2, 8).scale(2.0))),
        case("PatchEmbedding", "a stored table", |d| patches(d, PatchEmbeddingConfig::new(3, 16, 2, 8).table(6))),
        case("GridPositions", "rows and columns", |d| {
            value(GridPositions::new(32, 16).check().expect(OK).table([5, 7], d))
        }),
        case("patchify", "channels last", |d| function([2, 3, 4, 6], d, |x| patchify(x, 2, PatchOrder::ChannelsLast))),
        case("unpatchify", "channels first", |d| {
            function([2, 6, 12], d, |x| unpatchify(x, [3, 2], 2, PatchOrder::ChannelsFirst))
        }),
        case("RotaryEmbedding", "three axes", |d| {
            let places: Vec<_> = (0..12).map(|i| [1.0, f64::from(i / 4), f64::from(i % 4)]).collect();
            function([2, 3, 12, 8], d, move |x| RotaryEmbedding::new([2, 4, 2], &places, &x.device()).rotate(x))
        }),
        case("JointAttention", "text and image, normed", |d| {
            let config = JointAttentionConfig::new(24, 3).context(ContextStream::Both).norm(true);
            let text = tensor([2, 5, 24], 5, d);
            module(config.init(d).expect(OK), [2, 7, 24], d, move |layer, x| {
                let text = Tensor::from_inner(text.clone());
                let (image, text) = layer.forward(x, Some(text), None, &mut Tap::none());
                Tensor::cat(vec![image, text.expect("a text")], 1)
            })
        }),
        case("JointAttention", "text and image, of which the image is asked, normed", |d| {
            image_of_both(d, true, [7, 5], [24, 3])
        }),
        case("JointAttention", "text and image, of which the image is asked", |d| {
            image_of_both(d, false, [7, 5], [24, 3])
        }),
        case("JointAttention", "text and image, of which the image is asked, normed, 24 tokens", |d| {
            image_of_both(d, true, [24, 6], [16, 2])
        }),
        case("JointAttention", "text and image, of which the image is asked, 24 tokens", |d| {
            image_of_both(d, false, [24, 6], [16, 2])
        }),
        case("AdaLayerNormZero", "[2, 5, 24]", |d| {
            let layer = AdaLayerNormZero::new(24, d).expect(OK);
            adaptive(layer, d, |layer, x, e| {
                let (y, gates) = layer.forward(x, e, &mut Tap::none());
                modulate(y, gates.shift, gates.scale) * gates.attention + gates.feed_forward
            })
        }),
        case("AdaLayerNormLabels", "[2, 5, 24]", |d| {
            let layer = AdaLayerNormLabels::new(24, 3, d).expect(OK);
            adaptive(layer, d, |layer, x, _| {
                let (time, class) = times_and_classes(&x.device());
                layer.forward(x, time, class, &mut Tap::none()).0
            })
        }),
        case("AdaLayerNormDual", "[2, 5, 24]", |d| {
            let layer = AdaLayerNormDual::new(24, d).expect(OK);
            adaptive(layer, d, |layer, x, e| {
                let (y, gates, [second, gate]) = layer.forward(x, e, &mut Tap::none());
                y * gates.attention + second * gate
            })
        }),
        case("AdaLayerNormSingle", "[2, 5, 24]", |d| {
            let layer = AdaLayerNormSingle::new(24, d).expect(OK);
            adaptive(layer, d, |layer, x, e| {
                let (y, gate) = layer.forward(x, e, &mut Tap::none());
                y * gate
            })
        }),
        case("AdaLayerNormContinuous", "[2, 5, 24]", |d| {
            let layer = AdaLayerNormContinuous::new(24, d).expect(OK);
            adaptive(layer, d, |layer, x, e| layer.forward(x, e, &mut Tap::none()))
        }),
        case("modulate", "[2, 5, 8]", |d| {
            function([2, 5, 8], d, |x| modulate(x.clone(), x.clone().narrow(1, 0, 1), x.narrow(1, 3, 1)))
        }),
        case("TextProjection", "[2, 5, 24] to 16", |d| {
            let layer = TextProjection::new(24, 16, Activation::GeluTanh, d).expect(OK);
            module(layer, [2, 5, 24], d, |layer, x| layer.forward(x, &mut Tap::none()))
        }),
        case("TimestepLabelEmbedding", "two classes", |d| {
            let layer = TimestepLabelEmbedding::new(3, 16, d).expect(OK);
            module(layer, [2, 16], d, |layer, x| {
                let (time, class) = times_and_classes(&x.device());
                x * layer.forward(time, class, &mut Tap::none())
            })
        }),
        case("TimestepTextEmbedding", "with guidance", |d| {
            let layer = TimestepTextEmbedding::new(8, 16, true, d).expect(OK);
            module(layer, [2, 8], d, |layer, x| {
                let (time, _) = times_and_classes(&x.device());
                layer.forward(time.clone(), Some(time * 0.1), x, &mut Tap::none())
            })
        }),
        case("TimestepSizeEmbedding", "with sizes", |d| {
            let layer = TimestepSizeEmbedding::new(24, true, d).expect(OK);
            module(layer, [2, 24], d, |layer, x| {
                let (time, _) = times_and_classes(&x.device());
                let sizes = Tensor::<2>::from_data([[8.0, 6.0, 1.3], [4.0, 4.0, 1.0]], &x.device());
                x * layer.forward(time, Some(sizes), DType::F32, &mut Tap::none())
            })
        }),
    ]
}
