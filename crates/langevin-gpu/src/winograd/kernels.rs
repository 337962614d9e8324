//! The kernels: a thread has one tile of a few channels.

use burn::tensor::Shape;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::cubecl::{self, calculate_cube_count_elemwise};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

use super::Tiling;
use super::matrices::{Map, Tile};
use crate::additions::{Added, Form};
use crate::address;

/// Reads windows of an image, writes their entries.
#[cube(launch, address_type = "dynamic")]
fn take<T: Float, N: Size>(
    image: &Tensor<Vector<T, N>>,
    entries: &mut Tensor<Vector<T, N>>,
    down: usize,
    across: usize,
    above: usize,
    left: usize,
    #[comptime] map: Map,
    #[define(T)] _dtype: ElemType,
) {
    let height = image.shape(1);
    let width = image.shape(2);
    let channels = image.shape(3) / image.vector_size();
    let tiles = entries.shape(1);
    if ABSOLUTE_POS >= tiles * channels {
        terminate!();
    }
    let channel = ABSOLUTE_POS % channels;
    let tile = ABSOLUTE_POS / channels;
    let column = tile % across;
    let row = (tile / across) % down;
    let batch = tile / (across * down);

    let window = comptime!(map.window());
    let n = comptime!(map.tile().inputs());
    let step = comptime!(map.tile().outputs());
    let mut half = Array::<Vector<f32, N>>::new(comptime!(n * window));
    #[unroll]
    for j in 0..window {
        let mut pixels = Array::<Vector<f32, N>>::new(window);
        let x = column * step + j;
        #[unroll]
        for i in 0..window {
            let y = row * step + i;
            let mut pixel = Vector::<f32, N>::new(0.0f32);
            if y >= above && y < height + above && x >= left && x < width + left {
                let at = ((batch * height + y - above) * width + x - left) * channels + channel;
                pixel = Vector::cast_from(image[at]);
            }
            pixels[i] = pixel;
        }
        #[unroll]
        for k in 0..n {
            let mut sum = Vector::<f32, N>::new(0.0f32);
            #[unroll]
            for i in 0..window {
                let factor = comptime!(map.factor(k, i, 0));
                if comptime!(factor != 0.0) {
                    sum += pixels[i] * Vector::new(f32::new(factor));
                }
            }
            half[comptime!(k * window + j)] = sum;
        }
    }
    #[unroll]
    for k in 0..n {
        #[unroll]
        for l in 0..n {
            let mut sum = Vector::<f32, N>::new(0.0f32);
            #[unroll]
            for j in 0..window {
                let factor = comptime!(map.factor(l, j, 0));
                if comptime!(factor != 0.0) {
                    sum += half[comptime!(k * window + j)] * Vector::new(f32::new(factor));
                }
            }
            entries[(comptime!(k * n + l) * tiles + tile) * channels + channel] = Vector::cast_from(sum);
        }
    }
}

/// Reads the entries of tiles, writes the pixels of an image and what is added to them.
#[cube(launch, address_type = "dynamic")]
fn give<T: Float, N: Size>(
    entries: &Tensor<Vector<T, N>>,
    bias: &Tensor<Vector<T, N>>,
    added: &Tensor<Vector<T, N>>,
    image: &mut Tensor<Vector<T, N>>,
    down: usize,
    across: usize,
    above: usize,
    left: usize,
    blocks_down: usize,
    blocks_across: usize,
    #[comptime] map: Map,
    #[comptime] form: Form,
    #[define(T)] _dtype: ElemType,
) {
    let height = image.shape(1);
    let width = image.shape(2);
    let channels = image.shape(3) / image.vector_size();
    let tiles = entries.shape(1);
    if ABSOLUTE_POS >= image.shape(0) * blocks_down * blocks_across * channels {
        terminate!();
    }
    let channel = ABSOLUTE_POS % channels;
    let block = ABSOLUTE_POS / channels;
    let column = block % blocks_across;
    let row = (block / blocks_across) % blocks_down;
    let batch = block / (blocks_across * blocks_down);

    let m = comptime!(map.tile().outputs());
    let n = comptime!(map.tile().inputs());
    let neighbours = comptime!(map.neighbours());
    let mut pixels = Array::<Vector<f32, N>>::new(comptime!(m * m));
    #[unroll]
    for at in 0..comptime!(m * m) {
        pixels[at] = Vector::new(0.0f32);
    }
    #[unroll]
    for d in 0..neighbours {
        #[unroll]
        for e in 0..neighbours {
            if row >= d && row < down + d && column >= e && column < across + e {
                let tile = (batch * down + row - d) * across + column - e;
                let mut half = Array::<Vector<f32, N>>::new(comptime!(n * m));
                #[unroll]
                for k in 0..n {
                    let mut line = Array::<Vector<f32, N>>::new(n);
                    #[unroll]
                    for l in 0..n {
                        line[l] =
                            Vector::cast_from(entries[(comptime!(k * n + l) * tiles + tile) * channels + channel]);
                    }
                    #[unroll]
                    for j in 0..m {
                        let mut sum = Vector::<f32, N>::new(0.0f32);
                        #[unroll]
                        for l in 0..n {
                            let factor = comptime!(map.factor(l, j, e));
                            if comptime!(factor != 0.0) {
                                sum += line[l] * Vector::new(f32::new(factor));
                            }
                        }
                        half[comptime!(k * m + j)] = sum;
                    }
                }
                #[unroll]
                for i in 0..m {
                    #[unroll]
                    for j in 0..m {
                        let mut sum = pixels[comptime!(i * m + j)];
                        #[unroll]
                        for k in 0..n {
                            let factor = comptime!(map.factor(k, i, d));
                            if comptime!(factor != 0.0) {
                                sum += half[comptime!(k * m + j)] * Vector::new(f32::new(factor));
                            }
                        }
                        pixels[comptime!(i * m + j)] = sum;
                    }
                }
            }
        }
    }
    #[unroll]
    for i in 0..m {
        let y = row * m + i;
        #[unroll]
        for j in 0..m {
            let x = column * m + j;
            if y >= above && y < height + above && x >= left && x < width + left {
                let at = ((batch * height + y - above) * width + x - left) * channels + channel;
                let mut value = pixels[comptime!(i * m + j)];
                if comptime!(form.bias) {
                    value += Vector::cast_from(bias[channel]);
                }
                if comptime!(form.added) {
                    value += Vector::cast_from(added[at]);
                }
                if comptime!(form.shift) {
                    value += Vector::cast_from(added[batch * channels + channel]);
                }
                image[at] = Vector::cast_from(value);
            }
        }
    }
}

