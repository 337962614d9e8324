//! The parts of a text condition: which there are, and whether a network knows them.

use burn::tensor::Tensor;

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

    /// The condition of some of its rows, in the order of `rows`.
    pub(crate) fn select(&self, rows: &[usize]) -> Self {
        let list = |of: &Vec<f64>| rows.iter().map(|row| of[*row]).collect();
        // The texts of a row stand together.
        let each = self.frames.unwrap_or(1);
        let texts: Vec<usize> = rows.iter().flat_map(|row| row * each..(row + 1) * each).collect();
        Self {
            states: rows_of(&self.states, &texts),
            frames: self.frames,
            mask: self.mask.as_ref().map(|t| rows_of(t, rows)),
            pooled: self.pooled.as_ref().map(|t| rows_of(t, rows)),
            sizes: self.sizes.as_ref().map(|sizes| rows.iter().map(|row| sizes[*row].clone()).collect()),
            labels: self.labels.as_ref().map(|labels| labels.select(rows)),
            guidance: self.guidance.as_ref().map(list),
            image: self.image.as_ref().map(|t| rows_of(t, rows)),
            image_embedding: self.image_embedding.as_ref().map(|t| rows_of(t, rows)),
            guidance_embedding: self.guidance_embedding.as_ref().map(|t| rows_of(t, rows)),
        }
    }
}

/// Some rows of a tensor.
pub(crate) fn rows_of<const D: usize>(tensor: &Tensor<D>, rows: &[usize]) -> Tensor<D> {
    Tensor::cat(rows.iter().map(|row| tensor.clone().narrow(0, *row, 1)).collect(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::Labels;
    use crate::testing::{flex, tensor, values};

    #[test]
    fn rows_are_taken_with_all_their_parts() {
        let t = |width, seed| tensor([3, width], seed, &flex());
        let text = TextCondition::new(tensor([6, 2, 4], 0.1, &flex())).frames(2).mask(t(2, 0.2)).pooled(t(3, 0.3));
        let text =
            text.sizes((0..3).map(|i| vec![f64::from(i)])).labels(Labels::of([4, 5, 6])).guidance([1.0, 2.0, 3.0]);
        let text = text.image(tensor([3, 1, 2, 2], 0.4, &flex())).image_embedding(t(5, 0.5));
        let some = text.select(&[2, 0]);
        assert_eq!(some.count().unwrap(), 2);
        assert_eq!(values(&some.states)[..16], values(&text.states)[32..]);
        assert_eq!(values(&some.pooled.unwrap())[3..], values(&text.pooled.unwrap())[..3]);
        assert_eq!((some.sizes, some.guidance), (Some(vec![vec![2.0], vec![0.0]]), Some(vec![3.0, 1.0])));
        assert_eq!(some.labels.unwrap().rows_of(9, false).unwrap(), [6, 4]);
        assert_eq!(values(&some.image.unwrap())[..4], values(&text.image.unwrap())[8..]);
    }
}
