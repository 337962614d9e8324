//! Configurations made in code may not ask for any number of layers, nor for any size: they are refused before anything
//! is allocated, and without an overflow.

use crate::common::flex;
use langevin_models::layers::{Conv2dConfig, EmbeddingConfig, FeedForwardConfig, LinearConfig};
use langevin_models::unet::video::PerLevel;
use langevin_models::{
    AutoencoderKlConfig, AutoencoderKlTemporalDecoderConfig, BertConfig, ClipTextConfig, ClipVisionConfig, DiTConfig,
    Edm2UNetConfig, FluxConfig, MdmConfig, MlpConfig, ModelError, MotionAdapterConfig, PixArtConfig, T2iAdapterConfig,
    T5EncoderConfig, TinyAutoencoderConfig, UNet1dConfig, UNet2dConditionalConfig, UNet2dConfig,
    UNet3dConditionalConfig, UNetMotionConfig, UNetSpatioTemporalConfig, VqModelConfig,
};

const MANY: usize = usize::MAX;

#[track_caller]
fn refused<T>(result: Result<T, ModelError>, expected: &str) {
    match result.err() {
        Some(ModelError::Config { field, .. }) => assert_eq!(field, expected),
        other => panic!("{expected}: {other:?}"),
    }
}

#[test]
fn layers_without_end_are_refused() {
    let device = flex();
    refused(MlpConfig::new(2).layers(MANY).init(&device), "layers");
    refused(UNet1dConfig::sequences(3, 16).layers(MANY).init(&device), "layers");
    refused(UNet2dConfig::images(3, 32).layers(MANY).init(&device), "layers");
    refused(UNet2dConditionalConfig::new(4, 16).layers(MANY).init(&device), "layers");
    refused(UNet2dConditionalConfig::new(4, 16).layers(MANY).transformers(&[2, 2]).init(&device), "layers");
    refused(UNet3dConditionalConfig { layers_per_block: MANY, ..Default::default() }.init(&device), "layers_per_block");
    let each = PerLevel::Same(MANY);
    let motion = UNetMotionConfig { layers_per_block: each.clone(), ..Default::default() };
    refused(motion.init(&device), "layers_per_block");
    let motion = UNetMotionConfig { mid_block_layers: MANY, ..Default::default() };
    refused(motion.init(&device), "transformer_layers_per_mid_block");
    let adapter = MotionAdapterConfig { motion_layers_per_block: each.clone(), ..Default::default() };
    refused(adapter.init(&device), "motion_layers_per_block");
    let video = UNetSpatioTemporalConfig { layers_per_block: each, ..Default::default() };
    refused(video.init(&device), "layers_per_block");
    refused(Edm2UNetConfig { blocks: MANY, ..Edm2UNetConfig::xs() }.init(&device), "blocks");
    refused(T2iAdapterConfig::new(3, &[8]).layers(MANY).init(&device), "layers");
    refused(DiTConfig::new(4, 32).layers(MANY).init(&device), "layers");
    refused(PixArtConfig::new(4, 32, 16).layers(MANY).init(&device), "layers");
    refused(FluxConfig::new(16, 64, 32).layers(MANY, 1).init(&device), "layers");
    refused(FluxConfig::new(16, 64, 32).layers(1, MANY).init(&device), "single_layers");
    refused(MdmConfig { num_layers: MANY, ..MdmConfig::default() }.init(&device), "num_layers");
    refused(ClipTextConfig::new(8, 16).layers(MANY).init(&device), "layers");
    refused(ClipVisionConfig::new(16, 4, 24).layers(MANY).init(&device), "layers");
    refused(T5EncoderConfig::new(8, 16).layers(MANY).init(&device), "layers");
    refused(BertConfig::new(8, 24).layers(MANY).init(&device), "layers");
    let mut kl = AutoencoderKlConfig::new(3, 4, &[8]);
    kl.layers = MANY;
    refused(kl.init(&device), "layers");
    let mut vq = VqModelConfig::new(3, 4, &[8], 16);
    vq.layers = MANY;
    refused(vq.init(&device), "layers");
    let mut video = AutoencoderKlTemporalDecoderConfig::new(3, 4, &[32]);
    video.layers = MANY;
    refused(video.init(&device), "layers");
    refused(TinyAutoencoderConfig::new(4, 4, &[1, MANY]).init(&device), "encoder_blocks");
}

