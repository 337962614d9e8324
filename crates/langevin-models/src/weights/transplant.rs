//! Moving parameters between networks that have them under the same names.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Tensor};

use super::names::{Path, parameters};
use crate::error::{Misshapen, ModelError, WeightMismatch};

/// Parameters by their names, flat, to be put into another network.
#[derive(Debug, Default)]
pub(crate) struct Transplant {
    path: Path,
    found: BTreeMap<String, (Vec<usize>, Tensor<1>)>,
}

impl Transplant {
    /// Takes the parameters of a network; later ones replace earlier ones of the same name.
    #[must_use]
    pub(crate) fn with<M: Module>(mut self, module: &M) -> Self {
        module.visit(&mut self);
        self
    }

    /// Takes one tensor.
    #[must_use]
    pub(crate) fn with_tensor<const D: usize>(mut self, name: &str, tensor: Tensor<D>) -> Self {
        let shape = tensor.dims().to_vec();
        let flat = tensor.reshape([shape.iter().product::<usize>()]);
        self.found.insert(name.to_owned(), (shape, flat));
        self
    }

    /// Puts the parameters into a network, on its device, as `dtype`.
    ///
    /// # Errors
    ///
    /// [`ModelError::Parts`] for `what` lists everything that does not fit.
    pub(crate) fn into<M: Module>(self, module: M, dtype: DType, what: &'static str) -> Result<M, ModelError> {
        let mut mismatch = WeightMismatch::default();
        let mut unused: BTreeMap<&String, &Vec<usize>> = self.found.iter().map(|(n, (shape, _))| (n, shape)).collect();
        for parameter in parameters(&module) {
            match unused.remove(&parameter.name) {
                None => mismatch.missing.push(parameter.name),
                Some(shape) if *shape != parameter.shape => mismatch.misshapen.push(Misshapen {
                    name: parameter.name,
                    stored: shape.clone(),
                    expected: parameter.shape,
                }),
                Some(_) => {}
            }
        }
        mismatch.unused = unused.into_keys().cloned().collect();
        if !mismatch.is_empty() {
            return Err(ModelError::Parts { what, mismatch });
        }
        Ok(module.map(&mut Placer { found: self.found, path: Path::default(), dtype }))
    }
}

impl ModuleVisitor for Transplant {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.path.exit(container_type);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        let shape = tensor.dims().to_vec();
        let flat = tensor.reshape([shape.iter().product::<usize>()]);
        self.found.insert(self.path.name(), (shape, flat));
    }
}

struct Placer {
    found: BTreeMap<String, (Vec<usize>, Tensor<1>)>,
    path: Path,
    dtype: DType,
}

impl ModuleMapper for Placer {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.path.exit(container_type);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some((shape, flat)) = self.found.remove(&self.path.name()) else { return param };
        let Ok(shape) = <[usize; D]>::try_from(shape) else { return param };
        let tensor = flat.detach().to_device(&param.lazy_device()).cast(self.dtype).reshape(shape);
        let id = param.id;
        param.transform_for_load(tensor, id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{Linear, LinearConfig};
    use crate::testing::{assert_close, flex, tensor, values};

    #[test]
    fn parameters_move_by_name() {
        let device = flex();
        let from = LinearConfig::new(3, 2).init(&device).unwrap();
        let bias = tensor([2], 0.4, &device);
        let moved: Linear = Transplant::default()
            .with(&from)
            .with_tensor("bias", bias.clone())
            .into(LinearConfig::new(3, 2).init(&device).unwrap(), DType::F16, "layer")
            .unwrap();
        assert_eq!(moved.weight.val().dtype(), DType::F16);
        assert_close(&moved.weight.val(), &values(&from.weight.val()), 1e-3);
        assert_close(&moved.bias.unwrap().val(), &values(&bias), 1e-3);
    }

    #[test]
    fn everything_that_does_not_fit_is_listed() {
        let device = flex();
        let from = LinearConfig::new(3, 2).bias(false).init(&device).unwrap();
        let extra = tensor([1], 0.4, &device);
        let error = Transplant::default()
            .with(&from)
            .with_tensor("extra", extra)
            .into(LinearConfig::new(2, 2).init(&device).unwrap(), DType::F32, "layer")
            .unwrap_err();
        let ModelError::Parts { what: "layer", mismatch } = error else { panic!("{error}") };
        assert_eq!((mismatch.missing, mismatch.unused), (vec!["bias".to_owned()], vec!["extra".to_owned()]));
        assert_eq!(mismatch.misshapen[0].name, "weight");
    }
}
