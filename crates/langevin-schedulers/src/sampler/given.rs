//! Tensors that a run is given beside its samples.

use super::{Run, SampleError};
use crate::plan::{Aux, KNOWN, MASK, Src};
use burn::tensor::Tensor;

impl<const D: usize> Run<'_, D> {
    /// Gives a run what is known of its samples, before the first step: the image, and where it is known (1 there, 0 in the
    /// region to fill). Both have the shape of the samples, `[batch, ..]`, or 1 in some dimensions: `[1, 1, height, width]`
    /// is one mask for all samples and channels. What the image has where the mask is 0 is not used.
    ///
    /// [`RePaint`](crate::RePaint) makes plans that read them. A saved run takes them along.
    ///
    /// # Errors
    /// [`SampleError::GivenShape`], [`SampleError::GivenNotFinite`] and [`SampleError::MaskRange`] for tensors that do not
    /// fit, [`SampleError::NotRead`] if the sampler reads neither, [`SampleError::GivenLate`] after the first step,
    /// [`SampleError::Read`] if the device cannot be read.
    pub fn known(self, image: Tensor<D>, mask: Tensor<D>) -> Result<Self, SampleError> {
        let (least, most) = (read(mask.clone().min())?, read(mask.clone().max())?);
        let run = self.given(KNOWN, image)?.given(MASK, mask)?;
        if !(least >= 0.0 && most <= 1.0) {
            return Err(SampleError::MaskRange { least, most });
        }
        Ok(run)
    }

    /// Gives a run one tensor that its plan reads, before the first step: its shape is that of the samples, or 1 in some
    /// dimensions.
    ///
    /// # Errors
    /// As [`known`](Self::known), but for the range of a mask.
    pub fn given(mut self, aux: Aux, value: Tensor<D>) -> Result<Self, SampleError> {
        let name = Src::Aux(aux).to_string();
        if !self.sampler.auxiliaries().contains(&aux) {
            return Err(SampleError::NotRead { name });
        }
        if self.state.steps() > 0 {
            return Err(SampleError::GivenLate { name, step: self.state.steps() });
        }
        let x = self.state.x();
        let (given, expected) = (value.dims(), x.dims());
        if !given.iter().zip(&expected).all(|(given, expected)| given == expected || *given == 1) {
            return Err(SampleError::GivenShape { name, given: given.to_vec(), expected: expected.to_vec() });
        }
        let finite = value.clone().is_finite().all().try_into_scalar::<bool>();
        match finite {
            Ok(true) => {}
            Ok(false) => return Err(SampleError::GivenNotFinite { name }),
            Err(error) => return Err(SampleError::Read { message: error.to_string() }),
        }
        let value = value.to_device(&x.device()).cast(x.dtype());
        self.state.memory.give(aux, value.expand(expected));
        Ok(self)
    }
}

fn read(x: Tensor<1>) -> Result<f64, SampleError> {
    x.try_into_scalar::<f64>().map_err(|error| SampleError::Read { message: error.to_string() })
}