#[test]
fn levels_without_end_are_refused() {
    let device = flex();
    let levels = [8; 70];
    refused(UNet1dConfig::sequences(3, 16).channels(&levels).init(&device), "channels");
    refused(UNet2dConfig::images(3, 32).channels(&levels).init(&device), "channels");
    refused(UNet2dConditionalConfig::new(4, 16).channels(&levels).norm_groups(4).init(&device), "levels");
    refused(AutoencoderKlConfig::new(3, 4, &levels).init(&device), "channels");
    refused(T2iAdapterConfig::new(3, &levels).init(&device), "channels");
    refused(Edm2UNetConfig { multipliers: vec![1; 70], ..Edm2UNetConfig::xs() }.init(&device), "multipliers");
    let video = UNet3dConditionalConfig {
        block_out_channels: levels.to_vec(),
        down_block_types: vec![langevin_models::unet::video::VideoLevel::Plain; 70],
        up_block_types: vec![langevin_models::unet::video::VideoLevel::Plain; 70],
        norm_num_groups: 4,
        ..Default::default()
    };
    refused(video.init(&device), "block_out_channels");
}

#[test]
fn sizes_without_end_are_refused() {
    let device = flex();
    for many in [MANY, 1 << 62, 1 << 32] {
        refused(MlpConfig::new(many).init(&device), "dim");
        refused(MlpConfig::new(2).hidden(many).init(&device), "hidden");
        refused(MlpConfig::new(2).time_features(many).init(&device), "time_features");
        refused(MlpConfig::new(2).classes(many).init(&device), "classes");
        refused(UNet1dConfig::sequences(many, 16).init(&device), "in_channels");
        refused(UNet2dConfig::images(many, 32).init(&device), "in_channels");
        refused(UNet2dConfig::images(3, 32).channels(&[many, many]).init(&device), "channels");
        refused(UNet2dConfig::images(3, 32).attention_at(&[1]).classes(many).init(&device), "classes");
        refused(UNet2dConditionalConfig::new(many, 16).init(&device), "in_channels");
        refused(UNet2dConditionalConfig::new(4, many).init(&device), "context");
        refused(Edm2UNetConfig::new(3, 32, many).init(&device), "channels");
        refused(Edm2UNetConfig { multipliers: vec![1, many], ..Edm2UNetConfig::xs() }.init(&device), "multipliers");
        refused(T2iAdapterConfig::new(many, &[8]).init(&device), "in_channels");
        refused(DiTConfig::new(many, 32).init(&device), "in_channels");
        refused(DiTConfig::new(4, 32).heads(many, many).init(&device), "heads");
        refused(PixArtConfig::new(4, 32, 16).heads(many, many).init(&device), "heads");
        refused(FluxConfig::new(many, 64, 32).init(&device), "in_channels");
        refused(MdmConfig { latent_dim: many, ..MdmConfig::default() }.init(&device), "latent_dim");
        refused(ClipTextConfig::new(8, many).init(&device), "width");
        refused(ClipTextConfig::new(many, 16).init(&device), "vocabulary");
        refused(ClipVisionConfig::new(16, 4, many).init(&device), "width");
        refused(T5EncoderConfig::new(8, many).init(&device), "width");
        refused(BertConfig::new(8, many).init(&device), "width");
        refused(AutoencoderKlConfig::new(3, many, &[8]).init(&device), "latent_channels");
        refused(AutoencoderKlConfig::new(3, 4, &[many]).init(&device), "channels");
        refused(VqModelConfig::new(3, 4, &[8], many).init(&device), "codes");
        refused(TinyAutoencoderConfig::new(many, 4, &[1, 1]).init(&device), "latent_channels");
        refused(TinyAutoencoderConfig::new(4, many, &[1, 1]).init(&device), "encoder_channels");
        refused(LinearConfig::new(many, 2).init(&device), "input");
        refused(Conv2dConfig::new(2, 2, many).init(&device), "kernel");
        refused(Conv2dConfig::new(many, 2, 3).init(&device), "input");
        refused(FeedForwardConfig::new(many).init(&device), "inner");
        refused(EmbeddingConfig::new(many, 2).init(&device), "count");
    }
}
