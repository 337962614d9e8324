//! The kernel: a thread adds up a share of a column.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::cubecl::{self, calculate_cube_count_elemwise};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

use crate::address;

/// Rows that a thread adds up, about, where there are too few columns for all threads of a GPU.
const SHARE: usize = 64;
/// Threads that keep a large GPU busy.
const BUSY: usize = 1 << 16;

/// Sums of `share` rows each of `[groups, rows, columns]`: `[groups, shares, columns]`.
#[cube(launch, address_type = "dynamic")]
fn add_rows<T: Float, S: Float, N: Size>(
    x: &Tensor<Vector<T, N>>,
    y: &mut Tensor<Vector<S, N>>,
    share: usize,
    #[define(T)] _from: ElemType,
    #[define(S)] _to: ElemType,
) {
    let columns = x.shape(2) / x.vector_size();
    let (rows, shares) = (x.shape(1), y.shape(1));
    if ABSOLUTE_POS >= x.shape(0) * shares * columns {
        terminate!();
    }
    let column = ABSOLUTE_POS % columns;
    let part = ABSOLUTE_POS / columns % shares;
    let group = ABSOLUTE_POS / columns / shares;
    let until = min((part + 1) * share, rows);
    let mut sum = Vector::<f32, N>::new(0.0f32);
    for row in part * share..until {
        sum += Vector::cast_from(x[(group * rows + row) * columns + column]);
    }
    y[ABSOLUTE_POS] = Vector::cast_from(sum);
}

fn added(x: &CubeTensor, shares: usize, dtype: DType) -> CubeTensor {
    let [groups, rows, columns] = x.meta.shape().dims();
    let vector = crate::memory::vector_of(columns);
    let shape = Shape::new([groups, shares, columns]);
    let threads = shape.num_elements() / vector;
    let y = empty_device_contiguous_dtype(x.client.clone(), x.device.clone(), shape, dtype);
    let cube_dim = CubeDim::new(&x.client, threads);
    add_rows::launch(
        &x.client,
        calculate_cube_count_elemwise(&x.client, threads, cube_dim),
        cube_dim,
        address(&[x, &y]),
        vector,
        x.clone().into_tensor_arg(),
        y.clone().into_tensor_arg(),
        rows.div_ceil(shares),
        dtype_to_storage_type(x.dtype),
        dtype_to_storage_type(dtype),
    );
    y
}

/// The sums over the rows of `[groups, rows, columns]`, which is contiguous: `[groups, 1, columns]` in a type of their own.
pub(crate) fn summed(x: &CubeTensor, dtype: DType) -> CubeTensor {
    let [groups, rows, columns] = x.meta.shape().dims();
    let few = rows > 2 * SHARE && groups * columns < BUSY;
    let shares = if few { rows.div_ceil(SHARE).min((4 * BUSY).div_ceil(groups * columns)) } else { 1 };
    // Every share has rows.
    let shares = rows.div_ceil(rows.div_ceil(shares));
    if shares == 1 { added(x, 1, dtype) } else { added(&added(x, shares, DType::F32), 1, dtype) }
}
