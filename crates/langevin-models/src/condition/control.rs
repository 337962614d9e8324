//! What a network with ControlNets and adapters is told.

use burn::tensor::{DType, Device, Tensor};
use langevin_core::{Condition, DenoiseError};

use super::TextCondition;
use super::text::{repeat, stack};
use crate::error::ModelError;

/// A text condition with control images, one for each ControlNet, and the features of adapters: the condition of
/// [`Controlled`](crate::Controlled).
///
/// The unconditional half of guidance has the same images; with [`strength`](Self::strength) 0 they do not count there,
/// which is what the guess mode of ControlNets wants.
///
/// # Example
///
/// ```
/// use burn::tensor::Tensor;
/// use langevin_core::Condition;
/// use langevin_models::{ControlCondition, TextCondition};
///
/// # let device = burn::tensor::Device::flex();
/// let edges = Tensor::<4>::ones([1, 3, 64, 64], &device);
/// let text = || TextCondition::new(Tensor::zeros([1, 77, 768], &device));
/// let prompt = ControlCondition::new(text()).image(edges.clone());
/// let nothing = ControlCondition::new(text()).image(edges).strength(0.0);
/// assert_eq!(ControlCondition::cat(&[&nothing, &prompt])?.strengths, [0.0, 1.0]);
/// # Ok::<(), langevin_core::DenoiseError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ControlCondition {
    /// What the UNet is told.
    pub text: TextCondition,
    /// One image for each ControlNet `[rows, channels, height, width]`, values in `[0, 1]`.
    pub images: Vec<Tensor<4>>,
    /// What each row's residuals of ControlNets are multiplied with. Default: 1.
    pub strengths: Vec<f64>,
    /// Features of adapters, one for each level of the UNet and perhaps one for its middle block.
    pub features: Vec<Tensor<4>>,
}

impl ControlCondition {
    /// A text condition without images or features.
    #[must_use]
    pub fn new(text: TextCondition) -> Self {
        let rows = text.rows_of_states();
        Self { text, images: vec![], strengths: vec![1.0; rows], features: vec![] }
    }

    /// Adds the image of the next ControlNet. `[rows, channels, height, width]`
    #[must_use]
    pub fn image(mut self, image: Tensor<4>) -> Self {
        self.images.push(image);
        self
    }

    /// Sets what the residuals of ControlNets are multiplied with in every row.
    #[must_use]
    pub fn strength(mut self, strength: f64) -> Self {
        self.strengths = vec![strength; self.strengths.len()];
        self
    }

    /// Adds the features of an adapter ([`T2iAdapter::features`](crate::T2iAdapter::features)); those of a second adapter
    /// are added to the first's.
    ///
    /// # Errors
    ///
    /// [`ModelError::Shape`] if they have other shapes than those that are there.
    pub fn features(mut self, features: Vec<Tensor<4>>) -> Result<Self, ModelError> {
        if self.features.is_empty() {
            self.features = features;
            return Ok(self);
        }
        let dims = |features: &[Tensor<4>]| features.iter().map(Tensor::dims).collect::<Vec<_>>();
        let (given, expected) = (dims(&features), dims(&self.features));
        if given != expected {
            return Err(ModelError::Shape {
                what: "adapter features",
                given: given.concat(),
                expected: format!("{expected:?}, the shapes of the other adapter's"),
            });
        }
        self.features = self.features.into_iter().zip(features).map(|(a, b)| a + b).collect();
        Ok(self)
    }

    /// Number of rows; [`ModelError::Rows`] if the parts do not agree on it.
    pub(crate) fn count(&self) -> Result<usize, ModelError> {
        let rows = self.text.count()?;
        let tensors = self.images.iter().chain(&self.features).map(|tensor| tensor.dims()[0]);
        match tensors.chain([self.strengths.len()]).find(|given| *given != rows) {
            Some(given) => Err(ModelError::Rows { given, batch: rows }),
            None => Ok(rows),
        }
    }

    /// The rows for a batch: as many as samples, a single one repeated.
    pub(crate) fn for_batch(&self, batch: usize) -> Result<Self, ModelError> {
        let rows = self.count()?;
        if rows == batch && batch > 0 {
            return Ok(self.clone());
        }
        if rows != 1 || batch == 0 {
            return Err(ModelError::Rows { given: rows, batch });
        }
        Ok(Self {
            text: self.text.for_batch(batch)?,
            images: self.images.iter().map(|image| repeat(image, batch)).collect(),
            strengths: vec![self.strengths[0]; batch],
            features: self.features.iter().map(|feature| repeat(feature, batch)).collect(),
        })
    }

