//! What text-conditional networks are told.

use burn::tensor::{DType, Device, Tensor};
use langevin_core::{Condition, DenoiseError};

use super::Labels;
use super::parts::Part;
use crate::error::ModelError;
use crate::layers::SinusoidalEmbedding;
use crate::tap::Tap;

/// The states of a text encoder, and what some networks are told beside them: the condition of text-conditional UNets and
/// transformers.
///
/// One row stands for any number of samples; more rows must match the batch. A network refuses parts that it does not
/// know, and names those that it misses.
///
/// # Example
///
/// ```
/// use burn::tensor::Tensor;
/// use langevin_core::Condition;
/// use langevin_models::TextCondition;
///
/// # let device = burn::tensor::Device::flex();
/// let prompt = TextCondition::new(Tensor::zeros([1, 77, 768], &device));
/// let nothing = TextCondition::new(Tensor::ones([1, 77, 768], &device));
/// let both = TextCondition::cat(&[&nothing, &prompt])?;
/// assert_eq!(both.rows(), Some(2));
/// // unet.denoiser(prediction, prompt)?.guided(nothing, 7.5)?;
/// # Ok::<(), langevin_core::DenoiseError>(())
/// ```
#[derive(Debug, Clone)]
pub struct TextCondition {
    /// States of the text encoder `[rows, tokens, width]`, or `[rows·frames, tokens, width]` with a text for each frame.
    pub states: Tensor<3>,
    /// Number of texts of each row: one for each frame of a video, those of a video behind one another. Default: one for
    /// the whole row.
    pub frames: Option<usize>,
    /// Which tokens to see `[rows, tokens]`, 1 or 0. Default: all.
    pub mask: Option<Tensor<2>>,
    /// One vector for the whole text `[rows, width]`.
    pub pooled: Option<Tensor<2>>,
    /// Numbers that tell sizes, crops, aspect ratios or scores, one row for each sample (`time_ids` of SDXL).
    pub sizes: Option<Vec<Vec<f64>>>,
    /// A class, number or vector for each sample, beside the text.
    pub labels: Option<Labels>,
    /// The guidance scale that a distilled network was trained to imitate, one for each sample.
    pub guidance: Option<Vec<f64>>,
    /// Channels that are put behind those of the state: a mask and a masked image, a small image to enlarge.
    /// `[rows, channels, height, width]`.
    pub image: Option<Tensor<4>>,
    /// What an image encoder says about an image `[rows, width]`: networks of image variations look at it.
    pub image_embedding: Option<Tensor<2>>,
    /// An embedding of the guidance scale `[rows, width]`, in place of the scale.
    pub guidance_embedding: Option<Tensor<2>>,
}

impl TextCondition {
    /// The states of a text encoder, and nothing else.
    ///
    /// # Shapes
    ///
    /// - states: `[rows, tokens, width]`
    #[must_use]
    pub fn new(states: Tensor<3>) -> Self {
        Self {
            states,
            frames: None,
            mask: None,
            pooled: None,
            sizes: None,
            labels: None,
            guidance: None,
            image: None,
            image_embedding: None,
            guidance_embedding: None,
        }
    }

    /// Says that the states are `[rows·frames, tokens, width]`, a text for each of `frames` frames of a video. Networks
    /// with motion modules take them.
    #[must_use]
    pub fn frames(mut self, frames: usize) -> Self {
        self.frames = Some(frames);
        self
    }

    /// Sets which tokens to see, 1 or 0. `[rows, tokens]`
    #[must_use]
    pub fn mask(mut self, mask: Tensor<2>) -> Self {
        self.mask = Some(mask);
        self
    }

    /// Sets the vector for the whole text. `[rows, width]`
    #[must_use]
    pub fn pooled(mut self, pooled: Tensor<2>) -> Self {
        self.pooled = Some(pooled);
        self
    }

