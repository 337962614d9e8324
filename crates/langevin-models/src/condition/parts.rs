//! The parts of a text condition: which there are, and whether a network knows them.

use super::TextCondition;
use crate::error::ModelError;

/// A part of a [`TextCondition`] that not every network takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Frames,
    Mask,
    Pooled,
    Sizes,
    Labels,
    Guidance,
    Image,
    ImageEmbedding,
}

impl Part {
    pub(super) const ALL: [Self; 8] = [
        Self::Frames,
        Self::Mask,
        Self::Pooled,
        Self::Sizes,
        Self::Labels,
        Self::Guidance,
        Self::Image,
        Self::ImageEmbedding,
    ];

    /// Whether a network that knows the part takes a condition without it, too.
    pub(super) fn may_be_absent(self) -> bool {
        matches!(self, Self::Frames | Self::Mask)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Frames => "frames",
            Self::Mask => "mask",
            Self::Pooled => "pooled",
            Self::Sizes => "sizes",
            Self::Labels => "labels",
            Self::Guidance => "guidance",
            Self::Image => "image",
            Self::ImageEmbedding => "image_embedding",
        }
    }
}

impl TextCondition {
    /// Checks the states, and that every part which the network knows is there and no other.
    pub(crate) fn check(&self, width: usize, known: &[Part]) -> Result<(), ModelError> {
        let (optional, required): (Vec<_>, Vec<_>) = known.iter().copied().partition(|part| part.may_be_absent());
        self.check_parts(width, &required, &optional)
    }

    /// Checks the states, and that every required part is there, and no other but the optional ones.
    pub(crate) fn check_parts(&self, width: usize, required: &[Part], optional: &[Part]) -> Result<(), ModelError> {
        self.count()?;
        if self.guidance.is_some() && self.guidance_embedding.is_some() {
            return Err(ModelError::UnknownPart { part: "guidance_embedding" });
        }
        let dims = self.states.dims();
        if dims[2] != width || dims[1] == 0 {
            return Err(ModelError::Shape {
                what: "text states",
                given: dims.to_vec(),
                expected: format!("[rows, tokens, {width}]"),
            });
        }
        if let Some(mask) = &self.mask
            && mask.dims()[1] != dims[1]
        {
            let expected = format!("[rows, {}], one for each token", dims[1]);
            return Err(ModelError::Shape { what: "mask", given: mask.dims().to_vec(), expected });
        }
        for part in Part::ALL {
            let given = self.has(part);
            if given && !required.contains(&part) && !optional.contains(&part) {
                return Err(ModelError::UnknownPart { part: part.name() });
            }
            if !given && required.contains(&part) {
                return Err(ModelError::MissingPart { part: part.name() });
            }
        }
        Ok(())
    }

    pub(super) fn has(&self, part: Part) -> bool {
        match part {
            Part::Frames => self.frames.is_some(),
            Part::Mask => self.mask.is_some(),
            Part::Pooled => self.pooled.is_some(),
            Part::Sizes => self.sizes.is_some(),
            Part::Labels => self.labels.is_some(),
            Part::Guidance => self.guidance.is_some() || self.guidance_embedding.is_some(),
            Part::Image => self.image.is_some(),
            Part::ImageEmbedding => self.image_embedding.is_some(),
        }
    }

    /// The condition with the states and the given parts only.
    pub(crate) fn only(&self, known: &[Part]) -> Self {
        // The number of frames says how to read the states.
        let mut cond = Self { frames: self.frames, ..Self::new(self.states.clone()) };
        for part in known {
            match part {
                Part::Frames => {}
                Part::Mask => cond.mask.clone_from(&self.mask),
                Part::Pooled => cond.pooled.clone_from(&self.pooled),
                Part::Sizes => cond.sizes.clone_from(&self.sizes),
                Part::Labels => cond.labels.clone_from(&self.labels),
                Part::Guidance => {
                    cond.guidance.clone_from(&self.guidance);
                    cond.guidance_embedding.clone_from(&self.guidance_embedding);
                }
                Part::Image => cond.image.clone_from(&self.image),
                Part::ImageEmbedding => cond.image_embedding.clone_from(&self.image_embedding),
            }
        }
        cond
    }
}
