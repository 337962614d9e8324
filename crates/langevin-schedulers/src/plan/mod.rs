//! Solvers as tables.
//!
//! A solver that is linear in states, estimates and noises *plans*: from a process and a grid it makes a [`Plan`],
//! rows of `f64` coefficients. One loop runs every plan, on tensors ([`Sampler`](crate::Sampler)) and on `f64`
//! vectors ([`Plan::run_host`]). A plan can be printed, serialized and compared with a paper.

mod analysis;
mod display;
mod host;
mod machine;
mod tensor;

pub use host::{HostAnswer, HostError, HostStep};
pub use machine::Memory;

use crate::solver::has_zero_terminal_snr;
use langevin_core::grid::Stop;
use langevin_core::{Key, Level, Node, Process};
use serde::{Deserialize, Serialize};

/// A register: a state or a noise that lives across rows. State register 0 is the sample itself.
pub type Reg = u8;
/// A slot that holds the estimate of one evaluation.
pub type Slot = u8;
/// A tensor that a run is given at its start, beside the sample: [`KNOWN`], [`MASK`], or one of a plan of one's own.
pub type Aux = u8;

/// The sample that is known in part.
pub const KNOWN: Aux = 0;
/// Where it is known: 1 there, 0 where it is not.
pub const MASK: Aux = 1;

/// The coefficient of a term.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Coef {
    /// A number.
    C(f64),
    /// `exp(½·(f·log_max + (1 − f)·log_min))` with `f = (v + 1)/2` of the slot's raw variance channels v
    /// (Nichol & Dhariwal 2021, eq. 15).
    LearnedStd {
        /// Slot of the estimate with variance channels.
        slot: Slot,
        /// Logarithm of the smallest variance.
        log_min: f64,
        /// Logarithm of the largest variance.
        log_max: f64,
    },
    /// The square root of the slot's raw variance channels.
    PredictedStd {
        /// Slot of the estimate with variance channels.
        slot: Slot,
    },
}

/// What a coefficient multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Src {
    /// A state register.
    X(Reg),
    /// The clean sample x̂_0 of a slot.
    X0(Slot),
    /// The noise ε̂ of a slot.
    Eps(Slot),
    /// A noise register.
    Z(Reg),
    /// A tensor given at the start of the run.
    Aux(Aux),
}

/// `coefficient · source`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Term {
    /// The coefficient.
    pub c: Coef,
    /// What it multiplies.
    pub of: Src,
}

impl Term {
    /// A term with a plain number.
    pub fn new(c: f64, of: Src) -> Self {
        Self { c: Coef::C(c), of }
    }
}

/// Noise drawn before anything else in a row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Draw {
    /// Independent standard normal noise, keyed by (row, lane).
    White {
        /// Noise register that takes it.
        to: Reg,
        /// Tells several draws of one row apart.
        lane: u8,
    },
    /// As white noise, in the domain of known regions: what is drawn for them shifts nothing else.
    Known {
        /// Noise register that takes it.
        to: Reg,
        /// Tells several draws of one row apart.
        lane: u8,
    },
    /// The increment of the sample's Brownian path over a clock interval.
    Path {
        /// Noise register that takes it.
        to: Reg,
        /// Start of the interval.
        from: f64,
        /// End of the interval.
        until: f64,
    },
}

impl Draw {
    /// White noise for solvers that draw once a row.
    pub(crate) const WHITE: Self = Self::White { to: 0, lane: 0 };
}

/// Writes a linear combination to a state register.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Set {
    /// The register.
    pub to: Reg,
    /// The terms; their sum is taken over the values before this assignment.
    pub sum: Vec<Term>,
    /// With a mask m the register becomes `m·sum + (1 − m)·register`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<Aux>,
}

impl Set {
    /// An assignment; terms with a zero coefficient are dropped.
    pub fn new(to: Reg, sum: impl IntoIterator<Item = Term>) -> Self {
        Self { to, sum: sum.into_iter().filter(|term| term.c != Coef::C(0.0)).collect(), mask: None }
    }

    /// Writes only where the mask is 1, and in part where it is between.
    pub fn masked(mut self, mask: Aux) -> Self {
        self.mask = Some(mask);
        self
    }
}

/// An evaluation of the denoiser.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Eval {
    /// The level that is asked about.
    pub at: Level,
    /// The state register that is asked about.
    pub x: Reg,
    /// The slot that takes the answer.
    pub into: Slot,
}

/// One row: draw, set, ask, set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Noise for this row.
    pub draws: Vec<Draw>,
    /// Assignments before the evaluation, in order.
    pub pre: Vec<Set>,
    /// The evaluation, if the row has one.
    pub eval: Option<Eval>,
    /// Assignments after the evaluation, in order.
    pub post: Vec<Set>,
    /// The step this row completes; `None` for an inner stage.
    pub step: Option<u32>,
    /// Where the sample is after the row.
    pub after: Node,
    /// The predicted clean sample at the row's end, for previews. It needs nothing: where a part of an estimate that only
    /// reports read cannot be computed, the step has none.
    pub report: Vec<Term>,
}