    /// Sets the numbers for each sample: for SDXL original height and width, top and left of the crop, target height and
    /// width.
    #[must_use]
    pub fn sizes(mut self, sizes: impl IntoIterator<Item = Vec<f64>>) -> Self {
        self.sizes = Some(sizes.into_iter().collect());
        self
    }

    /// Sets the class, number or vector for each sample.
    #[must_use]
    pub fn labels(mut self, labels: Labels) -> Self {
        self.labels = Some(labels);
        self
    }

    /// Sets the guidance scale that a distilled network is to imitate, for each sample.
    #[must_use]
    pub fn guidance(mut self, scales: impl IntoIterator<Item = f64>) -> Self {
        self.guidance = Some(scales.into_iter().collect());
        self
    }

    /// Sets the channels that are put behind those of the state. `[rows, channels, height, width]`
    #[must_use]
    pub fn image(mut self, image: Tensor<4>) -> Self {
        self.image = Some(image);
        self
    }

    /// Sets what an image encoder says about an image. `[rows, width]`
    #[must_use]
    pub fn image_embedding(mut self, embedding: Tensor<2>) -> Self {
        self.image_embedding = Some(embedding);
        self
    }

    /// Sets an embedding of the guidance scale, in place of the scale. `[rows, width]`
    #[must_use]
    pub fn guidance_embedding(mut self, embedding: Tensor<2>) -> Self {
        self.guidance_embedding = Some(embedding);
        self
    }

