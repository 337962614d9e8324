//! What a Vulkan driver with `VK_NV_cooperative_matrix2` makes of products, convolutions and attention in `f16` whose matrices
//! belong to a whole workgroup: time, rate, and the largest error against the same on the host, for each size of tile.
//!
//! `cargo run --release -p langevin -p langevin-gpu --features langevin/vulkan,langevin-gpu/vulkan --example workgroup_matrices`
//!
//! An argument picks what to run: `product`, `convolution` or `attention`.

#![allow(missing_docs, clippy::print_stdout, reason = "a program for the terminal")]

mod kernels;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use burn_cubecl::cubecl;
use cubecl::client::Client;
use cubecl::prelude::*;
use cubecl::server::Handle;
use half::f16;
use kernels::{Tile, attention, convolution, product};

/// Numbers in [-1, 1).
fn numbers(count: usize, seed: u32) -> Vec<f16> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f16::from_f32((state >> 9) as f32 / 4_194_304.0 - 1.0)
    };
    (0..count).map(|_| next()).collect()
}

/// A slice on the device and on the host.
struct Both {
    host: Vec<f16>,
    device: Handle,
}

impl Both {
    fn new(client: &Client, host: Vec<f16>) -> Self {
        let bytes: Vec<u8> = host.iter().flat_map(|x| x.to_le_bytes()).collect();
        Self { device: client.create_from_slice(&bytes), host }
    }

    fn arg(&self) -> BufferArg {
        arg(&self.device, self.host.len())
    }

    fn at(&self, index: usize) -> f32 {
        self.host[index].to_f32()
    }
}

fn arg(handle: &Handle, count: usize) -> BufferArg {
    // SAFETY: the handle has been made with this many values.
    #[allow(unsafe_code, reason = "a buffer is its handle and its length")]
    unsafe {
        BufferArg::from_raw_parts(handle.clone(), count)
    }
}

fn wait(client: &Client) {
    cubecl::future::block_on(client.sync()).expect("the device");
}

/// Runs a kernel, prints how fast it is and the error of `expected`, which names results by index. A driver that refuses a tile
/// must not end the others.
fn measure(name: &str, operations: f64, run: impl Fn(), client: &Client, read: impl FnOnce() -> f32) {
    let timed = catch_unwind(AssertUnwindSafe(|| {
        run();
        wait(client);
        let rounds = (0..5).map(|_| {
            let start = Instant::now();
            (0..20).for_each(|_| run());
            wait(client);
            start.elapsed().as_secs_f64() / 20.0
        });
        let least = rounds.fold(f64::MAX, f64::min);
        (least, read())
    }));
    match timed {
        Ok((seconds, error)) => {
            println!(
                "{name:<72} {:8.3} ms {:6.0} Tflop/s, error {error:.1e}",
                seconds * 1e3,
                operations / seconds / 1e12
            );
        }
        Err(_) => println!("{name:<72} refused"),
    }
}

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| chosen.is_empty() || chosen.iter().any(|chosen| chosen == name);
    let device = cubecl::wgpu::WgpuDevice::default();
    cubecl::wgpu::init_setup::<cubecl::wgpu::Vulkan>(&device, Default::default());
    let client = <cubecl::wgpu::WgpuRuntime as cubecl::__private::Runtime>::client(&device);
    let matmul = &client.features().matmul;
    println!("matrices of a plane: {:?}", matmul.cmma);
    println!("matrices of a workgroup: {:#?}", matmul.cube_mma);
    let hardware = &client.properties().hardware;
    println!(
        "tensor addressing: {}; bytes of shared memory: {}, of which the driver keeps {}",
        matmul.cmma_tensor_addressing, hardware.max_shared_memory_size, hardware.cube_mma_reserved_shared_memory
    );
    if matmul.cube_mma.is_empty() || !matmul.cmma_tensor_addressing {
        println!("this driver has no VK_NV_cooperative_matrix2");
        return;
    }
    if has("product") {
        products(&client);
    }
    if has("convolution") {
        convolutions(&client);
    }
    if has("attention") {
        attentions(&client);
    }
}

fn halves(client: &Client, handle: &Handle) -> Vec<f32> {
    let bytes = client.read_one(handle.clone()).expect("a result");
    bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
}

fn products(client: &Client) {
    let n = 4096;
    let (a, b) = (Both::new(client, numbers(n * n, 1)), Both::new(client, numbers(n * n, 2)));
    for (threads, (down, across, depth)) in [
        (128, (128, 128, 32)),
        (128, (128, 128, 64)),
        (256, (128, 128, 64)),
        (256, (256, 128, 32)),
        (256, (256, 128, 64)),
        (256, (128, 256, 64)),
        (256, (256, 256, 32)),
        (128, (64, 64, 64)),
        (128, (128, 64, 64)),
    ] {
        let y = client.empty(n * n * 2);
        let run = || {
            let cubes = CubeCount::Static((n / across) as u32, (n / down) as u32, 1);
            let (size, n32) = ((down, across, depth), n as u32);
            let out = arg(&y, n * n);
            product::launch(client, cubes, CubeDim::new_1d(threads), a.arg(), b.arg(), out, n32, n32, n32, size);
        };
        let error = || {
            let y = halves(client, &y);
            let of = |at: usize| (0..n).map(|k| a.at(at / n * n + k) * b.at(k * n + at % n)).sum::<f32>();
            [0, 12_345, 5_000_001, n * n - 1].iter().map(|&at| (of(at) - y[at]).abs()).fold(0.0, f32::max)
        };
        let name = format!("product {n}, {threads} threads, {down} x {across} x {depth}");
        measure(&name, 2.0 * (n as f64).powi(3), run, client, error);
    }
}

