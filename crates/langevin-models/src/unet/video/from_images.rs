//! What a network with motion modules takes over from one for images.

use super::{UNetMotionConfig, VideoLevel};
use crate::error::ModelError;
use crate::layers::Activation;
use crate::published::{PerLevel, unsupported};
use crate::unet::conditional::{
    Addition, ClassInput, ContextInput, EncoderConfig, Level, LevelBlock, Middle, TimeInput, UNet2dConditionalConfig,
    UpLevel,
};

/// The configuration of a network for images as that of one with motion modules. Every option is taken over or refused by
/// name; patterns are complete, so that a new option is an error here until it is decided.
pub(super) fn as_video(unet: &UNet2dConditionalConfig) -> Result<UNetMotionConfig, ModelError> {
    let UNet2dConditionalConfig { sample_size, encoder, up, out_channels, conv_out_kernel, output_norm, center_input } =
        unet;
    let EncoderConfig {
        in_channels,
        conv_in_kernel,
        levels,
        middle,
        mid_scale,
        mid_only_cross_attention,
        downsample_padding,
        context,
        context_norm,
        dropout,
        activation,
        norm_groups,
        norm_epsilon,
        scale_shift,
        skip_time_activation,
        residual_scale,
        linear_projection,
        upcast,
        time,
        time_width,
        time_post_activation,
        embedding_activation,
        guidance_width,
        context_input,
        classes,
        concatenate_class,
        addition,
    } = encoder;
    let first = levels.first().map_or(0, |level| level.channels);
    let only_context = levels.iter().any(|level| level.only_cross_attention);
    neutral("conv_in_kernel", conv_in_kernel, *conv_in_kernel == 3)?;
    neutral("conv_out_kernel", conv_out_kernel, *conv_out_kernel == 3)?;
    neutral("norm_num_groups", output_norm, *output_norm)?;
    neutral("center_input_sample", center_input, !center_input)?;
    neutral("mid_block_type", middle, *middle == Middle::CrossAttention)?;
    neutral("mid_block_only_cross_attention", mid_only_cross_attention, !mid_only_cross_attention)?;
    neutral("only_cross_attention", only_context, !only_context)?;
    neutral("cross_attention_norm", context_norm, context_norm.is_none())?;
    neutral("dropout", dropout, *dropout == 0.0)?;
    // The last layers have SiLU whatever the others have.
    neutral("act_fn", activation.name(), *activation == Activation::Silu)?;
    neutral("resnet_time_scale_shift", scale_shift, !scale_shift)?;
    neutral("resnet_skip_time_act", skip_time_activation, !skip_time_activation)?;
    neutral("resnet_out_scale_factor", residual_scale, *residual_scale == 1.0)?;
    neutral("upcast_attention", upcast, !upcast)?;
    match time {
        TimeInput::Sinusoidal { cosine_first, shift } => {
            neutral("flip_sin_to_cos", cosine_first, *cosine_first)?;
            neutral("freq_shift", shift, *shift == 0.0)?;
        }
        TimeInput::Fourier { .. } => neutral("time_embedding_type", time, false)?,
    }
    neutral("time_embedding_dim", time_width, encoder.time_embedding_width() == 4 * first)?;
    neutral("timestep_post_act", time_post_activation, time_post_activation.is_none())?;
    neutral("time_embedding_act_fn", embedding_activation, embedding_activation.is_none())?;
    neutral("encoder_hid_dim_type", context_input, *context_input == ContextInput::AsItIs)?;
    neutral("class_embed_type", classes, *classes == ClassInput::None)?;
    neutral("class_embeddings_concat", concatenate_class, !concatenate_class)?;
    let (addition_embed_type, features, width) = match addition {
        Addition::None => (None, None, None),
        Addition::TextTime { features, width } => (Some("text_time".to_owned()), Some(*features), Some(*width)),
        Addition::Text { .. } | Addition::TextImage | Addition::Image { .. } => {
            return Err(unsupported("addition_embed_type", format!("{addition:?}"), "null and \"text_time\""));
        }
    };

    let mut config = UNetMotionConfig {
        sample_size: sample_size.map(Into::into),
        in_channels: *in_channels,
        out_channels: *out_channels,
        down_block_types: vec![],
        up_block_types: vec![],
        block_out_channels: vec![],
        downsample_padding: *downsample_padding,
        mid_block_scale_factor: *mid_scale,
        act_fn: *activation,
        norm_num_groups: *norm_groups,
        norm_eps: *norm_epsilon,
        cross_attention_dim: PerLevel::Same(*context),
        use_linear_projection: *linear_projection,
        addition_embed_type,
        addition_time_embed_dim: features,
        projection_class_embeddings_input_dim: width,
        time_cond_proj_dim: *guidance_width,
        ..UNetMotionConfig::default()
    };
    let (mut each_layers, mut each_heads, mut down_blocks, mut up_blocks) = (vec![], vec![], vec![], vec![]);
    for Level { channels, layers, block, heads, transformers, only_cross_attention: _ } in levels {
        config.down_block_types.push(kind("down_block_types", *block)?);
        config.block_out_channels.push(*channels);
        each_layers.push(*layers);
        each_heads.push(*heads);
        down_blocks.push(PerLevel::gather(transformers.clone()));
    }
    for UpLevel { block, transformers } in up {
        config.up_block_types.push(kind("up_block_types", *block)?);
        up_blocks.push(PerLevel::gather(transformers.clone()));
    }
    config.layers_per_block = PerLevel::gather(each_layers);
    config.num_attention_heads = PerLevel::gather(each_heads);
    let mirrored = down_blocks.iter().rev().eq(&up_blocks);
    config.reverse_transformer_layers_per_block = (!mirrored).then_some(PerLevel::Each(up_blocks));
    if matches!(down_blocks.last(), Some(PerLevel::Each(_))) {
        config.transformer_layers_per_mid_block = Some(PerLevel::Same(encoder.middle_transformers()));
    }
    config.transformer_layers_per_block = PerLevel::gather(down_blocks);
    config.validate()?;
    Ok(config)
}

fn kind(key: &'static str, block: LevelBlock) -> Result<VideoLevel, ModelError> {
    match block {
        LevelBlock::Plain => Ok(VideoLevel::Plain),
        LevelBlock::CrossAttention => Ok(VideoLevel::Attention),
        _ => Err(unsupported(key, format!("{block:?}"), "blocks with and without transformers")),
    }
}

/// Refuses an option with another value than the one that changes nothing.
fn neutral(key: &'static str, value: impl std::fmt::Debug, changes_nothing: bool) -> Result<(), ModelError> {
    if changes_nothing {
        return Ok(());
    }
    Err(unsupported(key, format!("{value:?}"), "what networks with motion modules have, the default"))
}
