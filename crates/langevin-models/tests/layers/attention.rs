//! Attention with every kind of mask.

use burn::tensor::{DType, Tensor, activation};
use langevin_models::layers::attention_with;
use proptest::prelude::*;

use crate::compare::{Layout, Results, agree, back, laid, leaf, tracked, values};
use crate::convolution::{layouts, types};

#[derive(Debug, Clone, Copy)]
enum Mask {
    None,
    /// A query sees the keys up to its own place, by minus infinity for the others.
    Causal,
    /// The same for all queries of a sample: some keys hidden by -10000.
    Keys,
    /// A number for every score.
    Full,
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn of_any_size(
        (batch, heads) in (1..4usize, 1..17usize),
        (queries, keys) in (
            prop_oneof![Just(1usize), 2..20usize, 60..70usize, 128..150usize],
            prop_oneof![Just(1usize), 2..20usize, 60..80usize, 250..270usize, Just(513usize)],
        ),
        (width, deep) in (
            prop_oneof![1..20usize, Just(40usize), Just(64usize), 100..180usize, Just(600usize)],
            prop_oneof![1..20usize, Just(40usize), Just(64usize), 100..180usize, Just(600usize)],
        ),
        (layout, dtype) in (layouts(), types()),
        mask in prop_oneof![Just(Mask::None), Just(Mask::Causal), Just(Mask::Keys), Just(Mask::Full)],
        scale in prop_oneof![3 => Just(1.0), 1 => Just(1e-3), 1 => Just(2.0)],
    ) {
        prop_assume!(batch * heads * queries * keys * (width + deep) < 40_000_000);
        check([batch, heads, queries, keys, width, deep], layout, dtype, mask, scale);
    }
}

fn bias(sizes: [usize; 6], mask: Mask) -> Option<Tensor<4>> {
    let [batch, heads, queries, keys, ..] = sizes;
    let (shape, data): ([usize; 4], Vec<f64>) = match mask {
        Mask::None => return None,
        Mask::Causal => {
            let hidden = |at: usize| if at % keys > at / keys { f64::NEG_INFINITY } else { 0.0 };
            ([1, 1, queries, keys], (0..queries * keys).map(hidden).collect())
        }
        Mask::Keys => {
            let hidden = |at: usize| if !at.is_multiple_of(keys) && at % 3 == 1 { -10_000.0 } else { 0.0 };
            ([batch, 1, 1, keys], (0..batch * keys).map(hidden).collect())
        }
        Mask::Full => ([1, heads, queries, keys], crate::compare::numbers(heads * queries * keys, 8)),
    };
    Some(Tensor::<1>::from_data(data.as_slice(), &burn::tensor::Device::flex()).reshape(shape))
}

fn check(sizes: [usize; 6], layout: Layout, dtype: DType, mask: Mask, scale: f64) {
    let [batch, heads, queries, keys, width, deep] = sizes;
    // Small gradients have few digits in 16 bits.
    let scale = if dtype == DType::F32 { scale } else { scale.max(1.0) };
    let factor = 1.0 / (width as f64).sqrt();
    let q = leaf([batch, heads, queries, width], 1, scale, dtype);
    let (k, v) = (leaf([batch, heads, keys, width], 2, scale, dtype), leaf([batch, heads, keys, deep], 3, 1.0, dtype));
    let bias = bias(sizes, mask);
    let [a, b, c] = [&q, &k, &v].map(|x| tracked(x, dtype));
    let [x, y, z] = [&a, &b, &c].map(|x| laid(x.clone(), layout));
    let given = attention_with(x, y, z, bias.clone().map(Tensor::from_inner), factor);
    let g = back(&given, dtype);
    let given: Results = vec![
        ("the result", values(&given.inner())),
        ("of the queries", values(&a.grad(&g).unwrap())),
        ("of the keys", values(&b.grad(&g).unwrap())),
        ("of the values", values(&c.grad(&g).unwrap())),
    ];
    let [a, b, c] = [&q, &k, &v].map(|x| tracked(x, DType::F64));
    let scores = a.clone().matmul(b.clone().swap_dims(2, 3)) * factor;
    let scores = match bias {
        Some(bias) => scores + Tensor::from_inner(bias.cast(DType::F64)),
        None => scores,
    };
    let expected = activation::softmax(scores, 3).matmul(c.clone());
    let g = back(&expected, DType::F64);
    let expected: Results = vec![
        ("the result", values(&expected.inner())),
        ("of the queries", values(&a.grad(&g).unwrap())),
        ("of the keys", values(&b.grad(&g).unwrap())),
        ("of the values", values(&c.grad(&g).unwrap())),
    ];
    let case = format!("{sizes:?} {layout:?} {dtype:?} {mask:?} {scale}");
    if matches!(mask, Mask::None | Mask::Full) && keys > 1 {
        return agree(&given, &expected, dtype, &case);
    }
    // A query that sees one key alone has a gradient of zero: what rounding leaves is compared with the terms that cancel.
    let terms = 3.0 * scale * ((deep * queries) as f64).sqrt();
    for ((name, given), (_, expected)) in given.iter().zip(&expected).skip(1).take(2) {
        for (g, e) in given.iter().zip(expected) {
            let tolerance = if dtype == DType::F32 { 1e-6 } else { 1e-2 };
            assert!((g - e).abs() <= tolerance * (e.abs() + terms), "{case}: {name} has {g} for {e}");
        }
    }
    agree(&[given[0].clone(), given[3].clone()], &[expected[0].clone(), expected[3].clone()], dtype, &case);
}
