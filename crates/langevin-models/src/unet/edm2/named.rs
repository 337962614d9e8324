//! A list of modules with names of their own.

use burn::module::{Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor};
use burn::tensor::Device;

/// A list of modules whose parameters are named by a name of each module, not by its position: published names of this
/// network contain resolutions, such as `enc.64x64_block0`.
#[derive(Debug, Clone)]
pub struct Named<T> {
    entries: Vec<(String, T)>,
}

impl<T> Named<T> {
    /// A list of modules and their names, which must differ.
    pub(super) fn new(entries: Vec<(String, T)>) -> Self {
        Self { entries }
    }

    /// Names and modules, in the order in which they run.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.entries.iter().map(|(name, module)| (name.as_str(), module))
    }

    /// The same to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut T)> {
        self.entries.iter_mut().map(|(name, module)| (name.as_str(), module))
    }

    /// The list with every module changed.
    pub(super) fn each(self, mut change: impl FnMut(T) -> T) -> Self {
        Self { entries: self.entries.into_iter().map(|(name, module)| (name, change(module))).collect() }
    }
}

impl<T: Module> Module for Named<T> {
    fn collect_devices(&self, devices: Devices) -> Devices {
        self.entries.iter().fold(devices, |devices, (_, module)| module.collect_devices(devices))
    }

    fn fork(self, device: &Device) -> Self {
        self.each(|module| module.fork(device))
    }

    fn to_device(self, device: &Device) -> Self {
        self.each(|module| module.to_device(device))
    }

    fn train(self) -> Self {
        self.each(Module::train)
    }

    fn valid(&self) -> Self {
        Self { entries: self.entries.iter().map(|(name, module)| (name.clone(), module.valid())).collect() }
    }

    fn materialize(self) -> Self {
        self.each(Module::materialize)
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        for (name, module) in &self.entries {
            visitor.enter_module(name, "Named");
            module.visit(visitor);
            visitor.exit_module(name, "Named");
        }
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        let entries = self.entries.into_iter().map(|(name, module)| {
            mapper.enter_module(&name, "Named");
            let module = module.map(mapper);
            mapper.exit_module(&name, "Named");
            (name, module)
        });
        Self { entries: entries.collect() }
    }
}

impl<T: ModuleDisplay> ModuleDisplayDefault for Named<T> {
    fn content(&self, content: Content) -> Option<Content> {
        let content = self.entries.iter().fold(content, |content, (name, module)| content.add(name, module));
        content.set_top_level_type("Named").optional()
    }
}

impl<T: ModuleDisplay> ModuleDisplay for Named<T> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{Linear, LinearConfig};
    use crate::testing::{flex, values};
    use crate::weights::{parameters, read_weights, write_weights};
    use langevin_core::Load;

    fn list() -> Named<Linear> {
        let linear = || LinearConfig::new(2, 3).init(&flex()).unwrap();
        Named::new(vec![("4x4_a".into(), linear()), ("2x2_b".into(), linear())])
    }

    #[test]
    fn parameters_carry_the_names() {
        let names: Vec<_> = parameters(&list()).into_iter().map(|p| p.name).collect();
        assert_eq!(names, ["4x4_a.weight", "4x4_a.bias", "2x2_b.weight", "2x2_b.bias"]);
        assert_eq!(Module::num_params(&list()), 18);
        assert!(format!("{:?}", list()).contains("4x4_a"));
    }

    #[test]
    fn files_and_copies_keep_every_value() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let one = list();
        write_weights(&one, &path).unwrap();
        let other = read_weights(list(), &path, &Load::on(&flex())).unwrap();
        for ((_, a), (_, b)) in one.iter().zip(other.valid().to_device(&flex()).iter()) {
            assert_eq!(values(&a.weight.val()), values(&b.weight.val()));
        }
        let trained = list().fork(&flex().autodiff()).train().materialize();
        assert!(trained.iter().all(|(_, layer)| layer.weight.val().is_require_grad()));
        assert_eq!(trained.devices().len(), 1);
    }
}
