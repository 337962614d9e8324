//! Cases of `models/`: the folder is loaded as users load it; outputs and every recorded module are compared.
//!
//! One file for each family of networks. Each has a `run` that loads the folder, builds the inputs from the case's
//! fields and hands the outputs to [`Seen`], which compares every field of the manifest that is no input.

mod autoencoders;
mod control;
mod dit;
mod flux;
mod pixart;
mod prior;
mod sd3;
mod text;
mod unet1d;
mod unet2d;
mod unet2d_conditional;
mod video;

use crate::fixture::{Array, Case};
use crate::outcome::{Outcome, Unsupported};
use burn::tensor::{DType, Device, Tensor, TensorData};
use langevin::core::Load;
use langevin::models::{ModelError, Tap, Tapped};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Who runs the cases of a class.
type Run = fn(&Case<'_>) -> Outcome;

/// The classes that load, and who runs them.
const FAMILIES: &[(&str, Run)] = &[
    ("AutoencoderKL", autoencoders::kl),
    ("AutoencoderKLTemporalDecoder", video::temporal_decoder),
    ("AutoencoderTiny", autoencoders::tiny),
    ("CLIPTextModel", text::clip_text),
    ("CLIPTextModelWithProjection", text::clip_text),
    ("CLIPVisionModel", text::clip_vision),
    ("CLIPVisionModelWithProjection", text::clip_vision),
    ("ControlNetModel", control::controlnet),
    ("DiTTransformer2DModel", dit::run),
    ("FluxTransformer2DModel", flux::run),
    ("PixArtTransformer2DModel", pixart::run),
    ("PriorTransformer", prior::run),
    ("SD3Transformer2DModel", sd3::run),
    ("T2IAdapter", control::adapter),
    ("T5EncoderModel", text::t5),
    ("UNet1DModel", unet1d::run),
    ("UNet2DConditionModel", unet2d_conditional::run),
    ("VQModel", autoencoders::vq),
    ("UNet2DModel", unet2d::run),
    ("UNet3DConditionModel", video::conditional),
    ("UNetMotionModel", video::motion),
    ("UNetSpatioTemporalConditionModel", video::spatio_temporal),
];

/// Who runs a class, if it loads.
pub fn family(class: &str) -> Option<Run> {
    FAMILIES.iter().find(|(name, _)| *name == class).map(|(_, run)| *run)
}

/// The device of the comparisons.
pub fn device() -> Device {
    Device::flex()
}

/// The model folder of a case, loaded.
pub fn load<M>(case: &Case<'_>, load: impl FnOnce(PathBuf, Load) -> Result<M, ModelError>) -> Result<M, Unsupported> {
    let folder = case.fixture.path.parent().ok_or_else(|| Unsupported("a fixture without a folder".into()))?;
    load(folder.to_owned(), Load::on(&device())).map_err(|error| Unsupported(error.to_string()))
}

/// A field as a tensor of the rank it has.
pub fn tensor<const D: usize>(case: &Case<'_>, field: &str) -> Tensor<D> {
    from_array(case.need(field))
}

/// A field as a tensor, where the case has it.
pub fn optional<const D: usize>(case: &Case<'_>, field: &str) -> Option<Tensor<D>> {
    case.tensor(field).map(from_array)
}

/// A time of any rank as `[batch]` or `[1]`.
pub fn time(case: &Case<'_>) -> Tensor<1> {
    let array = case.need("in.timestep");
    Tensor::from_data(TensorData::new(array.data.clone(), [array.data.len()]), (&device(), DType::F32))
}

fn shape<const D: usize>(array: &Array) -> [usize; D] {
    array.shape.clone().try_into().unwrap_or_else(|shape| panic!("{shape:?} is not of rank {D}"))
}

fn from_array<const D: usize>(array: &Array) -> Tensor<D> {
    Tensor::from_data(TensorData::new(array.data.clone(), shape::<D>(array)), (&device(), DType::F32))
}

/// What a network returned and showed, by the fields of a manifest.
#[derive(Default)]
pub struct Seen(BTreeMap<String, Vec<f64>>);

impl Seen {
    /// Runs a forward pass and keeps what its modules show.
    pub fn tap<R>(&mut self, forward: impl FnOnce(&mut Tap<'_>) -> R) -> R {
        let mut see = |name: &str, value: Tapped<'_>| {
            self.0.insert(format!("mid.{name}"), value.to_data().iter::<f64>().collect());
        };
        forward(&mut Tap::new(&mut see))
    }

    /// Keeps an output under a field such as `out.sample`.
    pub fn output<const D: usize>(&mut self, field: &str, value: &Tensor<D>) {
        self.values(field, value.to_data().iter::<f64>().collect());
    }

    /// Keeps numbers under a field.
    pub fn values(&mut self, field: &str, values: Vec<f64>) {
        self.0.insert(field.to_owned(), values);
    }

    /// Compares every field that is no input.
    pub fn compare(&self, case: &Case<'_>) -> Outcome {
        for field in case.fields().into_iter().filter(|field| !field.starts_with("in.")) {
            match self.0.get(&field) {
                Some(got) => case.compare(&field, None, got, &case.need(&field).data),
                None => case.fail(format!("{field} was not seen")),
            }
        }
        Ok(())
    }
}
