//! The modules of a network and how many parameters each has.

use std::fmt;

use burn::module::Module;

use super::names::parameters;

/// A module of a network: its name, the number of its parameters, and the modules in it.
///
/// # Example
///
/// ```
/// use langevin_models::UNet2dConfig;
/// use langevin_models::weights::ModuleTree;
///
/// # fn main() -> Result<(), langevin_models::ModelError> {
/// # let device = burn::tensor::Device::flex();
/// let net = UNet2dConfig::images(1, 8).channels(&[8, 16]).init(&device)?;
/// let tree = ModuleTree::of("UNet2d", &net);
/// let down = tree.parts.iter().find(|part| part.name == "down_blocks").expect("a UNet has blocks");
/// assert!(down.count < tree.count);
/// println!("{}", tree.to_depth(2));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleTree {
    /// Name of the field, or the place in a list.
    pub name: String,
    /// Parameters in it, all numbers counted.
    pub count: u64,
    /// Shape, if it is a parameter itself.
    pub shape: Option<Vec<usize>>,
    /// What is in it, in the order of the fields.
    pub parts: Vec<ModuleTree>,
}

impl ModuleTree {
    /// The modules of a network, under a name for the whole. No parameter is initialized by asking.
    pub fn of<M: Module>(name: impl Into<String>, module: &M) -> Self {
        let mut root = Self::empty(name);
        for parameter in parameters(module) {
            let count: u64 = parameter.shape.iter().map(|side| *side as u64).product();
            root.count += count;
            let mut at = &mut root;
            for segment in parameter.name.split('.') {
                // Fields follow each other, so the last part is the one that grows.
                if at.parts.last().is_none_or(|part| part.name != segment) {
                    at.parts.push(Self::empty(segment));
                }
                let last = at.parts.len() - 1;
                at = &mut at.parts[last];
                at.count += count;
            }
            at.shape = Some(parameter.shape);
        }
        root
    }

    fn empty(name: impl Into<String>) -> Self {
        Self { name: name.into(), count: 0, shape: None, parts: Vec::new() }
    }

    /// Shows the tree with so many levels below its root.
    #[must_use]
    pub fn to_depth(&self, depth: usize) -> impl fmt::Display {
        Shown { tree: self, depth }
    }
}

/// All levels.
impl fmt::Display for ModuleTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_depth(usize::MAX).fmt(f)
    }
}

struct Shown<'a> {
    tree: &'a ModuleTree,
    depth: usize,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", line(self.tree, ""))?;
        below(f, self.tree, "", self.depth)
    }
}

fn below(f: &mut fmt::Formatter<'_>, tree: &ModuleTree, indent: &str, depth: usize) -> fmt::Result {
    if depth == 0 {
        return Ok(());
    }
    for (i, part) in tree.parts.iter().enumerate() {
        let last = i + 1 == tree.parts.len();
        let (branch, more) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        write!(f, "\n{}", line(part, &format!("{indent}{branch}")))?;
        below(f, part, &format!("{indent}{more}"), depth - 1)?;
    }
    Ok(())
}

/// Name, number of parameters in a column of its own, shape.
fn line(tree: &ModuleTree, indent: &str) -> String {
    let name = format!("{indent}{}", tree.name);
    let shape = tree.shape.as_ref().map(|shape| format!("  {shape:?}")).unwrap_or_default();
    format!("{name:<44} {:>15}{shape}", grouped(tree.count))
}

/// A number with its digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let first = (digits.len() + 2) % 3 + 1;
    let (head, rest) = digits.split_at(first.min(digits.len()));
    let groups = rest.as_bytes().chunks(3).map(|group| String::from_utf8_lossy(group).into_owned());
    std::iter::once(head.to_owned()).chain(groups).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{Linear, LinearConfig};
    use crate::testing::flex;

    #[derive(Module, Debug)]
    struct Block {
        list: Vec<Linear>,
        out: Linear,
    }

    fn block() -> Block {
        let linear = |input, output| LinearConfig::new(input, output).init(&flex()).unwrap();
        Block { list: vec![linear(100, 20), linear(20, 3)], out: linear(1000, 1000) }
    }

    #[test]
    fn parameters_are_counted_in_every_module() {
        let tree = ModuleTree::of("Block", &block());
        let names: Vec<_> = tree.parts.iter().map(|part| (part.name.as_str(), part.count)).collect();
        assert_eq!(names, [("list", 2083), ("out", 1_001_000)]);
        assert_eq!(tree.count, 1_003_083);
        let first = &tree.parts[0].parts[0];
        assert_eq!((first.name.as_str(), first.count), ("0", 2020));
        assert_eq!(first.parts[0].shape.as_deref(), Some(&[20, 100][..]));
    }

    #[test]
    fn the_tree_is_shown_to_a_depth() {
        let tree = ModuleTree::of("Block", &block());
        let text = tree.to_depth(1).to_string();
        let lines: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines, ["Block 1,003,083", "├─ list 2,083", "└─ out 1,001,000"]);
        assert!(tree.to_string().contains("│     ├─ weight"));
        assert_eq!(tree.to_depth(0).to_string().lines().count(), 1);
    }

    #[test]
    fn digits_are_grouped_from_the_right() {
        for (number, text) in [(0, "0"), (12, "12"), (999, "999"), (1000, "1,000"), (859_520_964, "859,520,964")] {
            assert_eq!(grouped(number), text);
        }
    }
}
