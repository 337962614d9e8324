//! The names of parameters.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

/// The path of fields during a traversal, as a published name.
#[derive(Debug, Default)]
pub(super) struct Path {
    segments: Vec<String>,
}

impl Path {
    pub(super) fn enter(&mut self, name: &str, container: &str) {
        if !is_transparent(container) {
            // A field cannot have the name of a keyword: `self_` is published as `self`.
            self.segments.push(name.trim_end_matches('_').to_owned());
        }
    }

    pub(super) fn exit(&mut self, container: &str) {
        if !is_transparent(container) {
            self.segments.pop();
        }
    }

    pub(super) fn name(&self) -> String {
        self.segments.join(".")
    }
}

/// Variants of enums are not part of published names.
fn is_transparent(container: &str) -> bool {
    container.starts_with("Enum:")
}

/// Name and shape of a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Published name.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
}

/// The parameters of a network in the order of its fields. No parameter is initialized by asking.
///
/// # Example
///
/// ```
/// use langevin_models::layers::LinearConfig;
/// use langevin_models::weights::parameters;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let layer = LinearConfig::new(3, 5).init(&device)?;
/// let names: Vec<_> = parameters(&layer).into_iter().map(|p| p.name).collect();
/// assert_eq!(names, ["weight", "bias"]);
/// # Ok(()) }
/// ```
pub fn parameters<M: Module>(module: &M) -> Vec<Parameter> {
    let mut collector = Collector::default();
    module.visit(&mut collector);
    collector.parameters
}

#[derive(Default)]
struct Collector {
    path: Path,
    parameters: Vec<Parameter>,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.path.exit(container_type);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.parameters.push(Parameter { name: self.path.name(), shape: param.lazy_shape().to_vec() });
    }
}

/// Whether a stored tensor is of no use any more: the caption that stood for none in training PixArt-α, which its
/// sampler encodes anew.
pub(super) fn is_leftover(stored: &str) -> bool {
    stored == "caption_projection.y_embedding"
}

/// The name that published files use today for a name of older files: the projections of attention were once
/// called `query`, `key`, `value` and `proj_attn`.
pub(super) fn current_name(stored: &str) -> String {
    let mut segments: Vec<&str> = stored.split('.').collect();
    let n = segments.len();
    if n >= 3 && segments.contains(&"attentions") {
        match segments[n - 2] {
            "query" => segments[n - 2] = "to_q",
            "key" => segments[n - 2] = "to_k",
            "value" => segments[n - 2] = "to_v",
            "proj_attn" => {
                segments[n - 2] = "to_out";
                segments.insert(n - 1, "0");
            }
            _ => {}
        }
    }
    segments.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{Linear, LinearConfig};
    use crate::testing::flex;

    #[derive(Module, Debug)]
    enum Choice {
        Plain(Linear),
    }

    #[derive(Module, Debug)]
    struct Block {
        choice: Choice,
        list: Vec<Linear>,
        maybe: Option<Linear>,
    }

    #[test]
    fn lists_have_indices_and_enums_no_name() {
        let linear = || LinearConfig::new(2, 3).init(&flex()).unwrap();
        let block = Block { choice: Choice::Plain(linear()), list: vec![linear()], maybe: Some(linear()) };
        let names: Vec<_> = parameters(&block).into_iter().map(|p| p.name).collect();
        assert_eq!(
            names,
            ["choice.weight", "choice.bias", "list.0.weight", "list.0.bias", "maybe.weight", "maybe.bias"]
        );
        assert_eq!(parameters(&block)[0].shape, [3, 2]);
        assert!(!block.list[0].weight.is_initialized());
    }

    #[test]
    fn old_attention_names_are_known() {
        for (old, new) in [
            ("mid_block.attentions.0.query.weight", "mid_block.attentions.0.to_q.weight"),
            ("mid_block.attentions.0.proj_attn.bias", "mid_block.attentions.0.to_out.0.bias"),
            ("a.attentions.1.key.bias", "a.attentions.1.to_k.bias"),
            ("a.attentions.1.value.bias", "a.attentions.1.to_v.bias"),
            ("a.attentions.1.group_norm.bias", "a.attentions.1.group_norm.bias"),
            ("query.weight", "query.weight"),
        ] {
            assert_eq!(current_name(old), new);
        }
    }
}
