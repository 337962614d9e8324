//! Operators that act along each axis alone: blur, super-resolution, matrices.

use super::axis::Axis;
use super::{LinearOperator, SingularValues, Svd};
use crate::inverse::error::{InverseError, check_finite, check_sample};
use crate::load::Load;
use burn::tensor::{DType, Tensor, TensorData};

/// A product of linear maps, one along each of some axes of a sample: [`blur`](Self::blur), [`block_means`](Self::block_means)
/// or [`matrices`](Self::matrices).
///
/// Its decomposition is the product of those along the axes. Singular values below a share of the largest count as 0, so that
/// no inverse enlarges the rounding of tensors: 1e-12 in `f64`, 1e-6 otherwise, unless [`rank_tolerance`](Self::rank_tolerance)
/// says another. The operator itself is not changed by that.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use langevin_core::Load;
/// use langevin_core::inverse::{LinearOperator, Separable, gaussian_kernel};
/// let load = Load::on(&Device::flex());
/// let x = Tensor::<4>::ones([2, 1, 8, 8], &Device::flex());
///
/// let kernel = gaussian_kernel(1.0, 7)?;
/// let blur = Separable::blur(&[1, 8, 8], &[(1, &kernel), (2, &kernel)], &load)?;
/// assert_eq!(blur.apply(x.clone())?.dims(), [2, 1, 8, 8]);
///
/// let smaller = Separable::block_means(&[1, 8, 8], &[(1, 4), (2, 4)], &load)?;
/// let y = smaller.apply(x.clone())?;
/// assert_eq!(y.dims(), [2, 1, 2, 2]);
/// assert!((smaller.pseudo_inverse(y)? - x).abs().max().into_scalar::<f32>() < 1e-6);
/// # Ok::<(), langevin_core::inverse::InverseError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Separable<const D: usize> {
    sample: Vec<usize>,
    axes: Vec<OnDevice>,
    tolerance: f64,
}

/// One axis: which, its map on the host and its matrices on a device.
#[derive(Clone, Debug)]
struct OnDevice {
    axis: usize,
    host: Axis,
    a: Tensor<2>,
    v: Tensor<2>,
    u: Tensor<2>,
}

impl<const D: usize> Separable<D> {
    /// Convolution with a kernel along each of the axes named, on a circle: what leaves at one end enters at the other.
    ///
    /// Axes are those of a `sample` without the batch, from 0; for images `[channels, height, width]` a symmetric blur is
    /// `&[(1, &kernel), (2, &kernel)]`. The middle of a kernel is the value itself.
    ///
    /// # Errors
    /// [`InverseError::Kernel`] for a kernel of even length, longer than its axis, with values that are not finite or all 0;
    /// [`InverseError::Axis`] for an axis that there is not, or that is named twice; [`InverseError::Shape`] if the sample has
    /// not D − 1 dimensions.
    pub fn blur(sample: &[usize], kernels: &[(usize, &[f64])], load: &Load) -> Result<Self, InverseError> {
        Self::of(sample, kernels, load, |axis, size, kernel| {
            let bad = |problem: String| InverseError::Kernel { axis, length: kernel.len(), problem };
            if kernel.len().is_multiple_of(2) {
                return Err(bad("no middle: give an odd number of values".into()));
            }
            if kernel.len() > size {
                return Err(bad(format!("the axis only {size}: cut the kernel")));
            }
            if !kernel.iter().all(|value| value.is_finite()) {
                return Err(bad("not all of them are finite".into()));
            }
            if kernel.iter().all(|value| *value == 0.0) {
                return Err(bad("all of them are 0: nothing would be measured".into()));
            }
            Ok(Axis::circulant(size, kernel))
        })
    }

    /// Means of blocks: super-resolution undoes them. Each factor says how many neighbors along its axis become one.
    ///
    /// # Errors
    /// [`InverseError::Factor`] for a factor that does not divide its axis; for axes and samples as [`blur`](Self::blur).
    pub fn block_means(sample: &[usize], factors: &[(usize, usize)], load: &Load) -> Result<Self, InverseError> {
        Self::of(sample, factors, load, |axis, size, &factor| {
            if factor == 0 || !size.is_multiple_of(factor) {
                return Err(InverseError::Factor { axis, size, factor });
            }
            Ok(Axis::means(size, factor))
        })
    }

