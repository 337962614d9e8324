//! Tables that say how a network's parameters are called in another layout.

/// Which part of a stored tensor a parameter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it. Sides of length one at the end of the shape do not count: a linear layer is stored as a convolution of
    /// one pixel in some layouts.
    Whole,
    /// All of it, with its two sides exchanged.
    Transposed,
    /// One of three tensors of equal shape that are stored one after the other.
    Third(usize),
    /// One of three tensors that are stored as rows: a head's rows of the first, of the second and of the third, then the
    /// next head's.
    HeadThird(usize),
}

/// A group of modules that look the same and where they are stored.
///
/// `{block}` and `{layer}` stand for numbers in `ours`; `theirs` may use them and what the network's own numbering adds
/// (see [`Numbers`]).
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// Beginning of our names.
    pub ours: &'static str,
    /// Beginning of theirs.
    pub theirs: &'static str,
    /// What follows.
    pub lines: &'static [Line],
}

/// Beginning of the rest of our names, beginning of the rest of theirs, and which part of the stored tensor it is.
pub type Line = (&'static str, &'static str, Part);

/// The rest is called the same.
pub const SAME: &[Line] = &[("", "", Part::Whole)];

/// The numbers of one group: pairs of a name, as in `{block}`, and its value.
pub type Numbers = Vec<(&'static str, usize)>;

/// The stored name of a parameter and which part of it the parameter is, by the first line that fits.
///
/// `number` may add numbers to those that were read from the name.
pub fn look_up(table: &[Group], ours: &str, number: impl Fn(&mut Numbers)) -> Option<(String, Part)> {
    for group in table {
        let Some((mut numbers, rest)) = read(group.ours, ours) else { continue };
        number(&mut numbers);
        for (from, to, part) in group.lines {
            if let Some((_, end)) = read(from, rest) {
                return Some((join(&[&write(group.theirs, &numbers), to, end]), *part));
            }
        }
    }
    None
}

/// The numbers in the beginning of a name, and the rest of it.
fn read<'a>(pattern: &str, name: &'a str) -> Option<(Numbers, &'a str)> {
    let mut numbers = Numbers::new();
    let mut rest = name;
    for part in pattern.split('.').filter(|part| !part.is_empty()) {
        let (segment, after) = rest.split_once('.').unwrap_or((rest, ""));
        match part {
            "{block}" => numbers.push(("{block}", segment.parse().ok()?)),
            "{layer}" => numbers.push(("{layer}", segment.parse().ok()?)),
            part if part == segment => {}
            _ => return None,
        }
        rest = after;
    }
    Some((numbers, rest))
}

fn write(pattern: &str, numbers: &Numbers) -> String {
    numbers.iter().fold(pattern.to_owned(), |name, (key, value)| name.replace(key, &value.to_string()))
}

fn join(parts: &[&str]) -> String {
    parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Group] = &[
        Group {
            ours: "down.{block}.mix.{layer}",
            theirs: "in.{place}",
            lines: &[("q.weight", "qkv", Part::Third(0)), ("norm", "n", Part::Whole)],
        },
        Group { ours: "end", theirs: "out.2", lines: SAME },
    ];

    fn find(name: &str) -> Option<(String, Part)> {
        look_up(TABLE, name, |numbers| {
            let at: usize =
                numbers.iter().map(|(key, value)| if *key == "{block}" { 10 * value } else { *value }).sum();
            numbers.push(("{place}", at));
        })
    }

    #[test]
    fn names_are_put_together_from_the_first_line_that_fits() {
        assert_eq!(find("down.3.mix.1.norm.bias"), Some(("in.31.n.bias".into(), Part::Whole)));
        assert_eq!(find("down.12.mix.0.q.weight"), Some(("in.120.qkv".into(), Part::Third(0))));
        assert_eq!(find("end.weight"), Some(("out.2.weight".into(), Part::Whole)));
        for name in ["down.x.mix.1.norm.bias", "down.3.mix.1.other", "ending.weight", "", "down.3"] {
            assert_eq!(find(name), None, "{name}");
        }
    }
}