    /// Number of rows; [`ModelError::Rows`] if the parts do not agree on it.
    pub(crate) fn count(&self) -> Result<usize, ModelError> {
        let texts = self.states.dims()[0];
        let rows = self.rows_of_states();
        if self.frames.is_some_and(|frames| frames == 0 || rows * frames != texts) {
            return Err(ModelError::Shape {
                what: "text states",
                given: self.states.dims().to_vec(),
                expected: format!("a multiple of {} rows, one for each frame", self.frames.unwrap_or_default()),
            });
        }
        let others = [
            self.mask.as_ref().map(|t| t.dims()[0]),
            self.pooled.as_ref().map(|t| t.dims()[0]),
            self.sizes.as_ref().map(Vec::len),
            self.labels.as_ref().and_then(Condition::rows),
            self.guidance.as_ref().map(Vec::len),
            self.image.as_ref().map(|t| t.dims()[0]),
            self.image_embedding.as_ref().map(|t| t.dims()[0]),
            self.guidance_embedding.as_ref().map(|t| t.dims()[0]),
        ];
        match others.into_iter().flatten().find(|given| *given != rows) {
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
        let [texts, tokens, width] = self.states.dims();
        let states = self.states.clone().reshape([1, texts * tokens, width]);
        Ok(Self {
            states: repeat(&states, batch).reshape([batch * texts, tokens, width]),
            frames: self.frames,
            mask: self.mask.as_ref().map(|t| repeat(t, batch)),
            pooled: self.pooled.as_ref().map(|t| repeat(t, batch)),
            sizes: self.sizes.as_ref().map(|rows| vec![rows[0].clone(); batch]),
            labels: self.labels.as_ref().map(|labels| labels.for_batch(batch)).transpose()?,
            guidance: self.guidance.as_ref().map(|scales| vec![scales[0]; batch]),
            image: self.image.as_ref().map(|t| repeat(t, batch)),
            image_embedding: self.image_embedding.as_ref().map(|t| repeat(t, batch)),
            guidance_embedding: self.guidance_embedding.as_ref().map(|t| repeat(t, batch)),
        })
    }

    /// The state with the image's channels behind its own.
    pub(crate) fn behind(&self, x: Tensor<4>) -> Result<Tensor<4>, ModelError> {
        let Some(image) = &self.image else { return Ok(x) };
        let ([_, _, height, width], given) = (x.dims(), image.dims());
        if given[2..] != [height, width] {
            return Err(ModelError::Shape {
                what: "image",
                given: given.to_vec(),
                expected: format!("[rows, channels, {height}, {width}], the size of the state"),
            });
        }
        let image = image.clone().cast(x.dtype());
        Ok(Tensor::cat(vec![x, image], 1))
    }

    /// The embedding of the guidance scale, of the given width, for networks that have one: sines and cosines of
    /// `1000·(scale - 1)`, which tells a network that was trained so how strong the guidance was that it imitates.
    pub(crate) fn guidance_of(&self, width: Option<usize>, device: &Device) -> Result<Option<Tensor<2>>, ModelError> {
        let Some(width) = width else { return Ok(None) };
        self.check_guidance(width)?;
        if let Some(embedding) = &self.guidance_embedding {
            return Ok(Some(embedding.clone()));
        }
        let scales = self.guidance.as_deref().ok_or(ModelError::MissingPart { part: Part::Guidance.name() })?;
        let times: Vec<f64> = scales.iter().map(|scale| 1000.0 * (scale - 1.0)).collect();
        let times = Tensor::<1>::from_data(times.as_slice(), (device, DType::F32));
        Ok(Some(SinusoidalEmbedding::new(width).shift(1.0).check()?.forward(times)))
    }

    /// Checks the guidance scale or its embedding.
    pub(crate) fn check_guidance(&self, width: usize) -> Result<(), ModelError> {
        let scales = self.guidance.as_deref().unwrap_or_default();
        if let Some(row) = scales.iter().position(|scale| !scale.is_finite()) {
            return Err(ModelError::NotFinite { row, value: scales[row] });
        }
        match self.guidance_embedding.as_ref().map(Tensor::dims).filter(|dims| dims[1] != width) {
            Some(given) => Err(ModelError::Shape {
                what: "guidance_embedding",
                given: given.to_vec(),
                expected: format!("[rows, {width}]"),
            }),
            None => Ok(()),
        }
    }

    /// The vector for the whole text, checked to have `width` entries.
    pub(crate) fn pooled_of(&self, width: usize) -> Result<Tensor<2>, ModelError> {
        let pooled = self.pooled.clone().ok_or(ModelError::MissingPart { part: Part::Pooled.name() })?;
        if pooled.dims()[1] != width {
            let expected = format!("[rows, {width}]");
            return Err(ModelError::Shape { what: "pooled text", given: pooled.dims().to_vec(), expected });
        }
        Ok(pooled)
    }

    /// The guidance scales.
    pub(crate) fn guidance_scales(&self) -> Result<&[f64], ModelError> {
        let scales = self.guidance.as_deref().ok_or(ModelError::MissingPart { part: Part::Guidance.name() })?;
        match scales.iter().position(|scale| !scale.is_finite()) {
            Some(row) => Err(ModelError::NotFinite { row, value: scales[row] }),
            None => Ok(scales),
        }
    }

    /// The numbers for each sample as a tensor `[rows, count]` in f32.
    pub(crate) fn sizes_of(&self, count: usize, device: &Device) -> Result<Tensor<2>, ModelError> {
        let flat = self.check_sizes(count)?;
        let rows = flat.len() / count.max(1);
        let flat = Tensor::<1>::from_data(flat.as_slice(), (device, DType::F32));
        Ok(flat.reshape([rows, count]))
    }

    /// The features of `count` numbers for each sample side by side, each embedded as a time is. In f32,
    /// `[rows, count·width]`.
    pub(crate) fn size_features(
        &self,
        count: usize,
        embedding: SinusoidalEmbedding,
        device: &Device,
        tap: &mut Tap<'_>,
    ) -> Result<Tensor<2>, ModelError> {
        let numbers = self.sizes_of(count, device)?;
        let [rows, _] = numbers.dims();
        let features = embedding.forward(numbers.reshape([rows * count]));
        tap.see("add_time_proj", &features);
        Ok(features.reshape([rows, count * embedding.width()]))
    }

    /// How many numbers stand beside the vector for the whole text, where all together have `width` features and each
    /// number has `features`.
    pub(crate) fn sizes_count(&self, features: usize, width: usize) -> Result<usize, ModelError> {
        let pooled = self.pooled.as_ref().ok_or(ModelError::MissingPart { part: Part::Pooled.name() })?.dims();
        match width.checked_sub(pooled[1]) {
            Some(rest) if rest > 0 && rest.is_multiple_of(features) => Ok(rest / features),
            _ => Err(ModelError::Shape {
                what: "pooled",
                given: pooled.to_vec(),
                expected: format!("[rows, width], {width} less {features} for each of the sizes"),
            }),
        }
    }

    /// Those numbers on the host.
    pub(crate) fn check_sizes(&self, count: usize) -> Result<Vec<f64>, ModelError> {
        let rows = self.sizes.as_deref().ok_or(ModelError::MissingPart { part: Part::Sizes.name() })?;
        if let Some(row) = rows.iter().find(|row| row.len() != count) {
            return Err(ModelError::Shape {
                what: "sizes",
                given: vec![rows.len(), row.len()],
                expected: format!("[rows, {count}]"),
            });
        }
        let flat: Vec<f64> = rows.iter().flatten().copied().collect();
        if let Some(at) = flat.iter().position(|v| !v.is_finite()) {
            return Err(ModelError::NotFinite { row: at / count.max(1), value: flat[at] });
        }
        Ok(flat)
    }

    /// Number of rows that the states are for, rounded down.
    pub(super) fn rows_of_states(&self) -> usize {
        self.states.dims()[0] / self.frames.unwrap_or(1).max(1)
    }

    /// The states with a text for each of `frames` frames, where a number is given: a text for the whole video is that of
    /// each frame.
    pub(crate) fn states_for(&self, frames: Option<usize>) -> Result<Tensor<3>, ModelError> {
        match (self.frames, frames) {
            (given, wanted) if given == wanted => Ok(self.states.clone()),
            (None, Some(frames)) => Ok(each_frame(self.states.clone(), frames)),
            (given, wanted) => Err(ModelError::Shape {
                what: "frames",
                given: given.into_iter().collect(),
                expected: format!("{}, a text for each frame", wanted.unwrap_or(1)),
            }),
        }
    }

    pub(super) fn join(parts: &[&Self]) -> Result<Self, ModelError> {
        let Some((first, rest)) = parts.split_first() else {
            return Err(ModelError::Rows { given: 0, batch: 1 });
        };
        for part in parts {
            part.count()?;
        }
        for part in rest {
            let differs = Part::ALL.into_iter().find(|p| !p.may_be_absent() && first.has(*p) != part.has(*p));
            if let Some(differs) = differs {
                return Err(ModelError::MissingPart { part: differs.name() });
            }
            // Two forms of one part.
            if first.guidance.is_some() != part.guidance.is_some() {
                let (left, right) = ("a guidance scale", "an embedded guidance scale");
                return Err(ModelError::MixedConditions { left, right });
            }
        }
        let masks = parts.iter().any(|part| part.mask.is_some()).then(|| {
            // Without a mask all tokens are seen.
            let mask = |part: &&Self| {
                let [_, tokens, _] = part.states.dims();
                part.mask.clone().unwrap_or_else(|| {
                    Tensor::ones([part.rows_of_states(), tokens], (&part.states.device(), part.states.dtype()))
                })
            };
            stack("mask", parts.iter().map(mask).collect())
        });
        let labels: Option<Vec<&Labels>> = parts.iter().map(|part| part.labels.as_ref()).collect();
        let frames = parts.iter().find_map(|part| part.frames);
        let states = parts.iter().map(|part| part.states_for(frames)).collect::<Result<_, _>>()?;
        Ok(Self {
            states: stack("text states", states)?,
            frames,
            mask: masks.transpose()?,
            pooled: optional("pooled", parts.iter().map(|part| part.pooled.clone()))?,
            sizes: parts.iter().map(|part| part.sizes.clone()).collect::<Option<Vec<_>>>().map(|rows| rows.concat()),
            labels: labels.map(|labels| Labels::join(&labels)).transpose()?,
            guidance: parts.iter().map(|part| part.guidance.clone()).collect::<Option<Vec<_>>>().map(|s| s.concat()),
            image: optional("image", parts.iter().map(|part| part.image.clone()))?,
            image_embedding: optional("image_embedding", parts.iter().map(|part| part.image_embedding.clone()))?,
            guidance_embedding: optional(
                "guidance_embedding",
                parts.iter().map(|part| part.guidance_embedding.clone()),
            )?,
        })
    }
}

/// Repeats each row for every frame of its video: `[batch, ..]` to `[batch·frames, ..]`.
pub(crate) fn each_frame<const D: usize>(x: Tensor<D>, frames: usize) -> Tensor<D> {
    let mut shape = x.dims();
    let rest = shape[1..].iter().product();
    let x = x.reshape([shape[0], 1, rest]).expand([shape[0], frames, rest]);
    shape[0] *= frames;
    x.reshape(shape)
}

pub(super) fn repeat<const D: usize>(tensor: &Tensor<D>, batch: usize) -> Tensor<D> {
    let mut shape = tensor.dims();
    shape[0] = batch;
    // Nothing cannot be expanded; what is asked for is refused where shapes are checked.
    if shape.contains(&0) {
        return Tensor::zeros(shape, (&tensor.device(), tensor.dtype()));
    }
    tensor.clone().expand(shape)
}

pub(super) fn stack<const D: usize>(what: &'static str, parts: Vec<Tensor<D>>) -> Result<Tensor<D>, ModelError> {
    let shape = parts[0].dims();
    match parts.iter().find(|part| part.dims()[1..] != shape[1..]) {
        Some(other) => Err(ModelError::Shape {
            what,
            given: other.dims().to_vec(),
            expected: format!("that of the other part, {shape:?}, but for the rows"),
        }),
        None => {
            let dtype = parts[0].dtype();
            Ok(Tensor::cat(parts.into_iter().map(|part| part.cast(dtype)).collect(), 0))
        }
    }
}

fn optional<const D: usize>(
    what: &'static str,
    parts: impl Iterator<Item = Option<Tensor<D>>>,
) -> Result<Option<Tensor<D>>, ModelError> {
    parts.collect::<Option<Vec<_>>>().map(|parts| stack(what, parts)).transpose()
}

impl Condition for TextCondition {
    fn rows(&self) -> Option<usize> {
        Some(self.rows_of_states())
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

    fn text(rows: usize, seed: f64) -> TextCondition {
        TextCondition::new(tensor([rows, 3, 4], seed, &flex()))
    }

    #[test]
    fn nothing_is_repeated_as_nothing() {
        let empty = TextCondition::new(Tensor::zeros([1, 0, 16], &flex()));
        let repeated = empty.expand(2).expect("as many rows as asked for");
        assert_eq!(repeated.rows(), Some(2));
    }

    #[test]
    fn parts_are_joined_row_by_row() {
        let full = |rows: usize, seed| {
            text(rows, seed)
                .pooled(tensor([rows, 2], seed, &flex()))
                .sizes(vec![vec![seed, 1.0]; rows])
                .labels(Labels::of(vec![3; rows]))
                .guidance(vec![seed; rows])
                .image(tensor([rows, 1, 2, 2], seed, &flex()))
        };
        let both = TextCondition::cat(&[&full(1, 0.1), &full(2, 0.2)]).unwrap();
        assert_eq!(both.count().unwrap(), 3);
        assert_eq!(both.guidance, Some(vec![0.1, 0.2, 0.2]));
        assert_eq!(both.sizes.as_ref().unwrap()[2], [0.2, 1.0]);
        let pooled = values(&both.pooled.unwrap());
        assert_eq!(pooled[2..], values(&full(2, 0.2).pooled.unwrap()));
        // A mask beside none: all tokens of the other are seen.
        let masked = text(1, 0.1).mask(Tensor::zeros([1, 3], &flex()));
        let both = TextCondition::cat(&[&text(1, 0.2), &masked]).unwrap();
        assert_eq!(values(&both.mask.unwrap()), [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn one_row_is_repeated_and_others_are_counted() {
        let five = text(1, 0.3).guidance([2.0]).for_batch(5).unwrap();
        assert_eq!((five.states.dims(), five.guidance.unwrap().len()), ([5, 3, 4], 5));
        assert!(matches!(text(2, 0.3).for_batch(5), Err(ModelError::Rows { given: 2, batch: 5 })));
        let uneven = text(2, 0.3).guidance([2.0]);
        assert!(matches!(uneven.for_batch(2), Err(ModelError::Rows { given: 1, batch: 2 })));
        assert!(matches!(text(1, 0.3).for_batch(0), Err(ModelError::Rows { given: 1, batch: 0 })));
    }

    #[test]
    fn a_guidance_scale_is_embedded_as_a_time() {
        // Half the width sines, then cosines, of 1000(w - 1) at frequencies 10000^(-i/(half - 1)).
        let given = values(&text(1, 0.1).guidance([7.5]).guidance_of(Some(8), &flex()).unwrap().unwrap());
        for i in 0..4 {
            let angle = 6500.0 * 10_000f64.powf(-(i as f64) / 3.0);
            // An angle of 6500 has a rounding error of 5e-4 in f32.
            assert!((given[i] - angle.sin()).abs() < 1e-3 && (given[4 + i] - angle.cos()).abs() < 1e-3, "{given:?}");
        }
        let own = tensor([1, 8], 0.4, &flex());
        let given = text(1, 0.1).guidance_embedding(own.clone()).guidance_of(Some(8), &flex()).unwrap().unwrap();
        assert_eq!(values(&given), values(&own));
        let error = text(1, 0.1).guidance_embedding(own).check_guidance(6).unwrap_err();
        assert!(matches!(error, ModelError::Shape { what: "guidance_embedding", .. }), "{error}");
        let error = text(1, 0.1).guidance([f64::NAN]).check_guidance(6).unwrap_err();
        assert!(matches!(error, ModelError::NotFinite { row: 0, .. }), "{error}");
    }

    #[test]
    fn an_image_stands_behind_the_state() {
        let (x, image) = (tensor([2, 3, 2, 2], 0.1, &flex()), tensor([2, 1, 2, 2], 0.6, &flex()));
        let both = text(2, 0.1).image(image.clone()).behind(x.clone()).unwrap();
        assert_eq!(values(&both.clone().narrow(1, 0, 3)), values(&x));
        assert_eq!(values(&both.narrow(1, 3, 1)), values(&image));
    }

    #[test]
    fn other_parts_are_left_out() {
        let all = text(1, 0.1).guidance([2.0]).pooled(tensor([1, 2], 0.1, &flex())).labels(Labels::of([1]));
        let some = all.only(&[Part::Pooled, Part::Mask]);
        assert!(some.pooled.is_some() && some.guidance.is_none() && some.labels.is_none());
        some.check(4, &[Part::Pooled]).unwrap();
    }

    #[test]
    fn parts_that_do_not_fit_are_named() {
        let error = TextCondition::join(&[&text(1, 0.1), &text(1, 0.1).guidance([1.0])]).unwrap_err();
        assert!(matches!(error, ModelError::MissingPart { part: "guidance" }), "{error}");
        let longer = TextCondition::new(tensor([1, 5, 4], 0.1, &flex()));
        let error = TextCondition::join(&[&text(1, 0.1), &longer]).unwrap_err();
        assert!(matches!(error, ModelError::Shape { what: "text states", .. }), "{error}");
        let error = text(1, 0.1).check(7, &[]).unwrap_err();
        assert!(matches!(error, ModelError::Shape { what: "text states", .. }), "{error}");
        let error = text(1, 0.1).guidance([1.0]).check(4, &[]).unwrap_err();
        assert!(matches!(error, ModelError::UnknownPart { part: "guidance" }), "{error}");
        let error = text(1, 0.1).check(4, &[Part::Pooled]).unwrap_err();
        assert!(matches!(error, ModelError::MissingPart { part: "pooled" }), "{error}");
        text(1, 0.1).check(4, &[Part::Mask]).unwrap();
        let short = text(1, 0.1).mask(Tensor::ones([1, 2], &flex())).check(4, &[Part::Mask]).unwrap_err();
        assert!(matches!(short, ModelError::Shape { what: "mask", .. }), "{short}");
        let pooled = text(1, 0.1).pooled(tensor([1, 2], 0.1, &flex()));
        assert!(matches!(pooled.pooled_of(3), Err(ModelError::Shape { what: "pooled text", .. })));
        assert_eq!(pooled.pooled_of(2).unwrap().dims(), [1, 2]);
        let broken = text(1, 0.1).guidance([f64::INFINITY]);
        assert!(matches!(broken.guidance_scales(), Err(ModelError::NotFinite { row: 0, .. })));
        let twice = text(1, 0.1).guidance([1.0]).guidance_embedding(tensor([1, 8], 0.1, &flex()));
        let error = twice.check(4, &[Part::Guidance]).unwrap_err();
        assert!(matches!(error, ModelError::UnknownPart { part: "guidance_embedding" }), "{error}");
        let error = text(1, 0.1).image(tensor([1, 1, 2, 3], 0.1, &flex())).behind(tensor([1, 1, 3, 2], 0.1, &flex()));
        assert!(matches!(error, Err(ModelError::Shape { what: "image", .. })));
        let uneven = text(2, 0.1).sizes([vec![1.0, 2.0], vec![1.0]]);
        assert!(matches!(uneven.sizes_of(2, &flex()), Err(ModelError::Shape { what: "sizes", .. })));
        let broken = text(1, 0.1).sizes([vec![1.0, f64::NAN]]);
        assert!(matches!(broken.sizes_of(2, &flex()), Err(ModelError::NotFinite { row: 0, .. })));
    }

    #[test]
    fn rows_of_a_video_follow_one_another() {
        let x = tensor([2, 3, 2], 0.3, &flex());
        let rows = each_frame(x.clone(), 3);
        assert_eq!(rows.dims(), [6, 3, 2]);
        for row in 0..6 {
            assert_close(&rows.clone().narrow(0, row, 1), &values(&x.clone().narrow(0, row / 3, 1)), 0.0);
        }
    }

    #[test]
    fn texts_of_frames_stay_together() {
        let video = |seed| text(3, seed).frames(3).guidance([seed]);
        assert_eq!(video(0.1).rows(), Some(1));
        let both = video(0.1).for_batch(2).unwrap();
        assert_eq!((both.rows(), both.states.dims()), (Some(2), [6, 3, 4]));
        assert_close(&both.states.narrow(0, 3, 3), &values(&text(3, 0.1).states), 0.0);
        // Beside a text for each frame, one for the whole video is that of every frame.
        let joined = TextCondition::cat(&[&text(1, 0.5).guidance([1.0]), &video(0.1)]).unwrap();
        assert_eq!((joined.rows(), joined.frames), (Some(2), Some(3)));
        assert_close(&joined.states.clone().narrow(0, 2, 1), &values(&text(1, 0.5).states), 0.0);
        assert_close(&joined.states.narrow(0, 3, 3), &values(&text(3, 0.1).states), 0.0);
        for (states, frames) in [(3, 2), (3, 0), (2, 3)] {
            let error = text(states, 0.1).frames(frames).count().unwrap_err();
            assert!(matches!(error, ModelError::Shape { what: "text states", .. }), "{error}");
        }
        let error = TextCondition::join(&[&text(2, 0.1).frames(2), &text(3, 0.1).frames(3)]).unwrap_err();
        assert!(matches!(error, ModelError::Shape { what: "frames", .. }), "{error}");
        assert!(matches!(video(0.1).check(4, &[Part::Guidance]), Err(ModelError::UnknownPart { part: "frames" })));
        video(0.1).check(4, &[Part::Guidance, Part::Frames]).unwrap();
    }
}
