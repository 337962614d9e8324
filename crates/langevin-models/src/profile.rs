//! Where the time of a forward pass goes.

use std::fmt;
use std::time::{Duration, Instant};

use crate::tap::{Tap, Tapped};

/// The time between two outputs that a [`Tap`] sees, by the name of the later one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The module path of the output, such as `down_blocks.0.resnets.1.conv1`; empty for what follows the last one.
    pub name: String,
    /// From the output before, or from the start.
    pub time: Duration,
}

/// A row of a table: parts under one heading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// What the parts have in common.
    pub heading: String,
    /// How many they are.
    pub parts: usize,
    /// Their time together.
    pub time: Duration,
}

/// The times of the sub-modules of a network in one pass, in the order in which they ran.
///
/// A part ends when an output is seen, so the time of a block is what it does after its last sub-module. On a GPU every output
/// is waited for: operations are not queued one behind the other then, and a pass takes longer than unobserved. Operations
/// that are fused across outputs where nobody listens, such as a normalization with its activation, are timed apart.
///
/// # Example
///
/// ```
/// use langevin_models::{Labels, Profile, UNet2dConfig};
/// use burn::tensor::Tensor;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let device = burn::tensor::Device::flex();
/// let net = UNet2dConfig::images(1, 8).channels(&[32, 32]).init(&device)?;
/// let (x, time) = (Tensor::<4>::ones([1, 1, 8, 8], &device), Tensor::<1>::zeros([1], &device));
/// let (_, profile) = Profile::of(|tap| net.forward_with(x, time, &Labels::none(1), tap))?;
/// println!("{profile}");
/// assert!(profile.by_kind().iter().any(|share| share.heading == "conv1" && share.parts == 12));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Profile {
    parts: Vec<Part>,
}

impl Profile {
    /// Runs a network and takes the time of each of its outputs.
    ///
    /// # Errors
    ///
    /// Those of the network.
    pub fn of<T, E>(run: impl FnOnce(&mut Tap<'_>) -> Result<T, E>) -> Result<(T, Self), E> {
        let mut parts = Vec::new();
        let mut since = Instant::now();
        let mut see = |name: &str, tensor: Tapped<'_>| {
            tensor.wait();
            parts.push(Part { name: name.to_owned(), time: since.elapsed() });
            since = Instant::now();
        };
        let result = run(&mut Tap::new(&mut see))?;
        parts.push(Part { name: String::new(), time: since.elapsed() });
        Ok((result, Self { parts }))
    }

    /// Every part, in the order in which they ran.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The time of all parts.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.parts.iter().map(|part| part.time).sum()
    }

    /// Parts under the headings that `heading` gives to their names, the longest first.
    #[must_use]
    pub fn by(&self, heading: impl Fn(&str) -> String) -> Vec<Share> {
        let mut shares: Vec<Share> = Vec::new();
        for part in &self.parts {
            let heading = heading(&part.name);
            match shares.iter_mut().find(|share| share.heading == heading) {
                Some(share) => {
                    share.parts += 1;
                    share.time += part.time;
                }
                None => shares.push(Share { heading, parts: 1, time: part.time }),
            }
        }
        shares.sort_by_key(|share| std::cmp::Reverse(share.time));
        shares
    }

    /// By what a module is called in its parent: `conv1`, `to_q`, `resnets`.
    #[must_use]
    pub fn by_kind(&self) -> Vec<Share> {
        self.by(|name| {
            let words = name.rsplit('.').filter(|word| word.parse::<usize>().is_err());
            words.map(str::to_owned).next().unwrap_or_default()
        })
    }

    /// By the first `depth` names of the module path: `down_blocks.0` for a depth of 2.
    #[must_use]
    pub fn by_block(&self, depth: usize) -> Vec<Share> {
        self.by(|name| name.split('.').take(depth).collect::<Vec<_>>().join("."))
    }
}

/// [`by_kind`](Profile::by_kind) as a table, without what takes less than a hundredth of the time.
impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        table(f, &self.by_kind(), self.total())
    }
}

/// Headings, counts, milliseconds and shares of the whole.
fn table(f: &mut fmt::Formatter<'_>, shares: &[Share], total: Duration) -> fmt::Result {
    let percent = |time: Duration| 100.0 * time.as_secs_f64() / total.as_secs_f64().max(f64::MIN_POSITIVE);
    let heading = |share: &Share| if share.heading.is_empty() { "(rest)".to_owned() } else { share.heading.clone() };
    let (long, short): (Vec<_>, Vec<_>) = shares.iter().partition(|share| percent(share.time) >= 1.0);
    let width = long.iter().map(|share| heading(share).len()).max().unwrap_or(0).max(7);
    let mut row = |heading: &str, parts: usize, time: Duration| {
        writeln!(f, "{heading:<width$} {parts:>6} {:>10.2} ms {:>6.1}%", time.as_secs_f64() * 1e3, percent(time))
    };
    for share in long {
        row(&heading(share), share.parts, share.time)?;
    }
    if !short.is_empty() {
        let parts = short.iter().map(|share| share.parts).sum();
        row("(less)", parts, short.iter().map(|share| share.time).sum())?;
    }
    row("total", shares.iter().map(|share| share.parts).sum(), total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Tensor};

    fn run(names: &[&str]) -> Profile {
        let x = Tensor::<2>::zeros([1, 3], &Device::flex());
        let pass = |tap: &mut Tap<'_>| {
            for name in names {
                std::thread::sleep(Duration::from_millis(2));
                tap.see(name, &x);
            }
            Ok::<_, ()>(())
        };
        Profile::of(pass).unwrap().1
    }

    #[test]
    fn every_output_has_its_time_and_the_shares_are_all_of_it() {
        let profile = run(&["down.0.conv1", "down.0.conv2", "down.0", "up.3.conv1", "up.3.net.0.0"]);
        let names: Vec<_> = profile.parts().iter().map(|part| part.name.as_str()).collect();
        assert_eq!(names, ["down.0.conv1", "down.0.conv2", "down.0", "up.3.conv1", "up.3.net.0.0", ""]);
        assert!(profile.parts()[..5].iter().all(|part| part.time >= Duration::from_millis(2)));
        for shares in [profile.by_kind(), profile.by_block(2), profile.by_block(1)] {
            assert_eq!(shares.iter().map(|share| share.time).sum::<Duration>(), profile.total());
            assert!(shares.is_sorted_by(|a, b| a.time >= b.time));
        }
        let count = |shares: Vec<Share>, of: &str| shares.into_iter().find(|s| s.heading == of).map(|s| s.parts);
        assert_eq!(count(profile.by_kind(), "conv1"), Some(2));
        assert_eq!(count(profile.by_kind(), "net"), Some(1));
        assert_eq!(count(profile.by_kind(), "down"), Some(1));
        assert_eq!(count(profile.by_block(2), "down.0"), Some(3));
    }

    #[test]
    fn a_table_joins_what_is_short() {
        let part = |name: &str, millis| Part { name: name.to_owned(), time: Duration::from_millis(millis) };
        let parts = vec![part("a.conv", 600), part("b.conv", 390), part("a.norm", 6), part("", 4)];
        let text = Profile { parts }.to_string();
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            rows,
            [
                ["conv", "2", "990.00", "ms", "99.0%"],
                ["(less)", "2", "10.00", "ms", "1.0%"],
                ["total", "4", "1000.00", "ms", "100.0%"]
            ]
        );
    }

    #[test]
    fn an_error_of_the_network_is_the_result() {
        assert_eq!(Profile::of(|_| Err::<(), _>("refused")), Err("refused"));
    }
}
