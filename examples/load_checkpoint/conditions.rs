//! What text-conditional networks are told, in the shapes that their configurations ask for.

use super::inputs::Inputs;
use burn::tensor::Tensor;
use langevin::models::unet::conditional::{Addition, ClassInput, ContextInput, EncoderConfig};
use langevin::models::{Labels, TextCondition};

/// Tokens of a text.
pub const TOKENS: usize = 77;

pub fn for_encoder(config: &EncoderConfig, inputs: &Inputs) -> TextCondition {
    let width = match config.context_input {
        ContextInput::AsItIs => config.context,
        ContextInput::Text { width } | ContextInput::TextImage { width } | ContextInput::Image { width } => width,
    };
    let mut cond = TextCondition::new(inputs.noise([1, TOKENS, width]));
    let image = match (config.context_input, config.addition) {
        (ContextInput::Image { width }, _) | (_, Addition::Image { width }) => Some(width),
        (ContextInput::TextImage { .. }, _) | (_, Addition::TextImage) => Some(config.context),
        _ => None,
    };
    if let Some(width) = image {
        cond = cond.image_embedding(inputs.noise([1, width]));
    }
    match config.addition {
        Addition::TextTime { features, width } => {
            // The vector for the text has 1280 numbers in SDXL, which tells six sizes, and in its refiner, which tells five.
            let published = (5..=6).find(|numbers| width == 1280 + numbers * features);
            let numbers = published.unwrap_or(6.min((width - 1) / features));
            cond = cond.pooled(inputs.noise([1, width - numbers * features]));
            cond = cond.sizes([vec![64.0; numbers]]);
        }
        Addition::TextImage => cond = cond.pooled(inputs.noise([1, config.context])),
        Addition::None | Addition::Text { .. } | Addition::Image { .. } => {}
    }
    if let Some(width) = config.guidance_width {
        cond = cond.guidance_embedding(inputs.noise([1, width]));
    }
    let vectors = |width: usize| Some(Labels::embeddings(inputs.noise([1, width])));
    let labels = match config.classes {
        ClassInput::None => None,
        ClassInput::Table { .. } => Some(Labels::of([0])),
        ClassInput::Timestep => Some(Labels::values([1.0])),
        ClassInput::Identity => vectors(config.time_width.unwrap_or(4 * config.levels[0].channels)),
        ClassInput::Projection { width } | ClassInput::SimpleProjection { width } => vectors(width),
    };
    match labels {
        Some(labels) => cond.labels(labels),
        None => cond,
    }
}

/// An image for a network: `[1, channels, height, width]`.
pub fn image(channels: usize, [height, width]: [usize; 2], inputs: &Inputs) -> Tensor<4> {
    inputs.noise([1, channels, height, width])
}