    /// Any matrix along each of the axes named, given by its rows. For vectors, `Tensor<2>`, one along axis 0 is any operator
    /// at all. Decomposed on the host at a cost of the cube of its size: for small ones.
    ///
    /// # Errors
    /// [`InverseError::Matrix`] for a matrix without rows, with rows that are not as long as the axis, or with values that are
    /// not finite; for axes and samples as [`blur`](Self::blur).
    pub fn matrices(sample: &[usize], matrices: &[(usize, Vec<Vec<f64>>)], load: &Load) -> Result<Self, InverseError> {
        Self::of(sample, matrices, load, |axis, size, rows| {
            let bad = |problem: String| Err(InverseError::Matrix { axis, problem });
            if rows.is_empty() {
                return bad("has no rows: nothing would be measured".into());
            }
            if let Some(index) = rows.iter().position(|row| row.len() != size) {
                return bad(format!("has {} values in row {index}, the axis has {size}", rows[index].len()));
            }
            let values = rows.concat();
            if check_finite("the matrix", values.iter().copied()).is_err() {
                return bad("has values that are not finite".into());
            }
            Ok(Axis::matrix(rows.len(), size, values))
        })
    }

    /// Singular values of at most `share` of the largest count as 0.
    ///
    /// # Errors
    /// [`InverseError::Setting`] outside `[0, 1)`.
    pub fn rank_tolerance(mut self, share: f64) -> Result<Self, InverseError> {
        if !(0.0..1.0).contains(&share) {
            let (setting, expected) = ("the rank tolerance", "a share of the largest singular value, in [0, 1)");
            return Err(InverseError::Setting { setting, given: share, expected });
        }
        self.tolerance = share;
        Ok(self)
    }

    fn of<T>(
        sample: &[usize],
        parts: &[(usize, T)],
        load: &Load,
        make: impl Fn(usize, usize, &T) -> Result<Axis, InverseError>,
    ) -> Result<Self, InverseError> {
        if sample.len() + 1 != D || sample.contains(&0) {
            let expected = format!("{} dimensions of at least 1, those of `Tensor<{D}>` without the batch", D - 1);
            return Err(InverseError::Shape { what: "the sample", given: sample.to_vec(), expected });
        }
        let mut axes: Vec<OnDevice> = Vec::new();
        for (axis, part) in parts {
            let wrong = |problem| InverseError::Axis { axis: *axis, sample: sample.to_vec(), problem };
            let size = *sample.get(*axis).ok_or_else(|| wrong("is not there"))?;
            if axes.iter().any(|other| other.axis == *axis) {
                return Err(wrong("is named twice"));
            }
            let host = make(*axis, size, part)?;
            let on_device = |values: &[f64], rows: usize| {
                Tensor::from_data(TensorData::new(values.to_vec(), [rows, host.columns]), load.options())
            };
            let (a, v, u) =
                (on_device(&host.a, host.rows), on_device(&host.v, host.columns), on_device(&host.u, host.rows));
            axes.push(OnDevice { axis: *axis, host, a, v, u });
        }
        let tolerance = if load.options().1 == DType::F64 { 1e-12 } else { 1e-6 };
        Ok(Self { sample: sample.to_vec(), axes, tolerance })
    }

    /// Shape of one measurement.
    fn measured(&self) -> Vec<usize> {
        let mut shape = self.sample.clone();
        self.axes.iter().for_each(|part| shape[part.axis] = part.host.rows);
        shape
    }

    fn check_x(&self, x: &Tensor<D>) -> Result<(), InverseError> {
        check_sample("the sample", &x.dims(), &self.sample)
    }

    fn check_y(&self, y: &Tensor<D>) -> Result<(), InverseError> {
        check_sample("the measurement", &y.dims(), &self.measured())
    }

    /// A matrix of each axis along it.
    fn map(&self, x: Tensor<D>, matrix: impl Fn(&OnDevice) -> Tensor<2>) -> Tensor<D> {
        self.axes.iter().fold(x, |x, part| along(x, part.axis + 1, matrix(part)))
    }
}