impl Row {
    /// A whole step with one question, about the sample itself, where the step begins.
    pub(crate) fn step(index: usize, stop: &Stop, slot: Slot, sum: Vec<Term>, draw: Option<Draw>) -> Self {
        Self {
            draws: draw.into_iter().collect(),
            pre: Vec::new(),
            eval: Some(Eval { at: stop.ask, x: 0, into: slot }),
            post: vec![Set::new(0, sum)],
            step: Some(index as u32),
            after: stop.to,
            report: vec![Term::new(1.0, Src::X0(slot))],
        }
    }
}

/// A solver's table for one process and one grid.
///
/// ```
/// use langevin_core::{Grid, process::{Betas, DiscreteChain}};
/// use langevin_schedulers::{Ddim, Solver};
/// let chain = DiscreteChain::new(Betas::Linear { start: 1e-4, end: 0.02 }, 1000)?;
/// let plan = Ddim::new().plan(&chain, &Grid::leading(10))?;
/// assert_eq!(plan.steps(), 10);
/// println!("{plan}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Table", into = "Table")]
pub struct Plan {
    table: Table,
    analysis: analysis::Analysis,
}

/// The serialized part of a plan: data only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    name: String,
    start: Node,
    prior_std: f64,
    #[serde(default, skip_serializing_if = "is_false")]
    zero_terminal_snr: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    split: bool,
    rows: Vec<Row>,
}

/// Whether a flag need not be written.
fn is_false(flag: &bool) -> bool {
    !flag
}

impl From<Plan> for Table {
    fn from(plan: Plan) -> Self {
        plan.table
    }
}

impl Draw {
    /// The noise register that takes it.
    pub fn register(&self) -> Reg {
        match *self {
            Draw::White { to, .. } | Draw::Known { to, .. } | Draw::Path { to, .. } => to,
        }
    }

    /// The key of the draw in row `row`; a path has none.
    pub fn key(&self, row: usize) -> Option<Key> {
        match *self {
            Draw::White { lane, .. } => Some(Key::step(row as u64, u32::from(lane))),
            Draw::Known { lane, .. } => Some(Key::known(row as u64, u32::from(lane))),
            Draw::Path { .. } => None,
        }
    }
}

impl TryFrom<Table> for Plan {
    type Error = TableError;
    fn try_from(table: Table) -> Result<Self, TableError> {
        Plan::checked(table)
    }
}

/// A table that cannot be run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TableError {
    /// The table has no rows.
    #[error("the plan has no rows: a plan needs at least one step")]
    Empty,
    /// A row reads what no earlier row wrote.
    #[error("row {row} of the plan reads {source_name}, which nothing before it has written")]
    Unwritten {
        /// The row.
        row: usize,
        /// What it reads.
        source_name: String,
    },
    /// A coefficient is not a finite number.
    #[error("row {row} of the plan has the coefficient {value} of {source_name}; coefficients must be finite")]
    Coefficient {
        /// The row.
        row: usize,
        /// What the coefficient multiplies.
        source_name: String,
        /// The coefficient.
        value: f64,
    },
    /// A level or an interval of a path is not a finite number.
    #[error("row {row} of the plan has {value} in {what}; every number of a plan must be finite")]
    NotFinite {
        /// The row.
        row: usize,
        /// Where, in words.
        what: &'static str,
        /// The number.
        value: f64,
    },
    /// The steps are not numbered 0, 1, 2, …
    #[error("row {row} of the plan completes step {given}, expected step {expected}")]
    StepNumber {
        /// The row.
        row: usize,
        /// The number given.
        given: u32,
        /// The number expected.
        expected: u32,
    },
    /// The last row does not complete a step.
    #[error("the last row of the plan completes no step: its work would be lost")]
    Unfinished,
    /// The prior's deviation is not a positive number.
    #[error("the plan starts from noise of standard deviation {given}, expected a positive number")]
    Prior {
        /// The value given.
        given: f64,
    },
}

impl Plan {
    /// A plan from its rows.
    ///
    /// `start` is where the first row begins, `prior_std` the deviation of the noise that sampling starts from. Say with
    /// [`on`](Self::on) which process it is for.
    ///
    /// # Errors
    /// [`TableError`] if the rows cannot be run: nothing to do, reads of unwritten registers, coefficients that are
    /// not finite, steps out of order.
    pub fn new(name: impl Into<String>, start: Node, prior_std: f64, rows: Vec<Row>) -> Result<Self, TableError> {
        Plan::checked(Table { name: name.into(), start, prior_std, zero_terminal_snr: false, split: false, rows })
    }

