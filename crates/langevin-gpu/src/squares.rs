//! The sum of the squares of many tensors: one launch for each, and nothing is read.

mod kernels;
mod ops;

use burn::tensor::{DType, Device, Tensor};

use ops::{Dispatch, SquareOps};

/// Numbers that the sum is spread over.
const SLOTS: usize = 128;

/// A sum of squares, spread over some numbers of a device in `f32`.
///
/// # Example
///
/// ```
/// # use burn::tensor::{Device, Tensor};
/// # use langevin_gpu::Squares;
/// # fn norm(tensors: Vec<Tensor<2>>, device: &Device) -> Option<Tensor<1>> {
/// let mut squares = Squares::on(device)?;
/// for tensor in tensors {
///     squares = squares.and(tensor);
/// }
/// # Some(
/// squares.sum().sqrt()
/// # ) }
/// ```
#[derive(Clone, Debug)]
pub struct Squares(Tensor<1>);

impl Squares {
    /// No squares. `None` for a device whose backend compiles no kernels.
    #[must_use]
    pub fn on(device: &Device) -> Option<Self> {
        crate::compiles_kernels(device).then(|| Self(Tensor::zeros([SLOTS], (device, DType::F32))))
    }

    /// With those of a tensor on the device, of 16 or 32 bits and without gradients. They are added up in `f32`, in an order of their own,
    /// the same every time.
    #[must_use]
    pub fn and<const D: usize>(self, x: Tensor<D>) -> Self {
        if x.shape().num_elements() == 0 {
            return self;
        }
        Self(Tensor::from_dispatch(Dispatch::add_squares(self.0.into_dispatch(), x.into_dispatch())))
    }

    /// Their sum: one number.
    #[must_use]
    pub fn sum(self) -> Tensor<1> {
        self.0.sum()
    }
}
