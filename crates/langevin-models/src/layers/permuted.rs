//! Views in another order of axes.

use burn::tensor::Tensor;

/// A tensor with its axes in another order, as Burn's `permute`. Axes of size one are not moved but reshaped away: Burn's fused
/// kernels read a view that has moved one in steps of the vector width, and so take the wrong elements.
pub(crate) fn permuted<const D: usize>(x: Tensor<D>, axes: [usize; D]) -> Tensor<D> {
    let dims = x.dims();
    // Of nothing no element is read, and a size of zero means another one to Burn's `reshape`.
    if dims.contains(&0) {
        return x.permute(axes.map(|axis| axis as isize));
    }
    let large: Vec<usize> = (0..D).filter(|axis| dims[*axis] > 1).collect();
    let ones = D - large.len();
    let mut in_front = [1; D];
    let mut order: [isize; D] = std::array::from_fn(|i| i as isize);
    let moved = axes.iter().filter_map(|axis| large.iter().position(|other| other == axis));
    for (at, (axis, from)) in large.iter().zip(moved).enumerate() {
        in_front[ones + at] = dims[*axis];
        order[ones + at] = (ones + from) as isize;
    }
    let x = if in_front == dims { x } else { x.reshape(in_front) };
    let x = if order.is_sorted() { x } else { x.permute(order) };
    let result = axes.map(|axis| dims[axis]);
    if x.dims() == result { x } else { x.reshape(result) }
}

/// A tensor with an axis and the next in the other order.
pub(crate) fn swapped<const D: usize>(x: Tensor<D>, axis: usize) -> Tensor<D> {
    let mut axes = std::array::from_fn(|i| i);
    axes.swap(axis, axis + 1);
    permuted(x, axes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{flex, tensor, values};

    #[test]
    fn it_is_a_permutation_whatever_is_of_size_one() {
        let device = flex();
        let orders = [[0, 1, 2, 3], [0, 2, 3, 1], [0, 3, 1, 2], [0, 2, 1, 3], [3, 1, 0, 2], [0, 1, 3, 2]];
        for ones in 0..16 {
            let dims: [usize; 4] = std::array::from_fn(|axis| if ones >> axis & 1 == 1 { 1 } else { axis + 2 });
            for axes in orders {
                let x = tensor(dims, 0.3, &device);
                let expected = x.clone().permute(axes.map(|axis| axis as isize));
                let given = permuted(x, axes);
                assert_eq!(given.dims(), expected.dims());
                assert_eq!(values(&given), values(&expected), "{dims:?} in the order {axes:?}");
            }
        }
        assert_eq!(permuted(tensor([0, 1, 5, 4], 0.3, &device), [0, 2, 3, 1]).dims(), [0, 5, 4, 1]);
        let x = tensor([2, 1, 3], 0.3, &device);
        assert_eq!(values(&swapped(x.clone(), 0)), values(&x.swap_dims(0, 1)));
    }
}
