//! The columns of the matrix: one line for each thing that a solver is combined with.

use crate::solvers::{Made, Row, plan};
use crate::{Cell, Outcome, Way, refused};
use burn::tensor::{DType, Device, Tensor};
use langevin::core::denoiser::{
    Answers, Clamp, EnergyGuided, Guided, Projection, SelfCondition, Threshold, energy_fn, from_fn,
};
use langevin::core::inverse::{Dps, Filled, InverseError, KnownRegion, Masking, Measurement, PiGdm};
use langevin::core::noise::Seeded;
use langevin::core::{
    Constraint, DenoiseError, Denoiser, DenoiserExt, Grid, Levels, Load, Network, Prediction, Process,
};
use langevin::schedulers::exponential::UniC;
use langevin::schedulers::inverse::DpsSteps;
use langevin::schedulers::sigma::{Churn, Churned};
use langevin::schedulers::{
    Picard, Plan, PlanError, PredictorCorrector, RePaint, Restart, Sampler, SamplerExt, Solver,
};

pub struct Column {
    pub name: &'static str,
    /// What it means, for the page.
    pub what: &'static str,
    pub cell: fn(&Row) -> Cell,
}

/// What changes the answers.
pub fn answers() -> Vec<Column> {
    let column = |name, what, cell| Column { name, what, cell };
    vec![
        column("guided", "`.guided(..)` or `.autoguided(..)`", |row| asked(row, &guided(2.0))),
        column("rescaled", "`.rescaled(0.7)`, `.between(0.3, 5.0)`", |row| {
            asked(row, &settled(guided(2.0).rescaled(0.7).and_then(|guided| guided.between(0.3, 5.0))))
        }),
        column("projected", "`.projected(..)` without momentum", |row| {
            asked(row, &settled(guided(2.0).projected(Projection::new())))
        }),
        column("momentum", "`.projected(..)` with momentum, which is memory of the run", |row| {
            asked(row, &settled(guided(2.0).projected(settled(Projection::new().momentum(-0.5)))))
        }),
        column("CFG-Zero*", "`.zero_star(1)`, which is memory of the run", |row| {
            asked(row, &settled(guided(2.0).zero_star(1)))
        }),
        column("CFG++", "`.plus_plus()`; for solvers that want it, with another scale than they have alone", |row| {
            let wanted = sampler(row, Way::Sampling).is_ok_and(|sampler| sampler.needs_split());
            asked(row, &settled(guided(if wanted { 0.3 } else { 0.6 }).plus_plus()))
        }),
        column("composed", "`.composed(..)` or `.composed_with(..)`", |row| {
            asked(row, &settled(answer(1.0).composed_with(vec![(answer(-0.5), 1.5), (answer(2.0), -0.5)])))
        }),
        column("self-conditioned", "`.self_conditioned(..)`, which is memory of the run", |row| {
            let bound = settled(Told.denoiser(Prediction::Velocity, ()));
            asked(row, &bound.self_conditioned(SelfCondition::After))
        }),
        column("thresholded", "`.thresholded(..)`, which leaves ε̂ as it is", |row| {
            asked(row, &settled(answer(1.0).thresholded(Threshold::Static { range: 0.4 })))
        }),
        column("and ε̂", "`.thresholded(..)?.rederive_eps()`", |row| {
            asked(row, &settled(answer(1.0).thresholded(Threshold::Static { range: 0.4 })).rederive_eps())
        }),
        column("energy", "`EnergyGuided::of_clean(..)`", |row| {
            let energy = energy_fn(|x: Tensor<2>, _: &Levels| Ok(x.sin().sum_dim(1).reshape([-1])));
            asked(row, &EnergyGuided::of_clean(answer(1.0), energy))
        }),
        column("DPS", "`inverse::Dps`", |row| asked(row, &measured(Dps::with_weight(answer(1.0), measurement(), 0.5)))),
        column("ΠGDM", "`inverse::PiGdm`", |row| asked(row, &measured(PiGdm::new(answer(1.0), measurement())))),
        column("filled", "`inverse::Filled`", |row| asked(row, &Filled::new(answer(1.0), known()))),
    ]
}

