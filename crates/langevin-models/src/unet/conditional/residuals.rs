//! What ControlNets and adapters add to a text-conditional UNet on its way down.

use burn::tensor::{DType, Tensor};

use super::encoder::{EncoderConfig, LevelBlock, Middle};
use crate::error::ModelError;

/// What a ControlNet adds to a UNet.
#[derive(Debug, Clone)]
pub struct ControlResiduals {
    /// One for each tensor that the way up takes from the way down, `[batch, channels, height, width]`, or with a height
    /// and width of 1 for all pixels alike.
    pub down: Vec<Tensor<4>>,
    /// What is added to the output of the middle block.
    pub mid: Tensor<4>,
}

impl ControlResiduals {
    /// The sum with another ControlNet's.
    ///
    /// # Errors
    ///
    /// [`ModelError::Shape`] if the other has another number of tensors, or tensors that do not fit.
    pub fn plus(self, other: Self) -> Result<Self, ModelError> {
        count("control residuals", other.down.len(), self.down.len())?;
        let plus = |a: Tensor<4>, b: Tensor<4>| {
            let (left, right) = (a.dims(), b.dims());
            let pixels = left[2..] == right[2..] || left[2..] == [1, 1] || right[2..] == [1, 1];
            if left[..2] != right[..2] || !pixels {
                return Err(ModelError::Shape {
                    what: "control residuals",
                    given: right.to_vec(),
                    expected: format!("{left:?}, that of the ControlNet before"),
                });
            }
            let b = b.cast(a.dtype());
            Ok(a + b)
        };
        let down = self.down.into_iter().zip(other.down).map(|(a, b)| plus(a, b)).collect::<Result<_, _>>()?;
        Ok(Self { down, mid: plus(self.mid, other.mid)? })
    }

    /// Checks every shape against what a network keeps on its way down over levels of so many channels and layers each,
    /// for `[batch, _, height, width]`.
    pub(crate) fn check(
        &self,
        levels: &[(usize, usize)],
        padding: usize,
        [batch, _, mut height, mut width]: [usize; 4],
    ) -> Result<(), ModelError> {
        let mut shapes = vec![[batch, levels[0].0, height, width]];
        for (i, &(channels, layers)) in levels.iter().enumerate() {
            shapes.extend(vec![[batch, channels, height, width]; layers]);
            if i + 1 < levels.len() {
                [height, width] = [height, width].map(|side| (side + padding) / 2);
                shapes.push([batch, channels, height, width]);
            }
        }
        count("control residuals", self.down.len(), shapes.len())?;
        let middle = shapes[shapes.len() - 1];
        for (given, expected) in self.down.iter().chain([&self.mid]).zip(shapes.into_iter().chain([middle])) {
            fits("control residuals", given, expected, true)?;
        }
        Ok(())
    }

    /// The residuals of `batch` samples, of which these are those of some `rows`; others get none.
    pub(crate) fn spread(self, rows: &[usize], batch: usize) -> Self {
        let spread = |t: Tensor<4>| {
            let nothing = t.clone().narrow(0, 0, 1).zeros_like();
            let row = |row| match rows.iter().position(|given| *given == row) {
                Some(at) => t.clone().narrow(0, at, 1),
                None => nothing.clone(),
            };
            Tensor::cat((0..batch).map(row).collect(), 0)
        };
        Self { down: self.down.into_iter().map(spread).collect(), mid: spread(self.mid) }
    }

    /// Multiplies every sample's residuals with its own number. `[batch]`
    ///
    /// # Panics
    ///
    /// If there are more numbers than one and not as many as samples.
    #[must_use]
    pub fn times(self, strengths: &Tensor<1>) -> Self {
        let [batch] = strengths.dims();
        let scale = |t: Tensor<4>| {
            let strengths = strengths.clone().cast(t.dtype()).reshape([batch, 1, 1, 1]);
            t * strengths
        };
        Self { down: self.down.into_iter().map(scale).collect(), mid: scale(self.mid) }
    }
}

/// Everything that is added to a UNet on its way down. The default is nothing.
#[derive(Debug, Clone, Default)]
pub struct Residuals {
    /// Of ControlNets.
    pub control: Option<ControlResiduals>,
    /// Of adapters: one for each level, finest first, and perhaps one for the middle block.
    pub features: Vec<Tensor<4>>,
}

impl Residuals {
    /// In another element type.
    pub(super) fn cast(&self, dtype: DType) -> Self {
        let cast = |t: &Tensor<4>| t.clone().cast(dtype);
        Self {
            control: self.control.as_ref().map(|control| ControlResiduals {
                down: control.down.iter().map(cast).collect(),
                mid: cast(&control.mid),
            }),
            features: self.features.iter().map(cast).collect(),
        }
    }

    /// Checks every shape against what a network computes for `[batch, _, height, width]`.
    pub(super) fn check(&self, config: &EncoderConfig, x: [usize; 4]) -> Result<(), ModelError> {
        if self.control.is_none() && self.features.is_empty() {
            return Ok(());
        }
        if config.levels.iter().any(|level| level.block.is_time_norm()) {
            return Err(ModelError::Unsupported {
                key: "down_block_types",
                value: "\"KDownBlock2D\" with what ControlNets or adapters add".into(),
                supported: "the other types",
            });
        }
        let levels: Vec<_> = config.levels.iter().map(|level| (level.channels, level.layers)).collect();
        if let Some(control) = &self.control {
            control.check(&levels, config.downsample_padding, x)?;
        }
        let shapes = config.shapes(x);
        let middle = usize::from(config.middle != Middle::None);
        if self.features.len() > config.levels.len() + middle {
            count("adapter features", self.features.len(), config.levels.len())?;
        }
        for (i, given) in self.features.iter().enumerate() {
            if config.levels.get(i).is_some_and(|level| level.block == LevelBlock::AddedAttention) {
                return Err(ModelError::Unsupported {
                    key: "down_block_types",
                    value: "\"SimpleCrossAttnDownBlock2D\" with the features of an adapter".into(),
                    supported: "the other types",
                });
            }
            fits("adapter features", given, *shapes.features.get(i).unwrap_or(&shapes.mid), false)?;
        }
        Ok(())
    }
}

/// The shapes of what adapters add on the way down.
struct Shapes {
    features: Vec<[usize; 4]>,
    mid: [usize; 4],
}

impl EncoderConfig {
    fn shapes(&self, [batch, _, mut height, mut width]: [usize; 4]) -> Shapes {
        let mut shapes = Shapes { features: vec![], mid: [0; 4] };
        for (i, level) in self.levels.iter().enumerate() {
            let here = [batch, level.channels, height, width];
            if i + 1 < self.levels.len() {
                [height, width] = [height, width].map(|n| (n + self.downsample_padding) / 2);
            }
            let after = [batch, level.channels, height, width];
            let before = matches!(level.block, LevelBlock::CrossAttention | LevelBlock::Attention);
            shapes.features.push(if before { here } else { after });
            shapes.mid = after;
        }
        shapes
    }
}

fn count(what: &'static str, given: usize, expected: usize) -> Result<(), ModelError> {
    if given == expected {
        return Ok(());
    }
    Err(ModelError::Shape { what, given: vec![given], expected: format!("{expected} tensors") })
}

fn fits(what: &'static str, given: &Tensor<4>, expected: [usize; 4], pooled: bool) -> Result<(), ModelError> {
    let given = given.dims();
    let one = [expected[0], expected[1], 1, 1];
    if given == expected || pooled && given == one {
        return Ok(());
    }
    Err(ModelError::Shape { what, given: given.to_vec(), expected: format!("{expected:?}") })
}
