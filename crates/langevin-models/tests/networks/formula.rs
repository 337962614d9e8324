//! Networks whose weights are a formula, compared with what the original makes of the same weights.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use langevin_models::Load;
use langevin_models::weights::{parameters, read_weights};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

/// `sin((i + 1)·12.9898·factor)`, as in `make.py`.
pub fn numbers(count: usize, factor: f64) -> Vec<f64> {
    (0..count).map(|i| ((i as f64 + 1.0) * 12.9898 * factor).sin()).collect()
}

/// The network with the weights of `make.py`.
pub fn filled<M: Module>(net: M, load: &Load) -> M {
    let mut named = parameters(&net);
    named.sort_by(|a, b| a.name.cmp(&b.name));
    let bytes: Vec<Vec<u8>> = named
        .iter()
        .enumerate()
        .map(|(k, parameter)| {
            let values = numbers(parameter.shape.iter().product(), 0.1 + k as f64 / 7.0);
            let fan_in: usize = parameter.shape[1..].iter().product();
            let start = if parameter.name.ends_with(".weight") { 1.0 } else { 0.0 };
            let value = |v: f64| if parameter.shape.len() > 1 { v / (fan_in as f64).sqrt() } else { v * 0.2 + start };
            values.into_iter().flat_map(|v| value(v).to_le_bytes()).collect()
        })
        .collect();
    let views = named.iter().zip(&bytes).map(|(parameter, bytes)| {
        (parameter.name.clone(), TensorView::new(Dtype::F64, parameter.shape.clone(), bytes).unwrap())
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    read_weights(net, path, load).unwrap()
}

/// An input of `make.py`.
pub fn input<const D: usize>(shape: [usize; D], factor: f64, device: &Device) -> Tensor<D> {
    Tensor::<1>::from_data(numbers(shape.iter().product(), factor).as_slice(), device).reshape(shape)
}

/// What `make.py` in a folder of the tests kept.
pub fn reference(folder: &str) -> BTreeMap<String, Vec<f64>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder).join("reference.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |data: &[u8]| data.chunks(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect();
    let doubles = |data: &[u8]| data.chunks(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect();
    let read = |view: &TensorView<'_>| match view.dtype() {
        Dtype::F32 => floats(view.data()),
        Dtype::F64 => doubles(view.data()),
        other => panic!("{other:?}"),
    };
    file.iter().map(|(name, view)| (name.to_owned(), read(&view))).collect()
}

#[track_caller]
pub fn assert_agrees(given: &[f64], expected: &[f64]) {
    assert_eq!(given.len(), expected.len());
    for (i, (g, e)) in given.iter().zip(expected).enumerate() {
        assert!((g - e).abs() <= 1e-5 + 1e-4 * e.abs(), "entry {i}: {g}, expected {e}");
    }
}
