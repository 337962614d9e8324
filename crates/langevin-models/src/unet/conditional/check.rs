//! Whether a condition is what a text-conditional network is told.

use super::encoder::EncoderConfig;
use super::told::{Addition, ClassInput, ContextInput};
use crate::condition::{Part, TextCondition};
use crate::error::ModelError;

impl EncoderConfig {
    /// Width of the text states that the network is given.
    pub(crate) fn states_width(&self) -> usize {
        match self.context_input {
            ContextInput::AsItIs => self.context,
            ContextInput::Text { width } | ContextInput::TextImage { width } | ContextInput::Image { width } => width,
        }
    }

    /// The parts that the network is told.
    fn told_parts(&self) -> Vec<Part> {
        let looks_at_image = matches!(self.context_input, ContextInput::TextImage { .. } | ContextInput::Image { .. });
        [
            (Part::Pooled, matches!(self.addition, Addition::TextTime { .. } | Addition::TextImage)),
            (Part::Sizes, matches!(self.addition, Addition::TextTime { .. })),
            (Part::Labels, self.classes != ClassInput::None),
            (Part::Guidance, self.guidance_width.is_some()),
            (
                Part::ImageEmbedding,
                looks_at_image || matches!(self.addition, Addition::TextImage | Addition::Image { .. }),
            ),
        ]
        .into_iter()
        .filter(|(_, told)| *told)
        .map(|(part, _)| part)
        .collect()
    }

    /// The parts of another network's condition that this one is told.
    pub(crate) fn known_of(&self, cond: &TextCondition) -> TextCondition {
        let mut known = self.told_parts();
        known.push(Part::Mask);
        cond.only(&known)
    }

    /// Checks that a condition has what the network is told, and nothing that it does not know.
    pub(crate) fn check_condition(&self, cond: &TextCondition) -> Result<(), ModelError> {
        let makes_tokens = matches!(self.context_input, ContextInput::TextImage { .. } | ContextInput::Image { .. });
        // Image tokens replace the text states, which then may be anything.
        let width = match self.context_input {
            ContextInput::Image { .. } => cond.states.dims()[2],
            _ => self.states_width(),
        };
        cond.check_parts(width, &self.told_parts(), &[Part::Mask, Part::Image])?;
        let pairs = [
            (cond.pooled.as_ref(), "pooled", (self.addition == Addition::TextImage).then_some(self.context)),
            (cond.image_embedding.as_ref(), "image_embedding", self.image_width()),
        ];
        for (given, what, expected) in pairs {
            if let (Some(given), Some(width)) = (given, expected)
                && given.dims()[1] != width
            {
                let given = given.dims().to_vec();
                return Err(ModelError::Shape { what, given, expected: format!("[rows, {width}]") });
            }
        }
        if let Addition::TextTime { features, width } = self.addition {
            cond.check_sizes(cond.sizes_count(features, width)?)?;
        }
        if let Some(width) = self.guidance_width {
            cond.check_guidance(width)?;
        }
        if let Some(labels) = &cond.labels {
            match self.classes {
                ClassInput::None => {}
                ClassInput::Table { count } => drop(labels.rows_of(count, false)?),
                ClassInput::Timestep => drop(labels.checked_values()?.len()),
                ClassInput::Identity => drop(labels.vectors(self.time_embedding_width())?),
                ClassInput::Projection { width } | ClassInput::SimpleProjection { width } => {
                    drop(labels.vectors(width)?);
                }
            }
        }
        if let Some(mask) = &cond.mask
            && (makes_tokens || mask.dims()[1] != cond.states.dims()[1])
        {
            let tokens = cond.states.dims()[1];
            let expected = if makes_tokens {
                "none: the network makes tokens from an image".to_owned()
            } else {
                format!("[rows, {tokens}]")
            };
            return Err(ModelError::Shape { what: "mask", given: mask.dims().to_vec(), expected });
        }
        Ok(())
    }

    fn image_width(&self) -> Option<usize> {
        match (self.context_input, self.addition) {
            (ContextInput::Image { width }, _) | (_, Addition::Image { width }) => Some(width),
            (ContextInput::TextImage { .. }, _) | (_, Addition::TextImage) => Some(self.context),
            _ => None,
        }
    }
}