    fn checked(table: Table) -> Result<Self, TableError> {
        if !(table.prior_std > 0.0 && table.prior_std.is_finite()) {
            return Err(TableError::Prior { given: table.prior_std });
        }
        let Node { t, level } = table.start;
        if let Some(&value) = [t, level.alpha, level.sigma, level.time].iter().find(|value| !value.is_finite()) {
            return Err(TableError::NotFinite { row: 0, what: "the level it starts at", value });
        }
        let analysis = analysis::Analysis::of(&table.rows)?;
        Ok(Self { table, analysis })
    }

    /// The solver's name and settings.
    pub fn name(&self) -> &str {
        &self.table.name
    }

    /// Where the first row begins.
    pub fn start_node(&self) -> Node {
        self.table.start
    }

    /// Standard deviation of the noise that sampling starts from.
    pub fn prior_deviation(&self) -> f64 {
        self.table.prior_std
    }

    /// The same table, started from noise of another standard deviation.
    ///
    /// # Errors
    /// [`TableError::Prior`] unless it is a positive number.
    pub fn with_prior(self, std: f64) -> Result<Self, TableError> {
        Plan::checked(Table { prior_std: std, ..self.table })
    }

    /// The same table, known to be one on this process: on a chain with zero terminal SNR a run refuses networks whose output says
    /// nothing of the sample in pure noise, wherever it starts. Solvers of this library say so themselves.
    pub fn on(mut self, process: &dyn Process) -> Self {
        self.table.zero_terminal_snr = has_zero_terminal_snr(process);
        self
    }

    /// Whether the plan is [`on`](Self::on) a chain with zero terminal SNR.
    pub fn has_zero_terminal_snr(&self) -> bool {
        self.table.zero_terminal_snr
    }

    /// The same table, known to be one of CFG++: it takes x̂_0 for the guided answer and ε̂ for the unconditional one, wherever
    /// it reads the state, and runs refuse denoisers that give one answer for both. [`PlusPlus`](crate::PlusPlus) makes
    /// such tables.
    pub fn for_split(mut self) -> Self {
        self.table.split = true;
        self
    }

    /// For the process that another plan is for.
    pub(crate) fn for_process_of(mut self, other: &Self) -> Self {
        self.table.zero_terminal_snr = other.table.zero_terminal_snr;
        self
    }

    /// For the answers that another plan is for.
    pub(crate) fn split_as(mut self, other: &Self) -> Self {
        self.table.split = other.table.split;
        self
    }

    /// Whether the plan is one of CFG++.
    pub fn needs_split(&self) -> bool {
        self.table.split
    }

    /// The rows.
    pub fn rows(&self) -> &[Row] {
        &self.table.rows
    }

    /// Number of committed steps.
    pub fn steps(&self) -> usize {
        self.table.rows.iter().filter(|row| row.step.is_some()).count()
    }

    /// Number of evaluations of the denoiser.
    pub fn evaluations(&self) -> usize {
        self.table.rows.iter().filter(|row| row.eval.is_some()).count()
    }

    /// Whether any noise is drawn after the start.
    pub fn is_stochastic(&self) -> bool {
        self.table.rows.iter().any(|row| !row.draws.is_empty())
    }

    /// The tensors that a run must be given at its start.
    pub fn auxiliaries(&self) -> Vec<Aux> {
        self.analysis.auxiliaries()
    }

    /// Whether a step reads states or noises of steps before it, beside the sample itself.
    pub(crate) fn carries_states(&self) -> bool {
        let carried = |place: &analysis::Place| matches!(place, analysis::Place::Value(Src::X(1..) | Src::Z(_)));
        let rows = self.rows().iter().zip(self.analysis.live.iter().skip(1));
        rows.filter(|(row, _)| row.step.is_some()).any(|(_, live)| live.iter().any(carried))
    }

    /// Whether any noise is an increment of a path.
    pub(crate) fn draws_along_a_path(&self) -> bool {
        self.rows().iter().flat_map(|row| &row.draws).any(|draw| matches!(draw, Draw::Path { .. }))
    }

    /// Whether each step goes on from x̂_0 and ε̂ alone, as `x' = a·x̂_0 + b·ε̂ + noise`, and never from the state that it
    /// asked about. The two may then answer different questions, as in CFG++.
    pub fn goes_on_from_answers(&self) -> bool {
        analysis::goes_on_from_answers(&self.table.rows, &self.analysis.needs)
    }

    /// Whether samples depend on x̂_0 of any answer: not those of a solver in ε̂.
    pub fn reads_clean(&self) -> bool {
        self.analysis.needs.iter().any(|needs| needs.x0 == analysis::Need::Yes)
    }

    /// A fingerprint of all numbers of the table, not of its name: equal plans have equal ones.
    pub fn fingerprint(&self) -> u64 {
        analysis::fingerprint(&self.table.start, self.table.prior_std, &self.table.rows)
    }
}