/// What changes the run.
pub fn runs() -> Vec<Column> {
    let column = |name, what, cell| Column { name, what, cell };
    vec![
        column("constraint", "`run.constrained(..)`", |row| {
            let clamp = settled(Clamp::new(-0.3, 0.3));
            compared(row, || run_alone(&*sampler(row, Way::Sampling)?, Some(&clamp)))
        }),
        column("known region", "`inverse::KnownRegion` as a constraint", |row| {
            let known = known();
            compared(row, || run_alone(&*sampler(row, Way::Sampling)?, Some(&known)))
        }),
        column("DPS steps", "`inverse::DpsSteps::new(plan, ..)`", |row| {
            let Made::Planned { solver, .. } = &row.made else { return Cell::NoMethod };
            compared(row, || {
                let plan = plan(&**solver, Way::Sampling)?;
                run_alone(&DpsSteps::new(plan, measurement(), 0.1).map_err(refused)?, None)
            })
        }),
        column("corrections", "`PredictorCorrector::new(plan, ..)`", |row| {
            let Made::Planned { solver, .. } = &row.made else { return Cell::NoMethod };
            compared(row, || {
                let corrected = PredictorCorrector::new(plan(&**solver, Way::Sampling)?, 0.16, 1).map_err(refused)?;
                run_alone(&corrected, None)
            })
        }),
        column("UniC", "`UniC::behind(solver, 1)`", |row| {
            let Made::Planned { solver, .. } = &row.made else { return Cell::NoMethod };
            compared(row, || {
                let corrected = UniC::behind(Borrowed(&**solver), 1).map_err(refused)?;
                run_alone(&plan(&corrected, Way::Sampling)?, None)
            })
        }),
        column("churn", "`.churn(..)`, or `sigma::Churned::new(solver, ..)` where there is no such method", |row| {
            let Made::Planned { solver, churned } = &row.made else { return Cell::NoMethod };
            compared(row, || {
                let around = || Churned::new(Borrowed(&**solver), Churn::new(1.0).expect("in range"));
                let plan =
                    churned.as_ref().map_or_else(|| plan(&around(), Way::Sampling), |own| plan(&**own, Way::Sampling));
                run_alone(&plan?, None)
            })
        }),
        column("Picard", "`Picard::over(plan, 3)`", |row| {
            let Made::Planned { solver, .. } = &row.made else { return Cell::NoMethod };
            // In parallel the samples are those of the plan.
            Cell::of(
                plan(&**solver, Way::Sampling)
                    .and_then(|plan| run_alone(&Picard::over(plan, 3).map_err(refused)?, None)),
            )
        }),
        column("Restart", "`Restart::around(solver)`", |row| {
            let Made::Planned { solver, .. } = &row.made else { return Cell::NoMethod };
            compared(row, || {
                let restart = Restart::around(Borrowed(&**solver)).interval(0.5, 2.0, 1).map_err(refused)?;
                run_alone(&plan(&restart, Way::Sampling)?, None)
            })
        }),
        column("RePaint", "`RePaint::around(solver)`", |row| {
            let Made::Planned { solver, .. } = &row.made else { return Cell::NoMethod };
            compared(row, || {
                let repaint = RePaint::around(Borrowed(&**solver)).jumps(2, 2).map_err(refused)?;
                run_alone(&plan(&repaint, Way::Sampling)?, None)
            })
        }),
        column("inversion", "`grid.inverted()`, or from a clean time to a noisy one", |row| {
            Cell::of(sampler(row, Way::Inversion).and_then(|sampler| run_alone(&*sampler, None)))
        }),
        column("α = 0", "a start at pure noise, with a network that predicts velocity or flow", |row| {
            Cell::of(sampler(row, Way::PureNoise).and_then(|sampler| run_alone(&*sampler, None)))
        }),
    ]
}

/// Combinators that exclude each other.
pub fn excluded() -> Vec<(&'static str, &'static str, Result<(), DenoiseError>)> {
    let projected = || guided(2.0).projected(Projection::new());
    let derived = settled(settled(guided(0.6).plus_plus()).thresholded(Threshold::Static { range: 1.0 }));
    let clipped = || settled(answer(1.0).thresholded(Threshold::Static { range: 0.1 }));
    let inside = settled(clipped().autoguided(answer(-0.5), 2.0));
    let filled = Filled::new(settled(guided(0.6).plus_plus()), known());
    vec![
        ("`.plus_plus()`", "`inverse::Filled` around it", Denoiser::<2>::check(&filled, &[3, 2])),
        ("`.projected(..)`", "`.zero_star(..)`", projected().and_then(|guided| guided.zero_star(0)).map(drop)),
        ("`.projected(..)`", "`.plus_plus()`", projected().and_then(Guided::plus_plus).map(drop)),
        ("`.zero_star(..)`", "`.plus_plus()`", guided(2.0).zero_star(0).and_then(Guided::plus_plus).map(drop)),
        ("`.plus_plus()`", "`.rederive_eps()` around it", Denoiser::<2>::check(&derived.rederive_eps(), &[3, 2])),
        ("`.rescaled(..)`", "`.thresholded(..)` inside", once(&settled(inside.clone().rescaled(0.5)))),
        ("`.zero_star(..)`", "`.thresholded(..)` inside", once(&settled(inside.clone().zero_star(0)))),
        (
            "`.projected(..on_outputs())`",
            "`.thresholded(..)` inside",
            once(&settled(inside.projected(Projection::new().on_outputs()))),
        ),
        (
            "`.zero_star(1)`",
            "a network that predicts ε",
            once(&settled(settled(noise_answer().autoguided(noise_answer(), 2.0)).zero_star(1))),
        ),
    ]
}