    /// The strengths as a tensor `[rows]`, or none where all are 1.
    pub(crate) fn strengths_of(&self, device: &Device) -> Result<Option<Tensor<1>>, ModelError> {
        if let Some(row) = self.strengths.iter().position(|strength| !strength.is_finite()) {
            return Err(ModelError::NotFinite { row, value: self.strengths[row] });
        }
        let all = self.strengths.iter().all(|strength| *strength == 1.0);
        Ok((!all).then(|| Tensor::from_data(self.strengths.as_slice(), (device, DType::F32))))
    }

    fn join(parts: &[&Self]) -> Result<Self, ModelError> {
        let texts: Vec<_> = parts.iter().map(|part| &part.text).collect();
        let text = TextCondition::join(&texts)?;
        let columns = |what: &'static str, of: fn(&Self) -> &[Tensor<4>]| {
            let count = of(parts[0]).len();
            if let Some(other) = parts.iter().find(|part| of(part).len() != count) {
                return Err(ModelError::Shape {
                    what,
                    given: vec![of(other).len()],
                    expected: format!("{count} tensors, as many as the other part has"),
                });
            }
            (0..count).map(|i| stack(what, parts.iter().map(|part| of(part)[i].clone()).collect())).collect()
        };
        Ok(Self {
            text,
            images: columns("control images", |part| &part.images)?,
            strengths: parts.iter().flat_map(|part| part.strengths.iter().copied()).collect(),
            features: columns("adapter features", |part| &part.features)?,
        })
    }
}

impl Condition for ControlCondition {
    fn rows(&self) -> Option<usize> {
        self.text.rows()
    }

    fn expand(&self, rows: usize) -> Result<Self, DenoiseError> {
        Ok(self.for_batch(rows)?)
    }

    fn cat(parts: &[&Self]) -> Result<Self, DenoiseError> {
        Ok(Self::join(parts)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, flex, tensor, values};

    fn told(rows: usize, seed: f64) -> ControlCondition {
        let text = TextCondition::new(tensor([rows, 3, 4], seed, &flex()));
        ControlCondition::new(text).image(tensor([rows, 3, 2, 2], seed, &flex()))
    }

    #[test]
    fn rows_stay_together() {
        let feature = |seed| vec![tensor([1, 2, 2, 2], seed, &flex())];
        let [a, b] = [0.1, 0.2].map(|seed| told(1, seed).features(feature(seed)).unwrap());
        let both = ControlCondition::cat(&[&a.strength(0.0), &b]).unwrap();
        assert_eq!(both.count().unwrap(), 2);
        assert_eq!(values(&both.images[0])[12..], values(&told(1, 0.2).images[0]));
        assert_eq!(values(&both.features[0])[8..], values(&feature(0.2)[0]));
        assert_close(&both.strengths_of(&flex()).unwrap().unwrap(), &[0.0, 1.0], 0.0);
        let four = told(1, 0.3).for_batch(4).unwrap();
        assert_eq!((four.images[0].dims()[0], four.strengths.len()), (4, 4));
        assert!(four.strengths_of(&flex()).unwrap().is_none());
    }

    #[test]
    fn adapters_are_added() {
        let feature = |seed| vec![tensor([1, 2, 2, 2], seed, &flex())];
        let both = told(1, 0.1).features(feature(0.1)).unwrap().features(feature(0.5)).unwrap();
        let expected = feature(0.1)[0].clone() + feature(0.5)[0].clone();
        assert_close(&both.features[0], &values(&expected), 1e-6);
        let error = both.features(vec![tensor([1, 2, 1, 2], 0.1, &flex())]).unwrap_err();
        assert!(matches!(error, ModelError::Shape { what: "adapter features", .. }), "{error}");
    }

    #[test]
    fn parts_that_do_not_fit_are_named() {
        assert!(matches!(told(2, 0.1).for_batch(3), Err(ModelError::Rows { given: 2, batch: 3 })));
        let uneven = told(2, 0.1).image(tensor([1, 3, 2, 2], 0.1, &flex()));
        assert!(matches!(uneven.for_batch(2), Err(ModelError::Rows { given: 1, batch: 2 })));
        let two = told(1, 0.1).image(tensor([1, 3, 2, 2], 0.1, &flex()));
        let error = ControlCondition::join(&[&told(1, 0.1), &two]).unwrap_err();
        assert!(matches!(error, ModelError::Shape { what: "control images", .. }), "{error}");
        let error = told(1, 0.1).strength(f64::NAN).strengths_of(&flex()).unwrap_err();
        assert!(matches!(error, ModelError::NotFinite { row: 0, .. }), "{error}");
        assert!(ControlCondition::join(&[]).is_err());
    }
}