/// `G·g·Gᵀ` of each pair of channels.
#[cube(launch, address_type = "dynamic")]
fn weigh<T: Float>(weight: &Tensor<T>, entries: &mut Tensor<T>, #[comptime] tile: Tile, #[define(T)] _dtype: ElemType) {
    let outputs = weight.shape(0);
    let inputs = weight.shape(1);
    if ABSOLUTE_POS >= inputs * outputs {
        terminate!();
    }
    let from = ((ABSOLUTE_POS % outputs) * inputs + ABSOLUTE_POS / outputs) * 9;
    let n = comptime!(tile.inputs());
    let mut half = Array::<f32>::new(comptime!(n * 3));
    #[unroll]
    for k in 0..n {
        #[unroll]
        for b in 0..3 {
            let mut sum = 0.0f32;
            #[unroll]
            for a in 0..3 {
                let factor = comptime!(tile.kernel(k, a));
                if comptime!(factor != 0.0) {
                    sum += f32::cast_from(weight[from + comptime!(a * 3 + b)]) * f32::new(factor);
                }
            }
            half[comptime!(k * 3 + b)] = sum;
        }
    }
    #[unroll]
    for k in 0..n {
        #[unroll]
        for l in 0..n {
            let mut sum = 0.0f32;
            #[unroll]
            for b in 0..3 {
                let factor = comptime!(tile.kernel(l, b));
                if comptime!(factor != 0.0) {
                    sum += half[comptime!(k * 3 + b)] * f32::new(factor);
                }
            }
            entries[comptime!(k * n + l) * inputs * outputs + ABSOLUTE_POS] = T::cast_from(sum);
        }
    }
}

/// The adjoint.
#[cube(launch, address_type = "dynamic")]
fn unweigh<T: Float>(
    entries: &Tensor<T>,
    weight: &mut Tensor<T>,
    #[comptime] tile: Tile,
    #[define(T)] _dtype: ElemType,
) {
    let outputs = weight.shape(0);
    let inputs = weight.shape(1);
    if ABSOLUTE_POS >= inputs * outputs {
        terminate!();
    }
    let to = ((ABSOLUTE_POS % outputs) * inputs + ABSOLUTE_POS / outputs) * 9;
    let n = comptime!(tile.inputs());
    let mut half = Array::<f32>::new(comptime!(n * 3));
    #[unroll]
    for k in 0..n {
        #[unroll]
        for b in 0..3 {
            half[comptime!(k * 3 + b)] = 0.0f32;
        }
        #[unroll]
        for l in 0..n {
            let entry = f32::cast_from(entries[comptime!(k * n + l) * inputs * outputs + ABSOLUTE_POS]);
            #[unroll]
            for b in 0..3 {
                let factor = comptime!(tile.kernel(l, b));
                if comptime!(factor != 0.0) {
                    half[comptime!(k * 3 + b)] += entry * f32::new(factor);
                }
            }
        }
    }
    #[unroll]
    for a in 0..3 {
        #[unroll]
        for b in 0..3 {
            let mut sum = 0.0f32;
            #[unroll]
            for k in 0..n {
                let factor = comptime!(tile.kernel(k, a));
                if comptime!(factor != 0.0) {
                    sum += half[comptime!(k * 3 + b)] * f32::new(factor);
                }
            }
            weight[to + comptime!(a * 3 + b)] = T::cast_from(sum);
        }
    }
}

