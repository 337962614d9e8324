use super::*;
use crate::level::{Level, Levels};
use crate::load::Load;
use crate::noise::{self, Key, NoiseSource, Seeded};
use burn::tensor::{DType, Device, TensorData};

fn load() -> Load {
    Load::on(&Device::flex()).dtype(DType::F64)
}

fn random<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<D> {
    noise::like(&Seeded::new(seed), &Tensor::zeros(shape, load().options()), 0, Key::INITIAL).unwrap()
}

fn dot<const D: usize>(a: &Tensor<D>, b: &Tensor<D>) -> f64 {
    a.clone().mul(b.clone()).sum().into_scalar::<f64>()
}

fn distance<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> f64 {
    assert_eq!(a.dims(), b.dims());
    a.sub(b).abs().max().into_scalar::<f64>()
}

fn mask<const D: usize>(shape: [usize; D], seed: u64) -> Masking<D> {
    let mut values = vec![0.0; shape.iter().product()];
    Seeded::new(seed).fill(0, Key::INITIAL, &mut values).unwrap();
    let values: Vec<f64> = values.into_iter().map(|z| f64::from(u8::from(z > 0.2))).collect();
    Masking::new(Tensor::from_data(TensorData::new(values, shape), load().options())).unwrap()
}

/// What every operator with a decomposition owes, for a batch of samples.
fn laws<const D: usize>(name: &str, operator: &dyn LinearOperator<D>, shape: [usize; D]) {
    let x = random(shape, 1);
    let y = operator.apply(x.clone()).unwrap();
    assert_eq!(y.dims()[0], shape[0], "{name}");
    assert_eq!(y.dims()[1..], operator.measured_shape(&shape[1..]).unwrap(), "{name}");
    let (w, z) = (random(y.dims(), 2), random(shape, 3));
    let adjoint = |a: f64, b: f64| (a - b).abs() < 1e-12 * (1.0 + a.abs());
    let back = operator.transpose(w.clone()).unwrap();
    assert!(adjoint(dot(&y, &w), dot(&x, &back)), "{name}: <Ax, w> = {}, <x, Aᵀw> = {}", dot(&y, &w), dot(&x, &back));
    // Linear: A(x + 2z) = Ax + 2Az.
    let both = operator.apply(x.clone().add(z.clone().mul_scalar(2.0))).unwrap();
    assert!(distance(both, y.clone().add(operator.apply(z.clone()).unwrap().mul_scalar(2.0))) < 1e-12, "{name}");

    let svd = operator.svd().expect("a decomposition");
    let values = svd.singular_values(&shape[1..]).unwrap();
    // V is orthogonal: it keeps products and is undone.
    let (vx, vz) = (svd.right(x.clone()).unwrap(), svd.right(z.clone()).unwrap());
    assert!(adjoint(dot(&vx, &vz), dot(&x, &z)), "{name}: V is not orthogonal");
    assert!(distance(svd.right_inverse(vx.clone()).unwrap(), x.clone()) < 1e-12, "{name}");
    assert!(distance(svd.right(svd.right_inverse(vx.clone()).unwrap()).unwrap(), vx.clone()) < 1e-12, "{name}");
    // A = U·S·Vᵀ, from both sides: Aᵀ·w = V·S·Uᵀ·w, and Uᵀ·A·x = S·Vᵀ·x where S is not 0.
    let of_w = values.times(svd.left(w.clone()).unwrap(), |s| s).unwrap();
    assert!(distance(svd.right_inverse(of_w).unwrap(), back) < 1e-12, "{name}: Aᵀ is not V·S·Uᵀ");
    let seen = |s: f64| f64::from(u8::from(s > 0.0));
    let left = values.times(svd.left(y.clone()).unwrap(), seen).unwrap();
    assert!(distance(left, values.times(vx, |s| s).unwrap()) < 1e-12, "{name}: Uᵀ·A is not S·Vᵀ");

    // Moore and Penrose: A·A⁺·A = A, A⁺·A·A⁺ = A⁺, and A·A⁺ and A⁺·A are symmetric.
    let pinv = |y: &Tensor<D>| operator.pseudo_inverse(y.clone()).unwrap();
    let apply = |x: &Tensor<D>| operator.apply(x.clone()).unwrap();
    let scale = values.values().iter().filter(|s| **s > 0.0).fold(1.0f64, |most, s| most.max(1.0 / s));
    assert!(distance(apply(&pinv(&y)), y.clone()) < 1e-12 * scale, "{name}: A·A⁺·A is not A");
    assert!(distance(pinv(&apply(&pinv(&w))), pinv(&w)) < 1e-12 * scale * scale, "{name}: A⁺·A·A⁺ is not A⁺");
    let other = random(w.dims(), 4);
    let symmetric = |a: f64, b: f64| (a - b).abs() < 1e-11 * scale * (1.0 + a.abs());
    assert!(symmetric(dot(&apply(&pinv(&w)), &other), dot(&w, &apply(&pinv(&other)))), "{name}: A·A⁺");
    assert!(symmetric(dot(&pinv(&apply(&x)), &z), dot(&x, &pinv(&apply(&z)))), "{name}: A⁺·A");
}