/// `matrix·x` along dimension `dim` of x.
fn along<const D: usize>(x: Tensor<D>, dim: usize, matrix: Tensor<2>) -> Tensor<D> {
    let [rows, columns] = matrix.dims();
    let matrix = if matrix.dtype() == x.dtype() { matrix } else { matrix.cast(x.dtype()) };
    let last = x.swap_dims(dim, D - 1);
    let mut shape = last.dims();
    let others: usize = shape[..D - 1].iter().product();
    shape[D - 1] = rows;
    let y = last.reshape([others, columns]).matmul(matrix.transpose());
    y.reshape(shape).swap_dims(dim, D - 1)
}

impl<const D: usize> LinearOperator<D> for Separable<D> {
    fn measured_shape(&self, sample: &[usize]) -> Result<Vec<usize>, InverseError> {
        if sample != self.sample {
            let expected = format!("{:?}, for which the operator was made", self.sample);
            return Err(InverseError::Shape { what: "the sample", given: sample.to_vec(), expected });
        }
        Ok(self.measured())
    }
    fn apply(&self, x: Tensor<D>) -> Result<Tensor<D>, InverseError> {
        self.check_x(&x)?;
        Ok(self.map(x, |part| part.a.clone()))
    }
    fn transpose(&self, y: Tensor<D>) -> Result<Tensor<D>, InverseError> {
        self.check_y(&y)?;
        Ok(self.map(y, |part| part.a.clone().transpose()))
    }
    fn svd(&self) -> Option<&dyn Svd<D>> {
        Some(self)
    }
}

impl<const D: usize> Svd<D> for Separable<D> {
    fn right(&self, x: Tensor<D>) -> Result<Tensor<D>, InverseError> {
        self.check_x(&x)?;
        Ok(self.map(x, |part| part.v.clone().transpose()))
    }
    fn right_inverse(&self, spectrum: Tensor<D>) -> Result<Tensor<D>, InverseError> {
        self.check_x(&spectrum)?;
        Ok(self.map(spectrum, |part| part.v.clone()))
    }
    fn left(&self, y: Tensor<D>) -> Result<Tensor<D>, InverseError> {
        self.check_y(&y)?;
        Ok(self.map(y, |part| part.u.clone().transpose()))
    }
    fn singular_values(&self, sample: &[usize]) -> Result<SingularValues, InverseError> {
        LinearOperator::<D>::measured_shape(self, sample)?;
        let mut values = vec![1.0];
        for (axis, size) in self.sample.iter().enumerate() {
            let part = self.axes.iter().find(|part| part.axis == axis);
            let own = |i: usize| part.map_or(1.0, |part| part.host.s[i]);
            values = values.iter().flat_map(|before| (0..*size).map(move |i| before * own(i))).collect();
        }
        let least = self.tolerance * values.iter().copied().fold(0.0, f64::max);
        values.iter_mut().filter(|s| **s <= least).for_each(|s| *s = 0.0);
        SingularValues::new(1, values)
    }
}

/// A Gaussian of standard deviation `std`, in units of a pixel, as a kernel of an odd number of values with the sum 1.
///
/// # Errors
/// [`InverseError::Setting`] unless the deviation is positive and finite and the length is odd.
pub fn gaussian_kernel(std: f64, length: usize) -> Result<Vec<f64>, InverseError> {
    if !(std > 0.0 && std.is_finite()) {
        let (setting, expected) = ("the deviation of a Gaussian kernel", "a positive number of pixels");
        return Err(InverseError::Setting { setting, given: std, expected });
    }
    if length.is_multiple_of(2) {
        let (setting, expected) = ("the length of a Gaussian kernel", "an odd number, so that there is a middle");
        return Err(InverseError::Setting { setting, given: length as f64, expected });
    }
    let middle = (length / 2) as f64;
    let values: Vec<f64> = (0..length).map(|i| libm::exp(-0.5 * ((i as f64 - middle) / std).powi(2))).collect();
    let sum: f64 = values.iter().sum();
    Ok(values.into_iter().map(|value| value / sum).collect())
}
