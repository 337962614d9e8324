//! The columns of the matrix: one line for each thing that a solver is combined with.

use crate::combinators::{Answer, combinators};
use crate::solvers::{Made, Row, plan};
use crate::{Cell, On, Outcome, Way, refused};
use burn::tensor::{DType, Device, Tensor, TensorData};
use langevin::core::denoiser::{Clamp, from_fn};
use langevin::core::inverse::{KnownRegion, Masking, Measurement};
use langevin::core::noise::Seeded;
use langevin::core::{
    Condition, Constraint, DenoiseError, Denoiser, DenoiserExt, Grid, Levels, Load, Network, Prediction, Process,
};
use langevin::schedulers::exponential::UniC;
use langevin::schedulers::inverse::DpsSteps;
use langevin::schedulers::sde::AnnealedCorrector;
use langevin::schedulers::sigma::{Churn, Churned};
use langevin::schedulers::{
    Ddim, Picard, Plan, PlanError, PlusPlus, PredictorCorrector, RePaint, Restart, Sampler, SamplerExt, Solver,
};

/// What a solver is combined with.
pub struct Column {
    pub name: &'static str,
    /// What it means, for the page.
    pub what: &'static str,
    /// What an error says of it: one of these.
    pub said: &'static [&'static str],
    pub cell: Box<dyn Fn(&Case) -> Cell>,
}

/// A solver on a process.
pub struct Case<'a> {
    pub row: &'a Row,
    pub on: On,
    /// The samples of the solver alone.
    pub alone: &'a [f64],
}

impl<'a> Case<'a> {
    /// Runs the solver alone.
    pub fn alone(row: &Row, on: On) -> Vec<f64> {
        let samples = row.sampler(row.way(on)).and_then(|sampler| run_alone(&*sampler, None));
        samples.unwrap_or_else(|refused| panic!("{} alone on {on}: {}", row.name, refused.message))
    }

    fn sampler(&self) -> Outcome<Box<dyn Sampler<2>>> {
        self.row.sampler(self.row.way(self.on))
    }

    fn plan(&self, solver: &dyn Solver) -> Outcome<Plan> {
        plan(solver, self.row.way(self.on))
    }

    /// Whether samples differ from those of the solver alone.
    fn compared(&self, samples: Outcome<Vec<f64>>) -> Cell {
        match samples {
            Ok(samples) if samples == self.alone => Cell::NoEffect,
            other => Cell::of(other),
        }
    }