#[test]
fn operators_are_adjoint_and_their_parts_make_them() {
    laws("identity", &Identity, [3, 5]);
    laws("identity", &Identity, [2, 3, 4, 5]);
    laws("one mask", &mask([1, 7], 5), [3, 7]);
    laws("a mask each", &mask([3, 7], 6), [3, 7]);
    laws("a mask for all channels", &mask([1, 1, 4, 5], 7), [2, 3, 4, 5]);
    laws("a mask of whole rows", &mask([2, 3, 4, 1], 8), [2, 3, 4, 5]);

    let (lopsided, symmetric) = ([0.1, 0.5, -0.2, 0.9, 0.3], [0.25, 0.5, 0.25]);
    let blur = |sample: &[usize], kernels: &[(usize, &[f64])]| Separable::<4>::blur(sample, kernels, &load()).unwrap();
    laws("a lopsided blur", &blur(&[2, 6, 5], &[(1, &lopsided), (2, &symmetric)]), [2, 2, 6, 5]);
    laws("a blur along one axis", &blur(&[1, 5, 8], &[(2, &lopsided)]), [3, 1, 5, 8]);
    // [1/4, 1/2, 1/4] is blind for the highest frequency of an even number of values.
    let blind = blur(&[1, 6, 8], &[(1, &symmetric), (2, &symmetric)]);
    laws("a blind blur", &blind, [2, 1, 6, 8]);
    assert_eq!(blind.singular_values(&[1, 6, 8]).unwrap().rank(), 5 * 7);
    laws("a blur of vectors", &Separable::<2>::blur(&[9], &[(0, &lopsided)], &load()).unwrap(), [2, 9]);

    let means = |sample: &[usize], factors: &[(usize, usize)]| Separable::<4>::block_means(sample, factors, &load());
    laws("blocks", &means(&[2, 6, 8], &[(1, 3), (2, 4)]).unwrap(), [2, 2, 6, 8]);
    laws("blocks of channels", &means(&[3, 4, 4], &[(0, 3)]).unwrap(), [2, 3, 4, 4]);
    laws("blocks of one", &means(&[1, 4, 4], &[(1, 1), (2, 2)]).unwrap(), [2, 1, 4, 4]);

    let rows = |values: &[&[f64]]| values.iter().map(|row| row.to_vec()).collect::<Vec<_>>();
    let matrix = |n: usize, values: &[&[f64]]| Separable::<2>::matrices(&[n], &[(0, rows(values))], &load()).unwrap();
    laws("a wide matrix", &matrix(3, &[&[1.0, 0.5, -0.3], &[0.2, -1.0, 0.7]]), [4, 3]);
    laws("a tall matrix", &matrix(2, &[&[1.0, 0.5], &[0.2, -1.0], &[3.0, 0.1]]), [4, 2]);
    let one = matrix(3, &[&[1.0, 2.0, 3.0], &[2.0, 4.0, 6.0]]);
    laws("a matrix of rank one", &one, [4, 3]);
    assert_eq!(one.singular_values(&[3]).unwrap().rank(), 1);
    let two = Separable::<3>::matrices(&[2, 3], &[(0, rows(&[&[1.0, 2.0]])), (1, rows(&[&[0.5, 1.0, -1.0]]))], &load());
    laws("matrices along two axes", &two.unwrap(), [2, 2, 3]);
}

