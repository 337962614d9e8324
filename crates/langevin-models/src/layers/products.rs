//! Matrix products, by the kernels of this library where Burn's would be tried out first.

use burn::tensor::Tensor;

use super::swapped;

/// `left·right` of the last two axes, whose other axes are the same; `turned` if the right factor is there as its transpose.
///
/// # Shapes
///
/// - left: `[.., rows, input]`
/// - right: `[.., input, output]`, turned `[.., output, input]`
/// - output: `[.., rows, output]`
pub(crate) fn multiply<const D: usize>(left: Tensor<D>, right: Tensor<D>, turned: bool) -> Tensor<D> {
    #[cfg(feature = "cube")]
    if left.dims()[..D - 2] == right.dims()[..D - 2]
        && left.dtype() == right.dtype()
        && langevin_gpu::multiplies(&left.device(), left.dtype())
    {
        let mut shape = left.dims();
        shape[D - 1] = right.dims()[if turned { D - 2 } else { D - 1 }];
        let flat = |x: Tensor<D>| {
            let dims = x.dims();
            x.reshape([dims[..D - 2].iter().product(), dims[D - 2], dims[D - 1]])
        };
        let turned = langevin_gpu::Turned { left: false, right: turned };
        return langevin_gpu::multiply(flat(left), flat(right), turned).reshape(shape);
    }
    left.matmul(if turned { swapped(right, D - 2) } else { right })
}