    /// The samples of a plan made around the solver, and whether they differ.
    fn around(&self, make: impl Fn(Borrowed<'a>) -> Result<Plan, PlanError>) -> Cell {
        let Made::Planned { solver, .. } = &self.row.made else { return Cell::NoMethod };
        self.compared(make(Borrowed(&**solver)).map_err(refused).and_then(|plan| run_alone(&plan, None)))
    }

    /// The same of a sampler over its plan.
    fn over<S: Sampler<2>>(&self, make: impl Fn(Plan) -> Result<S, PlanError>) -> Option<Outcome<Vec<f64>>> {
        let Made::Planned { solver, .. } = &self.row.made else { return None };
        let sampler = self.plan(&**solver).and_then(|plan| make(plan).map_err(refused));
        Some(sampler.and_then(|sampler| run_alone(&sampler, None)))
    }

    /// A plan by a solver on the grid of sampling.
    fn planned(&self, solver: &dyn Solver) -> Result<Plan, PlanError> {
        let way = self.row.way(self.on);
        let process = way.process();
        solver.plan(&process, &way.grid(&process))
    }
}

/// What changes the answers.
pub fn answers() -> Vec<Column> {
    let column = |combinator: crate::combinators::Combinator| {
        let (name, what, said) = (combinator.name, combinator.what, combinator.said);
        let cell = move |case: &Case| {
            let wanted = name == "CFG++" && case.sampler().is_ok_and(|sampler| sampler.needs_split());
            let denoiser = if wanted { two_answers(0.3) } else { settled(combinator.alone(Prediction::Velocity)) };
            case.compared(case.sampler().and_then(|sampler| run(&*sampler, &*denoiser, None)))
        };
        Column { name, what, said, cell: Box::new(cell) }
    };
    combinators().into_iter().map(column).collect()
}

/// What changes the run.
pub fn runs() -> Vec<Column> {
    fn column(
        name: &'static str,
        what: &'static str,
        said: &'static [&'static str],
        cell: impl Fn(&Case) -> Cell + 'static,
    ) -> Column {
        Column { name, what, said, cell: Box::new(cell) }
    }
    vec![
        column("constraint", "`run.constrained(..)`", &["constraint"], |case| {
            let clamp = settled(Clamp::new(-0.3, 0.3));
            case.compared(case.sampler().and_then(|sampler| run_alone(&*sampler, Some(&clamp))))
        }),
        column("known region", "`inverse::KnownRegion` as a constraint", &["known"], |case| {
            let known = known();
            case.compared(case.sampler().and_then(|sampler| run_alone(&*sampler, Some(&known))))
        }),
        column("DPS steps", "`inverse::DpsSteps::new(plan, ..)`", &["DPS"], |case| {
            let samples = case.over(|plan| DpsSteps::new(plan, measurement(), 0.1));
            samples.map_or(Cell::NoMethod, |samples| case.compared(samples))
        }),
        column("corrections", "`PredictorCorrector::new(plan, ..)`", &["correction"], |case| {
            let samples = case.over(|plan| PredictorCorrector::new(plan, 0.16, 1));
            samples.map_or(Cell::NoMethod, |samples| case.compared(samples))
        }),
        column("annealed", "`sde::AnnealedCorrector::around(solver, ..)`", &["correction"], |case| {
            case.around(|solver| case.planned(&AnnealedCorrector::around(solver, 0.16, 1)?))
        }),
        column("UniC", "`UniC::behind(solver, 1)`", &["UniC"], |case| {
            case.around(|solver| case.planned(&UniC::behind(solver, 1)?))
        }),
        column(
            "churn",
            "`.churn(..)`, or `sigma::Churned::new(solver, ..)` where there is no such method",
            &["churn"],
            |case| {
                let Made::Planned { churned, .. } = &case.row.made else { return Cell::NoMethod };
                case.around(|solver| match churned {
                    Some(own) => case.planned(&**own),
                    None => case.planned(&Churned::new(solver, Churn::new(1.0).expect("in range"))),
                })
            },
        ),
        column("PlusPlus", "`PlusPlus::around(solver)`, with `.plus_plus()`", &["CFG++"], |case| {
            case.around(|solver| case.planned(&PlusPlus::around(solver)))
        }),
        column("Picard", "`Picard::over(plan, 3)`", &["Picard"], |case| {
            // In parallel the samples are those of the plan.
            case.over(|plan| Picard::over(plan, 3)).map_or(Cell::NoMethod, Cell::of)
        }),
        column("Restart", "`Restart::around(solver)`", &["Restart"], |case| {
            case.around(|solver| case.planned(&Restart::around(solver).interval(0.5, 2.0, 1)?))
        }),
        column("RePaint", "`RePaint::around(solver)`", &["RePaint"], |case| {
            case.around(|solver| case.planned(&RePaint::around(solver).jumps(2, 2)?))
        }),
        column(
            "inversion",
            "`grid.inverted()`, or from a clean time to a noisy one",
            &["falling", "upwards"],
            |case| Cell::of(case.row.sampler(Way::Inversion(case.on)).and_then(|sampler| run_alone(&*sampler, None))),
        ),
        column("α = 0", "a start at pure noise on the rectified flow, or an end there", &["α = 0"], |case| {
            Cell::of(
                case.row
                    .sampler(Way::PureNoise { inverted: case.row.inverted })
                    .and_then(|sampler| run_alone(&*sampler, None)),
            )
        }),
    ]
}

/// Of the two values of a sample the first is measured.
pub fn measurement() -> Measurement<Masking<2>, 2> {
    settled(Measurement::new(settled(Masking::new(row_of(1.0, 0.0))), row_of(0.4, 0.0), 0.1))
}

pub fn known() -> KnownRegion<2> {
    settled(KnownRegion::new(settled(Masking::new(row_of(1.0, 0.0))), row_of(0.4, 0.0)))
}

fn row_of(first: f64, second: f64) -> Tensor<2> {
    Tensor::from_data([[first, second]], (&Device::flex(), DType::F64))
}

pub fn settled<T, E: std::fmt::Display>(made: Result<T, E>) -> T {
    made.unwrap_or_else(|error| panic!("a setting of the test itself: {error}"))
}

/// A velocity network of the state.
pub fn answer(towards: f64) -> impl Denoiser<2> + DenoiserExt<2> + Clone {
    from_fn(Prediction::Velocity, output(towards))
}