#[test]
fn blur_and_blocks_by_hand() {
    let x = Tensor::<2>::from_data(TensorData::from([[1.0, 2.0, 4.0, 8.0]]), load().options());
    // y_i = 1/2·x_{i+1} + 2·x_{i−1}: the first value of a kernel weighs what comes next.
    let blur = Separable::<2>::blur(&[4], &[(0, &[0.5, 0.0, 2.0])], &load()).unwrap();
    let y: Vec<f64> = blur.apply(x.clone()).unwrap().into_data().iter::<f64>().collect();
    assert_eq!(y, [1.0 + 16.0, 2.0 + 2.0, 4.0 + 4.0, 0.5 + 8.0]);
    let means = Separable::<2>::block_means(&[4], &[(0, 2)], &load()).unwrap();
    let y = means.apply(x).unwrap();
    assert_eq!(y.clone().into_data().iter::<f64>().collect::<Vec<_>>(), [1.5, 6.0]);
    let back: Vec<f64> = means.pseudo_inverse(y).unwrap().into_data().iter::<f64>().collect();
    assert!(back.iter().zip([1.5, 1.5, 6.0, 6.0]).all(|(a, b)| (a - b).abs() < 1e-14), "{back:?}");
    let kernel = gaussian_kernel(0.8, 5).unwrap();
    assert!((kernel.iter().sum::<f64>() - 1.0).abs() < 1e-15);
    assert!((kernel[3] / kernel[2] - (-0.5f64 / 0.64).exp()).abs() < 1e-15 && kernel[0] == kernel[4]);
}

#[test]
fn singular_values_below_the_tolerance_count_as_none() {
    // The highest frequency has 0.5002 − 2·0.2499, a share of 0.0004 of the lowest.
    let kernel = [0.2499, 0.5002, 0.2499];
    let blur = Separable::<2>::blur(&[8], &[(0, &kernel)], &load()).unwrap();
    let values = |blur: &Separable<2>| blur.singular_values(&[8]).unwrap();
    assert_eq!(values(&blur).rank(), 8);
    assert_eq!(values(&blur.clone().rank_tolerance(0.001).unwrap()).rank(), 7);
    for share in [-0.1, 1.0, f64::NAN] {
        let error = blur.clone().rank_tolerance(share).unwrap_err();
        assert!(matches!(error, InverseError::Setting { setting: "the rank tolerance", .. }));
    }
    // In f32 the blind frequency is not resurrected by rounding.
    let single = Separable::<2>::blur(&[8], &[(0, &[0.25, 0.5, 0.25])], &Load::on(&Device::flex())).unwrap();
    assert_eq!(values(&single).rank(), 7);
}