/// Of the two values of a sample the first is measured.
pub fn measurement() -> Measurement<Masking<2>, 2> {
    measured(Measurement::new(measured(Masking::new(row_of(1.0, 0.0))), row_of(0.4, 0.0), 0.1))
}

fn known() -> KnownRegion<2> {
    measured(KnownRegion::new(measured(Masking::new(row_of(1.0, 0.0))), row_of(0.4, 0.0)))
}

fn row_of(first: f64, second: f64) -> Tensor<2> {
    Tensor::from_data([[first, second]], (&Device::flex(), DType::F64))
}

fn measured<T>(made: Result<T, InverseError>) -> T {
    made.unwrap_or_else(|error| panic!("a setting of the test itself: {error}"))
}

fn once(denoiser: &dyn Denoiser<2>) -> Result<(), DenoiseError> {
    let levels = Levels::Shared(langevin::core::process::VpSde::default().level(0.5));
    let x = Tensor::ones([3, 2], (&Device::flex(), DType::F64));
    denoiser.denoise(langevin::core::Query { x, levels: &levels, past: &[], noise: &Seeded::new(0) }).map(drop)
}

fn settled<T>(made: Result<T, DenoiseError>) -> T {
    made.unwrap_or_else(|error| panic!("a setting of the test itself: {error}"))
}

/// A velocity network of the state.
fn answer(towards: f64) -> impl Denoiser<2> + DenoiserExt<2> + Clone {
    from_fn(Prediction::Velocity, move |x: Tensor<2>, levels: &Levels| {
        let wave = x.clone().add_scalar(towards).sin();
        Ok(levels.map(|level| 0.5 + level.sigma).times(wave).add(x.mul_scalar(0.2 * towards)))
    })
}

/// CFG++ of two such networks.
fn two_answers() -> Guided<impl Answers<2> + Clone> {
    settled(guided(0.6).plus_plus())
}

fn noise_answer() -> impl Denoiser<2> + DenoiserExt<2> {
    from_fn(Prediction::Epsilon, |x: Tensor<2>, _: &Levels| Ok(x))
}

fn guided(scale: f64) -> Guided<impl Answers<2> + Clone> {
    settled(answer(1.0).autoguided(answer(-0.5), scale))
}

/// A network that is told its last estimate.
#[derive(Clone, Debug)]
struct Told;

impl Network<2> for Told {
    type Cond = ();
    fn forward(&self, x: Tensor<2>, _: Tensor<1>, _: &()) -> Result<Tensor<2>, DenoiseError> {
        Ok(x.clone().narrow(1, 0, 2).sin().add(x.narrow(1, 2, 2).mul_scalar(0.3)))
    }
    fn for_sampling(&self) -> Self {
        Told
    }
}

struct Borrowed<'a>(&'a dyn Solver);

impl Solver for Borrowed<'_> {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        self.0.plan(process, grid)
    }
    fn churned(&self, churn: &Churn, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        self.0.churned(churn, process, grid)
    }
}

fn sampler(row: &Row, way: Way) -> Outcome<Box<dyn Sampler<2>>> {
    match &row.made {
        Made::Planned { solver, .. } => Ok(Box::new(plan(&**solver, way)?)),
        Made::Sampler(make) => make(way),
    }
}

/// A run without guidance, or with CFG++ where the solver is for that.
fn run_alone(sampler: &dyn Sampler<2>, constraint: Option<&dyn Constraint<2>>) -> Outcome<Vec<f64>> {
    if sampler.needs_split() {
        return run(sampler, &two_answers(), constraint);
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

/// Whether the samples differ from those of the solver alone.
fn compared(row: &Row, of: impl FnOnce() -> Outcome<Vec<f64>>) -> Cell {
    let alone = sampler(row, Way::Sampling).and_then(|sampler| run_alone(&*sampler, None));
    let alone = alone.unwrap_or_else(|refused| panic!("{} alone: {}", row.name, refused.message));
    match of() {
        Ok(x) if x == alone => Cell::NoEffect,
        other => Cell::of(other),
    }
}

fn asked(row: &Row, denoiser: &dyn Denoiser<2>) -> Cell {
    compared(row, || run(&*sampler(row, Way::Sampling)?, denoiser, None))
}
