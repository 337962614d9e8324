//! UNets against reference outputs: every recorded tensor, sub-modules included, within the tolerance that its
//! manifest states; and properties of the same networks that need no reference.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::common::assert_names_what_is_not_finite;
use burn::tensor::{DType, Device, Tensor, TensorData};
use langevin_core::Network;
use langevin_models::unet::Classes;
use langevin_models::{Labels, Load, Tap, Tapped, UNet2d};
use safetensors::SafeTensors;
use serde_json::Value;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

/// Folders with a UNet2DModel, by their manifests.
fn cases() -> Vec<(PathBuf, Value)> {
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(fixtures().join("models")).unwrap() {
        let folder = entry.unwrap().path();
        let manifest: Value = match std::fs::read_to_string(folder.join("io.json")) {
            Ok(text) => serde_json::from_str(&text).unwrap(),
            Err(_) => continue,
        };
        if manifest["cases"][0]["class"] == "UNet2DModel" {
            cases.push((folder, manifest));
        }
    }
    cases.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(!cases.is_empty(), "no fixtures in {}", fixtures().display());
    cases
}

/// A stored tensor as f64.
fn stored(tensors: &SafeTensors<'_>, key: &str) -> (Vec<usize>, Vec<f64>) {
    let view = tensors.tensor(key).unwrap();
    let data = view.data();
    let values = match view.dtype() {
        safetensors::Dtype::F32 => {
            data.chunks(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
        }
        safetensors::Dtype::I64 => data.chunks(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64).collect(),
        other => panic!("{key} is stored as {other:?}"),
    };
    (view.shape().to_vec(), values)
}

fn values(data: &TensorData) -> Vec<f64> {
    data.iter::<f64>().collect()
}

#[test]
fn every_recorded_tensor_agrees() {
    let device = Device::flex();
    let mut compared = 0;
    for (folder, manifest) in cases() {
        let net = UNet2d::load(&folder, Load::on(&device)).unwrap();
        let bytes = std::fs::read(folder.join("io.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        for case in manifest["cases"].as_array().unwrap() {
            let fields = case["tensors"].as_object().unwrap();
            let get = |field: &str| stored(&tensors, fields[field]["key"].as_str().unwrap());
            let (shape, x) = get("in.sample");
            let x = Tensor::<1>::from_data(x.as_slice(), (&device, DType::F32));
            let x = x.reshape([shape[0], shape[1], shape[2], shape[3]]);
            let time = Tensor::<1>::from_data(get("in.timestep").1.as_slice(), (&device, DType::F32));
            let labels = match (net.config().classes, fields.contains_key("in.class_labels")) {
                (_, false) => Labels::none(shape[0]),
                (Classes::Table { .. }, true) => Labels::of(get("in.class_labels").1.iter().map(|v| *v as usize)),
                (Classes::Timestep, true) => Labels::values(get("in.class_labels").1),
                (Classes::Identity, true) => {
                    let (shape, data) = get("in.class_labels");
                    let data = Tensor::<1>::from_data(data.as_slice(), (&device, DType::F32));
                    Labels::embeddings(data.reshape([shape[0], shape[1]]))
                }
                (Classes::None, true) => panic!("class labels for a network without classes"),
            };
            let mut seen = BTreeMap::new();
            let mut see = |name: &str, value: Tapped<'_>| {
                seen.insert(format!("mid.{name}"), (value.dims(), values(&value.to_data())));
            };
            let y = net.forward_with(x, time, &labels, &mut Tap::new(&mut see)).unwrap();
            seen.insert("out.sample".into(), (y.dims().to_vec(), values(&y.to_data())));

            let tolerance = |key: &str| case["tolerance"][key].as_f64().unwrap();
            let (atol, rtol) = (tolerance("atol"), tolerance("rtol"));
            for field in fields.keys().filter(|f| !f.starts_with("in.")) {
                let label = format!("{} {field}", folder.display());
                let (shape, expected) = get(field);
                let (dims, given) = seen.get(field).unwrap_or_else(|| panic!("{label}: not seen"));
                assert_eq!(dims, &shape, "{label}");
                for (i, (g, e)) in given.iter().zip(&expected).enumerate() {
                    assert!((g - e).abs() <= atol + rtol * e.abs(), "{label} entry {i}: {g}, expected {e}");
                }
                compared += 1;
            }
        }
    }
    assert!(compared > 0);
}

/// A condition that fits the network, a function of the row only.
fn fitting(net: &UNet2d, rows: &[usize], device: &Device) -> Labels {
    match net.config().classes {
        Classes::None => Labels::none(rows.len()),
        Classes::Table { count, .. } => Labels::of(rows.iter().map(|r| (r * 2 + 1) % count)),
        Classes::Timestep => Labels::values(rows.iter().map(|r| *r as f64 * 10.0 + 1.0)),
        Classes::Identity => {
            let width = net.config().time_embedding_width();
            let data: Vec<f64> =
                rows.iter().flat_map(|r| (0..width).map(move |i| ((i * (r + 1)) as f64).sin())).collect();
            Labels::embeddings(Tensor::<1>::from_data(data.as_slice(), device).reshape([rows.len(), width]))
        }
    }
}

#[test]
fn a_saved_network_is_the_same_network() {
    let device = Device::flex();
    for (folder, _) in cases() {
        let net = UNet2d::load(&folder, Load::on(&device)).unwrap();
        let copy = tempfile::tempdir().unwrap();
        net.save(copy.path()).unwrap();
        let again = UNet2d::load(copy.path(), Load::on(&device)).unwrap();
        assert_eq!(net.config(), again.config());
        let c = net.config();
        let x = Tensor::<4>::ones([1, c.in_channels, 8, 8], &device) * 0.3;
        let labels = fitting(&net, &[1], &device);
        let time = Tensor::<1>::from_data([7.0], &device);
        let outputs = [net, again].map(|n| n.forward(x.clone(), time.clone(), &labels).unwrap().to_data());
        assert_eq!(outputs[0], outputs[1], "{}", folder.display());
    }
}

#[test]
fn a_batch_and_its_samples_alone_agree() {
    let device = Device::flex();
    for (folder, _) in cases() {
        let net = UNet2d::load(&folder, Load::on(&device)).unwrap();
        let c = net.config();
        let n = 3 * c.in_channels * 64;
        let x: Vec<f64> = (0..n).map(|i| (i as f64 * 0.77).sin()).collect();
        let x = Tensor::<1>::from_data(x.as_slice(), &device).reshape([3, c.in_channels, 8, 8]);
        let times = [3.0, 90.0, 40.0];
        let labels = |rows: &[usize]| fitting(&net, rows, &device);
        let time = Tensor::<1>::from_data(times, &device);
        let batch = net.forward(x.clone(), time, &labels(&[0, 1, 2])).unwrap();
        for (row, t) in times.iter().enumerate() {
            let time = Tensor::<1>::from_data([*t], &device);
            let alone = net.forward(x.clone().narrow(0, row, 1), time, &labels(&[row])).unwrap();
            let expected = values(&batch.clone().narrow(0, row, 1).to_data());
            for (g, e) in values(&alone.to_data()).iter().zip(&expected) {
                assert!((g - e).abs() < 1e-4 * (1.0 + e.abs()), "{}: {g} {e}", folder.display());
            }
        }
    }
}

#[test]
fn half_precision_is_close_to_single() {
    let device = Device::flex();
    for (folder, _) in cases() {
        let single = UNet2d::load(&folder, Load::on(&device)).unwrap();
        let c = single.config().clone();
        let labels = fitting(&single, &[1], &device);
        let x = Tensor::<4>::ones([1, c.in_channels, 8, 8], &device) * 0.3;
        let time = Tensor::<1>::from_data([2.0], &device);
        assert_names_what_is_not_finite(&single, x.clone(), time.clone(), &labels);
        let expected = single.forward(x.clone(), time.clone(), &labels).unwrap();
        for (dtype, bound) in [(DType::F16, 0.01), (DType::BF16, 0.06)] {
            let half = UNet2d::load(&folder, Load::on(&device).dtype(dtype)).unwrap();
            assert_eq!(half.conv_in.weight.val().dtype(), dtype);
            let given = half.forward(x.clone(), time.clone(), &labels).unwrap();
            assert_eq!(given.dtype(), DType::F32);
            let (given, expected) = (values(&given.to_data()), values(&expected.to_data()));
            let square = |v: f64| v * v;
            let error: f64 = given.iter().zip(&expected).map(|(g, e)| square(g - e)).sum();
            let size: f64 = expected.iter().map(|e| square(*e)).sum();
            let relative = (error / size).sqrt();
            assert!(relative > 0.0 && relative < bound, "{} {dtype:?}: {relative}", folder.display());
        }
    }
}

#[test]
fn gradients_agree_with_differences() {
    // In f64, along a fixed direction of the input: d/dh Σ w·net(x + h·v) by backpropagation and by differences.
    let device = Device::flex();
    let training = device.clone().autodiff();
    for (folder, _) in cases() {
        let load = |device: &Device| UNet2d::load(&folder, Load::on(device).dtype(DType::F64)).unwrap();
        let (net, trained) = (load(&device), load(&training));
        let c = net.config();
        let numbers = |n: usize, seed: f64, device: &Device| {
            let data: Vec<f64> = (0..n).map(|i| (i as f64 * seed).sin()).collect();
            Tensor::<1>::from_data(data.as_slice(), (device, DType::F64))
        };
        let input = |seed, device: &Device| numbers(c.in_channels * 64, seed, device).reshape([1, c.in_channels, 8, 8]);
        let labels = fitting(&net, &[1], &device);
        let weights = |y: &Tensor<4>, device: &Device| {
            let dims = y.dims();
            numbers(dims.iter().product(), 1.7, device).reshape(dims)
        };
        let time = |device: &Device| Tensor::<1>::from_data([2.0], (device, DType::F64));
        let value = |h: f64| {
            let x = input(0.77, &device) + input(2.3, &device) * h;
            let y = net.forward(x, time(&device), &labels).unwrap();
            let w = weights(&y, &device);
            values(&(y * w).to_data()).iter().sum::<f64>()
        };
        let h = 1e-4;
        let expected = (value(h) - value(-h)) / (2.0 * h);
        let x = input(0.77, &training).require_grad();
        let y = trained.forward(x.clone(), time(&training), &labels).unwrap();
        let w = weights(&y, &training);
        let gradient = x.grad(&(y * w).sum().backward()).unwrap();
        let given: f64 =
            values(&gradient.to_data()).iter().zip(values(&input(2.3, &device).to_data())).map(|(g, v)| g * v).sum();
        assert!(expected.abs() > 0.1, "{expected}");
        assert!((given - expected).abs() < 1e-6 * (1.0 + expected.abs()), "{}: {given} {expected}", folder.display());
    }
}
