//! The number of threads changes no bit.

use langevin_kernels::{
    activation::Activation, attention, attention::Answered, convolution, linear, normalization::GroupSizes,
    rows::RowSizes, sums,
};

fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Runs in pools of one, two, three and seven threads.
fn same(compute: impl Fn() -> Vec<Vec<f32>> + Sync) {
    let bits = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let results = pool.install(&compute);
        results.into_iter().flatten().map(f32::to_bits).collect::<Vec<_>>()
    };
    let one = bits(1);
    assert!(!one.is_empty());
    for threads in [2, 3, 7] {
        assert!(bits(threads) == one, "{threads} threads");
    }
}

#[test]
fn convolutions_have_the_same_bits() {
    // By tiles, by patches, by patches with a stride, by many tables of them, and by pixels of few images and of many.
    for (batch, channels, kernel, stride, side) in [
        (3, 96, 3, 1, 17),
        (3, 20, 3, 1, 17),
        (3, 20, 3, 2, 17),
        (2, 30, 5, 1, 40),
        (2, 40, 1, 1, 17),
        (20, 40, 1, 1, 17),
    ] {
        let sizes = convolution::ConvolutionSizes {
            batch,
            input: channels,
            output: channels + 1,
            image: [18, side],
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [kernel / 2; 2],
        };
        let [rows, columns] = sizes.result();
        let x = numbers(batch * channels * 18 * side, 1);
        let weight = numbers((channels + 1) * channels * kernel * kernel, 2);
        let g = numbers(batch * (channels + 1) * rows * columns, 3);
        same(|| {
            let (mut y, mut of_x, mut of_w) = (g.clone(), x.clone(), weight.clone());
            sizes.forward(&x, &weight, None, &mut y);
            sizes.input_gradient(&g, &weight, &mut of_x);
            sizes.weight_gradient(&x, &g, &mut of_w);
            vec![y, of_x, of_w]
        });
    }
}

#[test]
fn affine_maps_have_the_same_bits() {
    for (rows, input, output) in [(300, 130, 70), (2, 512, 1000), (1000, 700, 3)] {
        let sizes = linear::LinearSizes { rows, input, output };
        let (x, weight, g) = (numbers(rows * input, 1), numbers(output * input, 2), numbers(rows * output, 3));
        same(|| {
            let (mut y, mut of_x, mut of_w) = (g.clone(), x.clone(), weight.clone());
            sizes.forward(&x, &weight, Some(&numbers(output, 4)), &mut y);
            sizes.input_gradient(&g, &weight, &mut of_x);
            sizes.weight_gradient(&x, &g, &mut of_w);
            vec![y, of_x, of_w]
        });
    }
}

#[test]
fn attention_has_the_same_bits() {
    // Two heads of two samples, and one head whose gradient is split by queries and by keys.
    for (batch, heads, queries, keys) in [(2, 2, 150, 600), (1, 1, 700, 1100)] {
        let sizes = attention::AttentionSizes { batch, heads, queries, keys, width: 24, value_width: 24, scale: 0.2 };
        let (q, k) = (numbers(batch * heads * queries * 24, 1), numbers(batch * heads * keys * 24, 2));
        same(|| {
            let mut out = q.clone();
            let sums = sizes.forward(&q, &k, &k, None, &mut out);
            let (mut of_q, mut of_k, mut of_v) = (q.clone(), k.clone(), k.clone());
            let answered = Answered { out: &out, sums: &sums, gradient: &q };
            sizes.gradient([&q, &k, &k], None, answered, [&mut of_q, &mut of_k, &mut of_v]);
            vec![out, sums, of_q, of_k, of_v]
        });
    }
}

#[test]
fn normalization_activations_and_sums_have_the_same_bits() {
    let groups = GroupSizes { batch: 3, channels: 8, pixels: 5000, groups: 4, epsilon: 1e-5, silu: true };
    let (x, weight, g) = (numbers(3 * 8 * 5000, 1), numbers(8, 2), numbers(3 * 8 * 5000, 3));
    same(|| {
        let mut y = x.clone();
        let moments = groups.forward(&x, &weight, &weight, &mut y);
        let mut of_x = g.clone();
        let [of_weight, of_bias] = groups.gradient(&x, &weight, &weight, &moments, &mut of_x);
        let mut sum = x.clone();
        sums::weighted(&[(0.3, &x), (-1.2, &g)], &mut sum);
        Activation::Gelu.apply(&mut sum);
        let rows = RowSizes { rows: 3000, width: 40, centered: true, epsilon: 1e-5 };
        let (mut row, mut of_row) = (x.clone(), g.clone());
        let moments = rows.forward(&x, Some(&x[..40]), None, &mut row);
        let [of_scale, of_shift] = rows.gradient(&x, Some(&x[..40]), &moments, &mut of_row);
        let sums = [sums::of_channels(&x, 8, 5000), sums::of_columns(&x, 40)].concat();
        vec![y, of_x, of_weight, of_bias, sum, row, of_row, of_scale, of_shift, sums]
    });
}