/// Channels that a thread reads at once: what fits in registers and divides the channels.
fn vector(channels: usize, map: Map) -> usize {
    let largest: usize = if map.tile().outputs() == 2 { 4 } else { 2 };
    (1..=largest).rev().find(|n| n.is_power_of_two() && channels.is_multiple_of(*n)).unwrap_or(1)
}

/// From an image `[batch, height, width, channels]` to entries `[entries, tiles, channels]`.
pub(super) fn take_entries(image: CubeTensor, tiling: Tiling, map: Map) -> CubeTensor {
    let image = into_contiguous(image);
    let [batch, _, _, channels] = image.meta.shape().dims();
    let [down, across] = tiling.tiles();
    let [above, left] = if let Map::Tiles(_) = map { tiling.padding } else { [0, 0] };
    let tiles = batch * down * across;
    let shape = Shape::new([tiling.entries(), tiles, channels]);
    let entries = empty_device_contiguous_dtype(image.client.clone(), image.device.clone(), shape, image.dtype);
    let vector = vector(channels, map);
    let threads = tiles * channels / vector;
    let cube_dim = CubeDim::new(&image.client, threads);
    let cube_count = calculate_cube_count_elemwise(&image.client, threads, cube_dim);
    let (client, dtype) = (image.client.clone(), image.dtype);
    take::launch(
        &client,
        cube_count,
        cube_dim,
        address(&[&image, &entries]),
        vector,
        image.into_tensor_arg(),
        entries.clone().into_tensor_arg(),
        down,
        across,
        above,
        left,
        map,
        burn::backend::cubecl::dtype_to_storage_type(dtype),
    );
    entries
}

/// From entries `[entries, tiles, channels]` to an image `[batch, height, width, channels]`.
pub(super) fn give_image(entries: CubeTensor, batch: usize, tiling: Tiling, map: Map, more: Added) -> CubeTensor {
    let entries = into_contiguous(entries);
    let [_, _, channels] = entries.meta.shape().dims();
    let [down, across] = tiling.tiles();
    let ([height, width], [above, left], behind) = match map {
        Map::OfTiles(_) => (tiling.input, tiling.padding, 1),
        _ => (tiling.output, [0, 0], 0),
    };
    // A window reaches into the next block.
    let [blocks_down, blocks_across] = [down + behind, across + behind];
    let shape = Shape::new([batch, height, width, channels]);
    let image = empty_device_contiguous_dtype(entries.client.clone(), entries.device.clone(), shape, entries.dtype);
    let vector = vector(channels, map);
    let threads = batch * blocks_down * blocks_across * channels / vector;
    let cube_dim = CubeDim::new(&entries.client, threads);
    let cube_count = calculate_cube_count_elemwise(&entries.client, threads, cube_dim);
    let (client, dtype) = (entries.client.clone(), entries.dtype);
    give::launch(
        &client,
        cube_count,
        cube_dim,
        address(&[&entries, &more.added, &image]),
        vector,
        entries.into_tensor_arg(),
        more.bias.into_tensor_arg(),
        more.added.into_tensor_arg(),
        image.clone().into_tensor_arg(),
        down,
        across,
        above,
        left,
        blocks_down,
        blocks_across,
        map,
        more.form,
        burn::backend::cubecl::dtype_to_storage_type(dtype),
    );
    image
}

/// From a kernel `[output, input, 3, 3]` to entries `[entries, input, output]`.
pub(super) fn weigh_kernel(weight: CubeTensor, tile: Tile) -> CubeTensor {
    let weight = into_contiguous(weight);
    let [output, input, _, _] = weight.meta.shape().dims();
    let shape = Shape::new([tile.inputs() * tile.inputs(), input, output]);
    let entries = empty_device_contiguous_dtype(weight.client.clone(), weight.device.clone(), shape, weight.dtype);
    let (client, dtype, threads) = (weight.client.clone(), weight.dtype, input * output);
    let cube_dim = CubeDim::new(&client, threads);
    weigh::launch(
        &client,
        calculate_cube_count_elemwise(&client, threads, cube_dim),
        cube_dim,
        address(&[&weight, &entries]),
        weight.into_tensor_arg(),
        entries.clone().into_tensor_arg(),
        tile,
        burn::backend::cubecl::dtype_to_storage_type(dtype),
    );
    entries
}

/// The adjoint.
pub(super) fn unweigh_kernel(entries: CubeTensor, tile: Tile) -> CubeTensor {
    let entries = into_contiguous(entries);
    let [_, input, output] = entries.meta.shape().dims();
    let shape = Shape::new([output, input, 3, 3]);
    let weight = empty_device_contiguous_dtype(entries.client.clone(), entries.device.clone(), shape, entries.dtype);
    let (client, dtype, threads) = (entries.client.clone(), entries.dtype, input * output);
    let cube_dim = CubeDim::new(&client, threads);
    unweigh::launch(
        &client,
        calculate_cube_count_elemwise(&client, threads, cube_dim),
        cube_dim,
        address(&[&entries, &weight]),
        entries.into_tensor_arg(),
        weight.clone().into_tensor_arg(),
        tile,
        burn::backend::cubecl::dtype_to_storage_type(dtype),
    );
    weight
}
