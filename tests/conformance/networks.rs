//! Cases of `models/`: the folder is loaded as users load it; output and every recorded module are compared.

use crate::fixture::Case;
use crate::outcome::{Outcome, Unsupported};
use burn::tensor::{DType, Device, Tensor, TensorData};
use langevin::core::Load;
use langevin::models::unet::Classes;
use langevin::models::{Labels, Tap, Tapped, UNet2d};
use std::collections::BTreeMap;

pub fn run(case: &Case<'_>) -> Outcome {
    let device = Device::flex();
    let folder = case.fixture.path.parent().ok_or_else(|| Unsupported("a fixture without a folder".into()))?;
    let network = UNet2d::load(folder, Load::on(&device)).map_err(|error| Unsupported(error.to_string()))?;
    let input = case.need("in.sample");
    let shape: [usize; 4] = input.shape.clone().try_into().map_err(|_| Unsupported("not an image batch".into()))?;
    let x = Tensor::<4>::from_data(TensorData::new(input.data.clone(), shape), (&device, DType::F32));
    let time = &case.need("in.timestep").data;
    let time = Tensor::<1>::from_data(TensorData::new(time.clone(), [time.len()]), (&device, DType::F32));
    let labels = match (case.tensor("in.class_labels"), network.config().classes) {
        (None, _) => Labels::none(shape[0]),
        (Some(labels), Classes::Timestep) => Labels::values(labels.data.iter().copied()),
        (Some(labels), _) => Labels::of(labels.data.iter().map(|label| *label as usize)),
    };
    let mut seen: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut see = |name: &str, value: Tapped<'_>| {
        seen.insert(format!("mid.{name}"), value.to_data().iter::<f64>().collect());
    };
    let output = match network.forward_with(x, time, &labels, &mut Tap::new(&mut see)) {
        Ok(output) => output,
        Err(error) => {
            case.fail(error.to_string());
            return Ok(());
        }
    };
    seen.insert("out.sample".to_owned(), output.to_data().iter::<f64>().collect());
    for field in case.fields().into_iter().filter(|field| !field.starts_with("in.")) {
        match seen.get(&field) {
            Some(got) => case.compare(&field, None, got, &case.need(&field).data),
            None => case.fail(format!("{field} was not seen")),
        }
    }
    Ok(())
}