#[test]
fn weights_follow_rows_and_levels() {
    let spectrum = Tensor::<2>::ones([2, 3], load().options());
    let level = |sigma| Level { alpha: 1.0, sigma, time: 0.0 };
    let values = SingularValues::new(1, vec![1.0, 2.0, 0.0]).unwrap();
    let list = |x: Tensor<2>| x.into_data().iter::<f64>().collect::<Vec<_>>();
    let each = Levels::Each(vec![level(1.0), level(10.0)]);
    let product = |level: &Level, s: f64| level.sigma * s;
    assert_eq!(list(values.times_at(spectrum.clone(), &each, product).unwrap()), [1.0, 2.0, 0.0, 10.0, 20.0, 0.0]);
    let own = SingularValues::new(2, vec![1.0, 2.0, 0.0, 0.0, 3.0, 4.0]).unwrap();
    assert_eq!(list(own.times(spectrum.clone(), |s| s).unwrap()), own.values());
    assert_eq!(list(own.times_at(spectrum.clone(), &each, product).unwrap()), [1.0, 2.0, 0.0, 0.0, 30.0, 40.0]);
    let one = Levels::Each(vec![level(2.0)]);
    assert_eq!(list(own.times_at(spectrum.clone(), &one, product).unwrap()), [2.0, 4.0, 0.0, 0.0, 6.0, 8.0]);
    let three = Levels::Each(vec![level(1.0); 3]);
    let error = values.times_at(spectrum.clone(), &three, product).unwrap_err();
    assert_eq!(error, InverseError::Rows { what: "the list of levels", rows: 3, batch: 2 });
    assert!(matches!(own.times(Tensor::<2>::ones([3, 3], load().options()), |s| s), Err(InverseError::Rows { .. })));
    assert!(matches!(
        values.times(Tensor::<2>::ones([2, 4], load().options()), |s| s),
        Err(InverseError::Shape { .. })
    ));
    assert!(matches!(SingularValues::new(2, vec![1.0; 3]), Err(InverseError::Shape { .. })));
    for bad in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(SingularValues::new(1, vec![bad]), Err(InverseError::Setting { .. })));
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    for bad in [0.5, -1.0, f64::NAN, 2.0] {
        let mask = Tensor::<2>::from_data(TensorData::from([[1.0, 0.0], [bad, 1.0]]), load().options());
        let error = Masking::new(mask).unwrap_err();
        assert!(matches!(error, InverseError::Mask { index: 2, .. }), "{error}");
        assert!(error.to_string().contains("position 2, expected 1 where the sample is known"), "{error}");
    }
    let known = mask([2, 3, 4, 4], 1);
    assert!(matches!(known.apply(random([2, 3, 4, 5], 0)), Err(InverseError::Shape { .. })));
    assert!(matches!(known.apply(random([3, 3, 4, 4], 0)), Err(InverseError::Rows { rows: 2, batch: 3, .. })));
    assert!(matches!(known.measured_shape(&[3, 4]), Err(InverseError::Shape { .. })));
    assert!(matches!(known.svd().unwrap().left(random([2, 1, 4, 4], 0)), Err(InverseError::Shape { .. })));

    let blur = |kernels: &[(usize, &[f64])]| Separable::<4>::blur(&[1, 6, 6], kernels, &load()).unwrap_err();
    for (kernel, word) in [
        (vec![0.5, 0.5], "odd"),
        (vec![], "odd"),
        (vec![0.1; 7], "cut the kernel"),
        (vec![0.1, f64::NAN, 0.1], "finite"),
        (vec![0.0; 3], "all of them are 0"),
    ] {
        let error = blur(&[(1, &kernel)]);
        assert!(matches!(error, InverseError::Kernel { axis: 1, .. }) && error.to_string().contains(word), "{error}");
    }
    let one: &[f64] = &[1.0];
    assert!(blur(&[(3, one)]).to_string().contains("axis 3 of a sample of shape [1, 6, 6] is not there"));
    assert!(blur(&[(1, one), (1, one)]).to_string().contains("is named twice"));
    assert!(matches!(Separable::<3>::blur(&[1, 6, 6], &[], &load()), Err(InverseError::Shape { .. })));
    assert!(matches!(Separable::<2>::blur(&[0], &[], &load()), Err(InverseError::Shape { .. })));

    let means = |factor| Separable::<4>::block_means(&[1, 6, 6], &[(2, factor)], &load()).map(|_| ());
    for factor in [0, 4, 5, 12] {
        assert_eq!(means(factor), Err(InverseError::Factor { axis: 2, size: 6, factor }));
    }
    assert!(means(4).unwrap_err().to_string().contains("6 values, which blocks of 4 do not divide"));

    let matrix = |rows: Vec<Vec<f64>>| Separable::<2>::matrices(&[2], &[(0, rows)], &load()).unwrap_err();
    assert!(matrix(vec![]).to_string().contains("no rows"));
    assert!(matrix(vec![vec![1.0, 2.0], vec![1.0]]).to_string().contains("1 values in row 1, the axis has 2"));
    assert!(matrix(vec![vec![1.0, f64::INFINITY]]).to_string().contains("not finite"));

    let means = Separable::<4>::block_means(&[1, 6, 6], &[(1, 2), (2, 3)], &load()).unwrap();
    assert!(matches!(means.apply(random([1, 1, 6, 5], 0)), Err(InverseError::Shape { what: "the sample", .. })));
    assert!(matches!(
        means.transpose(random([1, 1, 6, 6], 0)),
        Err(InverseError::Shape { what: "the measurement", .. })
    ));
    assert!(matches!(means.svd().unwrap().left(random([1, 1, 6, 6], 0)), Err(InverseError::Shape { .. })));
    assert!(matches!(means.measured_shape(&[1, 6, 5]), Err(InverseError::Shape { .. })));
    for std in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(gaussian_kernel(std, 3), Err(InverseError::Setting { .. })));
    }
    assert!(matches!(gaussian_kernel(1.0, 4), Err(InverseError::Setting { .. })));
}

/// An operator that only knows its transpose has no pseudo-inverse.
#[test]
fn without_a_decomposition_there_is_no_inverse() {
    struct Doubling;
    impl LinearOperator<2> for Doubling {
        fn measured_shape(&self, sample: &[usize]) -> Result<Vec<usize>, InverseError> {
            Ok(sample.to_vec())
        }
        fn apply(&self, x: Tensor<2>) -> Result<Tensor<2>, InverseError> {
            Ok(x.mul_scalar(2.0))
        }
        fn transpose(&self, y: Tensor<2>) -> Result<Tensor<2>, InverseError> {
            Ok(y.mul_scalar(2.0))
        }
    }
    let boxed: Box<dyn LinearOperator<2>> = Box::new(Doubling);
    let error = boxed.pseudo_inverse(random([1, 2], 0)).unwrap_err();
    assert_eq!(error, InverseError::NoSvd { method: "the pseudo-inverse" });
    assert!(error.to_string().contains("DPS"), "{error}");
}
