//! What a comparison needs: numbers, layouts of memory, tolerances.

use burn::tensor::{DType, Device, Tensor};

/// Numbers without a pattern between -1 and 1.
pub fn numbers(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f64 / f64::from(1 << 23) - 1.0
    };
    // The first ones are alike for like seeds.
    (0..count + 8).map(|_| next()).skip(8).collect()
}

/// How an input lies in memory.
#[derive(Debug, Clone, Copy)]
pub enum Layout {
    Plain,
    /// The axes lie in the opposite order.
    Turned,
    /// A part of a larger tensor.
    Part,
}

/// The device of this library's kernels, with gradients.
pub fn device() -> Device {
    Device::flex().autodiff()
}

/// A tensor of numbers times a scale, and a leaf of the graph.
pub fn leaf<const D: usize>(shape: [usize; D], seed: u64, scale: f64, dtype: DType) -> Tensor<D> {
    shifted(shape, seed, scale, 0.0, dtype)
}

/// [`leaf`] with something added to every number.
pub fn shifted<const D: usize>(shape: [usize; D], seed: u64, scale: f64, shift: f64, dtype: DType) -> Tensor<D> {
    let data: Vec<f64> = numbers(shape.iter().product(), seed).iter().map(|x| x * scale + shift).collect();
    Tensor::<1>::from_data(data.as_slice(), (&Device::flex(), dtype)).reshape(shape)
}

/// The same numbers in `f64`, or whatever type: what rounding to the first type left of them.
pub fn tracked<const D: usize>(x: &Tensor<D>, dtype: DType) -> Tensor<D> {
    Tensor::from_inner(x.clone().cast(dtype)).require_grad()
}

/// The same tensor in another layout of memory.
pub fn laid<const D: usize>(x: Tensor<D>, layout: Layout) -> Tensor<D> {
    let opposite: [isize; D] = std::array::from_fn(|axis| (D - 1 - axis) as isize);
    match layout {
        Layout::Plain => x,
        Layout::Turned => {
            let turned = x.permute(opposite);
            let dims = turned.dims();
            let [count] = [dims.iter().product::<usize>()];
            turned.reshape([count]).reshape(dims).permute(opposite)
        }
        Layout::Part => {
            let size = x.dims()[D - 1];
            let twice = Tensor::cat(vec![x.clone(), x.clone().mul_scalar(3.0), x], D - 1);
            twice.narrow(D - 1, 2 * size, size)
        }
    }
}

/// The value of a function and its gradients with respect to what it was given.
pub type Results = Vec<Named>;

/// Numbers, and what they are.
pub type Named = (&'static str, Vec<f64>);

pub fn values<const D: usize>(x: &Tensor<D>) -> Vec<f64> {
    x.to_data_as::<f64>().as_slice::<f64>().expect("converted to f64").to_vec()
}

/// The value of an affine layer, and its gradients with respect to input, weight and bias.
pub fn affine<const Y: usize, const X: usize, const W: usize>(
    y: &Tensor<Y>,
    x: &Tensor<X>,
    weight: &Tensor<W>,
    bias: &Tensor<1>,
    dtype: DType,
) -> Results {
    let g = back(y, dtype);
    vec![
        ("y", values(&y.clone().inner())),
        ("of x", values(&x.grad(&g).unwrap())),
        ("of the weight", values(&weight.grad(&g).unwrap())),
        ("of the bias", values(&bias.grad(&g).unwrap())),
    ]
}

/// Goes back from the sum of `y` times fixed factors.
pub fn back<const D: usize>(y: &Tensor<D>, dtype: DType) -> burn::tensor::Gradients {
    // Factors that every type has, and that do not cancel.
    let factors = leaf(y.dims(), 99, 1.0, DType::BF16).cast(dtype);
    (y.clone() * Tensor::from_inner(factors)).sum().backward()
}

/// Checks each result: by the norm of all errors, and that none stands out.
#[track_caller]
pub fn agree(given: &[Named], expected: &[Named], dtype: DType, case: &str) {
    let (tolerance, most) = match dtype {
        DType::F16 => (2e-3, 1e-2),
        DType::BF16 => (1e-2, 6e-2),
        _ => (1e-5, 5e-5),
    };
    assert_eq!(given.len(), expected.len());
    for ((name, given), (_, expected)) in given.iter().zip(expected) {
        assert_eq!(given.len(), expected.len(), "{case}: {name}");
        let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
        let size = norm(&mut expected.iter().copied());
        let error = norm(&mut given.iter().zip(expected).map(|(g, e)| g - e));
        let root = size / (expected.len().max(1) as f64).sqrt();
        let worst =
            given.iter().zip(expected).map(|(g, e)| (g - e).abs() / (e.abs() + root + 1e-300)).fold(0.0, f64::max);
        if std::env::var_os("LANGEVIN_SHOW").is_some() {
            println!("{:.2e} {worst:.2e} {name} {case}", error / (size + 1e-300));
        }
        assert!(given.iter().all(|g| g.is_finite()), "{case}: {name} is not finite");
        assert!(error <= tolerance * size + 1e-30, "{case}: {name} is {error:e} of {size:e} away");
        assert!(worst <= most, "{case}: a number of {name} is {worst:e} away");
    }
}