fn convolutions(client: &Client) {
    for (batch, input, side, output) in
        [(64, 256, 16, 256), (8, 320, 64, 320), (64, 128, 32, 128), (2, 640, 32, 640), (2, 1280, 16, 1280)]
    {
        let x = Both::new(client, numbers(batch * side * side * input, 3));
        let weight = Both::new(client, numbers(9 * input * output, 4));
        let total = batch * side * side * output;
        for (threads, pixels, channels, depth) in [
            (256, 128usize, 128, 32),
            (256, 128, 128, 64),
            (128, 128, 128, 32),
            (128, 128, 64, 64),
            (256, 128, 256, 32),
            (256, 256, 128, 32),
            (128, 64, 64, 64),
            (128, 64, 128, 64),
        ] {
            let columns = pixels.min(side);
            let rows = (pixels / columns).min(side);
            let tile = Tile { images: pixels / columns / rows, rows, columns, channels, depth };
            let y = client.empty(total * 2);
            let run = || {
                let tiles = batch.div_ceil(tile.images) * side.div_ceil(rows) * side.div_ceil(columns);
                let cubes = CubeCount::Static(output.div_ceil(channels) as u32, tiles as u32, 1);
                let [b, s, i, o] = [batch, side, input, output].map(|n| n as u32);
                let out = arg(&y, total);
                convolution::launch(
                    client,
                    cubes,
                    CubeDim::new_1d(threads),
                    x.arg(),
                    weight.arg(),
                    out,
                    b,
                    s,
                    i,
                    o,
                    tile,
                );
            };
            let of = |at: usize| {
                let (o, column, row, image) =
                    (at % output, at / output % side, at / output / side % side, at / output / side / side);
                let mut sum = 0.0;
                for tap in 0..9 {
                    let (row, column) = (row + tap / 3, column + tap % 3);
                    if row == 0 || column == 0 || row > side || column > side {
                        continue;
                    }
                    let pixel = ((image * side + row - 1) * side + column - 1) * input;
                    sum += (0..input).map(|c| x.at(pixel + c) * weight.at((tap * input + c) * output + o)).sum::<f32>();
                }
                sum
            };
            let error = || {
                let y = halves(client, &y);
                [0, 12_345, total / 2 + 77, total - 1].iter().map(|&at| (of(at) - y[at]).abs()).fold(0.0, f32::max)
            };
            let name =
                format!("convolution [{batch}, {input}, {side}, {side}] to {output}, {threads} threads, {tile:?}");
            measure(&name, 2.0 * (total * input * 9) as f64, run, client, error);
        }
    }
}

fn attentions(client: &Client) {
    let (heads, tokens) = (64, 4096);
    for width in [48, 80] {
        let count = heads * tokens * width;
        // Scores near zero: their exponentials stay in range.
        let small = numbers(count, 5).into_iter().map(|x| f16::from_f32(x.to_f32() * 0.3)).collect();
        let [q, k, v] = [small, numbers(count, 6), numbers(count, 7)].map(|host| Both::new(client, host));
        for (threads, (queries, keys)) in [
            (128, (64, 32)),
            (128, (64, 64)),
            (128, (128, 64)),
            (256, (128, 64)),
            (256, (128, 128)),
            (128, (64, 128)),
            (256, (256, 64)),
        ] {
            let y = client.empty(count * 4);
            let run = || {
                let cubes = CubeCount::Static((tokens / queries) as u32, heads as u32, 1);
                let (q, k, v, out, size) = (q.arg(), k.arg(), v.arg(), arg(&y, count), (queries, keys));
                let dim = CubeDim::new_1d(threads);
                attention::launch(client, cubes, dim, q, k, v, out, tokens as u32, heads as u32, width, size);
            };
            let of = |at: usize| {
                let (column, query, head) = (at % width, at / width % tokens, at / width / tokens);
                let row = |token: usize| (head * tokens + token) * width;
                let score = |key: usize| (0..width).map(|c| q.at(row(query) + c) * k.at(row(key) + c)).sum::<f32>();
                (0..tokens).map(|key| score(key).exp() * v.at(row(key) + column)).sum::<f32>()
            };
            let error = || {
                let bytes = client.read_one(y.clone()).expect("a result");
                let y: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
                let relative = |at: usize| (of(at) - y[at]).abs() / of(at).abs().max(1.0);
                [0, 1_234_567, count - 1].into_iter().map(relative).fold(0.0, f32::max)
            };
            let name = format!("attention [{heads}, {tokens}, {width}], {threads} threads, {queries} x {keys}");
            measure(&name, 4.0 * (heads * tokens * tokens * width) as f64, run, client, error);
        }
    }
}
