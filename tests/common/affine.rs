//! Plans on Gaussian data are affine maps: their mean and covariance without any Monte Carlo.
//!
//! On Gaussian data x̂_0 and ε̂ are affine in x, hence so is a whole plan in (x, all noises). The host loop adds and
//! scales vectors without looking inside, so one run can carry the mean and every column of the map side by side:
//! the first block of the state is a point, each other block a direction that answers to the linear part only.

use super::problem::KNOWN_SAMPLE;
use langevin::core::exact::Gaussian;
use langevin::core::{Key, Level, NoiseError, NoiseSource};
use langevin::schedulers::Plan;
use langevin::schedulers::plan::{Coef, Draw, HostAnswer, KNOWN, MASK};
use std::collections::BTreeMap;

/// `x_end = mean + Σ columns·(independent standard normal values)`.
#[derive(Clone, Debug)]
pub struct Affine {
    pub dimension: usize,
    pub mean: Vec<f64>,
    /// Directions, one vector each: first those of the start, then those of the draws.
    pub columns: Vec<Vec<f64>>,
}

impl Affine {
    /// `Σ column·columnᵀ`, row-major.
    pub fn covariance(&self) -> Vec<f64> {
        let d = self.dimension;
        let mut covariance = vec![0.0; d * d];
        for column in &self.columns {
            for (n, value) in covariance.iter_mut().enumerate() {
                *value += column[n / d] * column[n % d];
            }
        }
        covariance
    }
}

/// Where each draw's directions are.
struct Layout {
    dimension: usize,
    first: usize,
    white: BTreeMap<Key, usize>,
    /// Ends of the elementary intervals of the path, rising.
    clock: Vec<f64>,
}

impl Layout {
    fn of(plan: &Plan, dimension: usize, first: usize, clock: &[f64]) -> Self {
        let (mut white, mut clock) = (BTreeMap::new(), clock.to_vec());
        for (index, row) in plan.rows().iter().enumerate() {
            for draw in &row.draws {
                match *draw {
                    Draw::Path { from, until, .. } => clock.extend([from, until]),
                    Draw::White { .. } | Draw::Known { .. } => {
                        let next = white.len();
                        white.insert(draw.key(index).expect("white noise has a key"), next);
                    }
                }
            }
        }
        clock.sort_unstable_by(f64::total_cmp);
        clock.dedup();
        Self { dimension, first, white, clock }
    }

    fn blocks(&self) -> usize {
        self.first + self.dimension * (self.white.len() + self.clock.len().saturating_sub(1))
    }

    /// Adds `scale` times the unit vectors of draw number `draw` to a state of all blocks.
    fn unit(&self, draw: usize, scale: f64, out: &mut [f64]) {
        let d = self.dimension;
        for i in 0..d {
            let block = self.first + draw * d + i;
            out[block * d + i] += scale;
        }
    }
}

impl NoiseSource for Layout {
    fn fill(&self, _sample: u64, key: Key, out: &mut [f64]) -> Result<(), NoiseError> {
        out.fill(0.0);
        let draw = self.white.get(&key).ok_or(NoiseError::Missing { key, sample: 0 })?;
        self.unit(*draw, 1.0, out);
        Ok(())
    }

    fn fill_path(&self, _sample: u64, from: f64, until: f64, out: &mut [f64]) -> Result<(), NoiseError> {
        out.fill(0.0);
        for (i, pair) in self.clock.windows(2).enumerate() {
            if pair[0] >= from && pair[1] <= until {
                self.unit(self.white.len() + i, (pair[1] - pair[0]).sqrt(), out);
            }
        }
        Ok(())
    }
}

/// The affine map of `plan` on Gaussian data, from a start `mean + factor·ξ` (`factor` by columns). Plans that are given
/// something are given [`KNOWN_SAMPLE`].
pub fn push(plan: &Plan, data: &Gaussian, mean: &[f64], factor: &[Vec<f64>]) -> Affine {
    push_on(plan, data, mean, factor, &[])
}