/// The same output as another prediction.
pub fn answer_of(prediction: Prediction, towards: f64) -> Answer {
    Box::new(from_fn(prediction, output(towards)))
}

fn output(towards: f64) -> impl Fn(Tensor<2>, &Levels) -> Result<Tensor<2>, DenoiseError> + Clone + Send + Sync {
    move |x: Tensor<2>, levels: &Levels| {
        let wave = x.clone().add_scalar(towards).sin();
        Ok(levels.map(|level| 0.5 + level.sigma).times(wave).add(x.mul_scalar(0.2 * towards)))
    }
}

/// CFG++ of two such networks.
fn two_answers(scale: f64) -> Answer {
    Box::new(settled(answer(1.0).autoguided(answer(-0.5), scale).and_then(langevin::core::denoiser::Guided::plus_plus)))
}

/// A number for each sample.
#[derive(Clone, Debug)]
pub struct Towards(pub Vec<f64>);

impl Condition for Towards {
    fn rows(&self) -> Option<usize> {
        Some(self.0.len())
    }
    fn expand(&self, rows: usize) -> Result<Self, DenoiseError> {
        match self.0.len() {
            n if n == rows => Ok(self.clone()),
            1 => Ok(Self(vec![self.0[0]; rows])),
            n => Err(DenoiseError::ConditionRows { condition: n, batch: rows }),
        }
    }
    fn cat(parts: &[&Self]) -> Result<Self, DenoiseError> {
        Ok(Self(parts.iter().flat_map(|part| part.0.iter().copied()).collect()))
    }
}

/// A network with a condition.
#[derive(Clone, Debug)]
pub struct Steered;

impl Network<2> for Steered {
    type Cond = Towards;
    fn forward(&self, x: Tensor<2>, _: Tensor<1>, towards: &Towards) -> Result<Tensor<2>, DenoiseError> {
        let rows = x.dims()[0];
        let towards = TensorData::new(towards.0.clone(), [rows, 1]);
        let towards = Tensor::<2>::from_data(towards, (&x.device(), x.dtype()));
        Ok(x.clone().add(towards.clone()).sin().add(x.mul(towards).mul_scalar(0.2)))
    }
    fn for_sampling(&self) -> Self {
        Steered
    }
}

/// A network that is told its last estimate.
#[derive(Clone, Debug)]
pub struct Told;

impl Network<2> for Told {
    type Cond = ();
    fn forward(&self, x: Tensor<2>, _: Tensor<1>, _: &()) -> Result<Tensor<2>, DenoiseError> {
        Ok(x.clone().narrow(1, 0, 2).sin().add(x.narrow(1, 2, 2).mul_scalar(0.3)))
    }
    fn for_sampling(&self) -> Self {
        Told
    }
}

#[derive(Clone, Copy)]
struct Borrowed<'a>(&'a dyn Solver);

impl Solver for Borrowed<'_> {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        self.0.plan(process, grid)
    }
    fn churned(&self, churn: &Churn, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        self.0.churned(churn, process, grid)
    }
}

/// A run without guidance, or with CFG++ where the solver is for that.
fn run_alone(sampler: &dyn Sampler<2>, constraint: Option<&dyn Constraint<2>>) -> Outcome<Vec<f64>> {
    if sampler.needs_split() {
        return run(sampler, &*two_answers(0.6), constraint);
    }
    run(sampler, &answer(1.0), constraint)
}

/// Runs to the end; samples that are not finite are an error of the run.
fn run(
    sampler: &dyn Sampler<2>,
    denoiser: &dyn Denoiser<2>,
    constraint: Option<&dyn Constraint<2>>,
) -> Outcome<Vec<f64>> {
    let noise = Seeded::new(5);
    let load = Load::on(&Device::flex()).dtype(DType::F64);
    let reads = sampler.auxiliaries();
    let run = (&sampler).start([3, 2], denoiser, &noise, load).map_err(refused)?;
    let run = if reads.is_empty() { run } else { run.known(row_of(0.4, 0.0), row_of(1.0, 0.0)).map_err(refused)? };
    let run = match constraint {
        Some(constraint) => run.constrained(constraint),
        None => run,
    };
    let x = run.finish().map_err(refused)?;
    Ok(x.try_to_vec_as::<f64>().expect("a readable tensor"))
}

/// Samples of DDIM.
pub fn denoised(on: On, denoiser: &dyn Denoiser<2>) -> Outcome<Vec<f64>> {
    run(&plan(&Ddim::new(), Way::Sampling(on))?, denoiser, None)
}