/// As [`push`], with further ends of path intervals, so that two plans have the same directions.
pub fn push_on(plan: &Plan, data: &Gaussian, mean: &[f64], factor: &[Vec<f64>], clock: &[f64]) -> Affine {
    let d = data.dimension();
    let maps = |level: &Level| Maps::of(data, level);
    let known = (&KNOWN_SAMPLE.0[..], &KNOWN_SAMPLE.1[..]);
    let known = (!plan.auxiliaries().is_empty()).then_some(known);
    push_layout(plan, &maps, mean, factor, &Layout::of(plan, d, 1 + factor.len(), clock), known)
}

/// As [`push`], with a network that answers as it is told: x̂_0, and ε̂, from a state at a level.
pub fn push_asking(
    plan: &Plan,
    answer: impl Fn(&[f64], &Level) -> [Vec<f64>; 2],
    mean: &[f64],
    factor: &[Vec<f64>],
) -> Affine {
    let d = mean.len();
    let maps = |level: &Level| Maps {
        dimension: d,
        x0: affine(d, &|x| answer(x, level)[0].clone()),
        eps: affine(d, &|x| answer(x, level)[1].clone()),
    };
    push_layout(plan, &maps, mean, factor, &Layout::of(plan, d, 1 + factor.len(), &[]), None)
}

/// As [`push`], for a plan that is given a known sample and a mask.
pub fn push_known(plan: &Plan, data: &Gaussian, start: (&[f64], &[Vec<f64>]), known: (&[f64], &[f64])) -> Affine {
    let layout = Layout::of(plan, data.dimension(), 1 + start.1.len(), &[]);
    push_layout(plan, &|level| Maps::of(data, level), start.0, start.1, &layout, Some(known))
}

fn push_layout(
    plan: &Plan,
    maps: &dyn Fn(&Level) -> Maps,
    mean: &[f64],
    factor: &[Vec<f64>],
    layout: &Layout,
    known: Option<(&[f64], &[f64])>,
) -> Affine {
    let d = mean.len();
    let mut x = mean.to_vec();
    factor.iter().for_each(|column| x.extend(column));
    x.resize(layout.blocks() * d, 0.0);
    // Only the first block is a point.
    let model = |x: &[f64], level: &Level| maps(level).answer(x, 1);
    // The known sample moves the point only; the mask holds for all blocks.
    let (mut image, mut mask) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    if let Some((known, known_where)) = known {
        image[..d].copy_from_slice(known);
        mask.chunks_mut(d).for_each(|block| block.copy_from_slice(known_where));
    }
    let given = [(KNOWN, image.as_slice()), (MASK, mask.as_slice())];
    let mut end = Vec::new();
    plan.run_host_given(x, &given, 0, layout, model, |step| end = step.x.to_vec()).expect("a plan on the host");
    let mut blocks = end.chunks(d).map(<[f64]>::to_vec);
    let mean = blocks.next().expect("the first block is the mean");
    Affine { dimension: d, mean, columns: blocks.collect() }
}

/// The mean at the end, by a run without noise.
pub fn mean_at_end(plan: &Plan, data: &Gaussian, mean: &[f64]) -> Vec<f64> {
    let model = |x: &[f64], level: &Level| Maps::of(data, level).answer(x, usize::MAX);
    plan.run_host(mean.to_vec(), 0, &Silent, model).expect("a plan on the host")
}

struct Silent;

impl NoiseSource for Silent {
    fn fill(&self, _sample: u64, _key: Key, out: &mut [f64]) -> Result<(), NoiseError> {
        out.fill(0.0);
        Ok(())
    }

    fn fill_path(&self, _sample: u64, _from: f64, _until: f64, out: &mut [f64]) -> Result<(), NoiseError> {
        out.fill(0.0);
        Ok(())
    }
}

/// What the network says of its variance, everywhere: a learned one is between its bounds by (1 + this)/2.
pub const VARIANCE: f64 = 0.4;

/// A coefficient where the network says that.
pub fn coefficient(c: &Coef) -> f64 {
    match *c {
        Coef::C(c) => c,
        Coef::LearnedStd { log_min, log_max, .. } => {
            let share = 0.5 * (1.0 + VARIANCE);
            (0.5 * (share * log_max + (1.0 - share) * log_min)).exp()
        }
        Coef::PredictedStd { .. } => VARIANCE.sqrt(),
    }
}

/// x̂_0 and ε̂ of Gaussian data at one level as matrices (column by column) and shifts.
struct Maps {
    dimension: usize,
    x0: (Vec<f64>, Vec<f64>),
    eps: (Vec<f64>, Vec<f64>),
}

impl Maps {
    fn of(data: &Gaussian, level: &Level) -> Self {
        let d = data.dimension();
        let at = data.at(level).expect("a level");
        Self {
            dimension: d,
            x0: affine(d, &|x| at.x0(x).expect("a plane")),
            eps: affine(d, &|x| at.eps(x).expect("a plane")),
        }
    }

    /// The maps on blocks; the shift is added to the first `points` of them.
    fn answer(&self, x: &[f64], points: usize) -> HostAnswer {
        let apply = |(matrix, shift): &(Vec<f64>, Vec<f64>)| {
            let mut out = vec![0.0; x.len()];
            // Plain loops: this is what the statistics spend their time on.
            let d = self.dimension;
            for (b, (x, out)) in x.chunks_exact(d).zip(out.chunks_exact_mut(d)).enumerate() {
                for i in 0..d {
                    let mut sum = if b < points { shift[i] } else { 0.0 };
                    for j in 0..d {
                        sum += x[j] * matrix[j * d + i];
                    }
                    out[i] = sum;
                }
            }
            out
        };
        HostAnswer { x0: apply(&self.x0), eps: apply(&self.eps), variance: Some(vec![VARIANCE; x.len()]) }
    }
}

/// x̂_0 and ε̂ of Gaussian data at a level, as matrices, column by column, and shifts.
pub fn affine_answer(data: &Gaussian, level: &Level) -> [(Vec<f64>, Vec<f64>); 2] {
    let Maps { x0, eps, .. } = Maps::of(data, level);
    [x0, eps]
}

/// An affine map's matrix, column by column, and shift.
fn affine(d: usize, of: &dyn Fn(&[f64]) -> Vec<f64>) -> (Vec<f64>, Vec<f64>) {
    let shift = of(&vec![0.0; d]);
    let column = |i: usize| {
        let mut unit = vec![0.0; d];
        unit[i] = 1.0;
        of(&unit).iter().zip(&shift).map(|(value, shift)| value - shift).collect::<Vec<f64>>()
    };
    ((0..d).flat_map(column).collect(), shift)
}

/// The Gaussian's posterior means as a host model, for any number of points behind one another.
pub fn ask_points(data: &Gaussian) -> impl FnMut(&[f64], &Level) -> HostAnswer + '_ {
    move |x, level| Maps::of(data, level).answer(x, usize::MAX)
}

/// Mean and a factor (Cholesky, by columns) of the covariance of data at a level.
pub fn marginal(data: &Gaussian, level: &Level) -> (Vec<f64>, Vec<Vec<f64>>) {
    let mean = data.mean().iter().map(|m| level.alpha * m).collect();
    (mean, cholesky(&marginal_covariance(data, level), data.dimension()))
}

/// `α²Σ + σ²`.
pub fn marginal_covariance(data: &Gaussian, level: &Level) -> Vec<f64> {
    let d = data.dimension();
    let mut covariance: Vec<f64> = data.covariance().iter().map(|c| level.alpha * level.alpha * c).collect();
    (0..d).for_each(|i| covariance[i * d + i] += level.sigma * level.sigma);
    covariance
}

fn cholesky(a: &[f64], d: usize) -> Vec<Vec<f64>> {
    let mut columns = vec![vec![0.0; d]; d];
    for j in 0..d {
        for i in j..d {
            let sum: f64 = (0..j).map(|k| columns[k][i] * columns[k][j]).sum();
            let rest = a[i * d + j] - sum;
            columns[j][i] = if i == j { rest.sqrt() } else { rest / columns[j][j] };
        }
    }
    columns
}
