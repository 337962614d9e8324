//! A solver, a guidance and a plan of one's own, on a problem whose answer is known.
//!
//! `cargo run --release --example custom_sampler`

use langevin::core::exact::{Posterior, correlated_mixture};
use langevin::prelude::*;
use langevin::schedulers::plan::{Eval, Row, Set, Src, Term};
use langevin::schedulers::{Context, PlanError, RunState, Step};

/// (1) A sampler: the probability flow by the midpoint rule, written as a loop body. Adaptive rules, accept/reject
/// steps and the like go here: anything that looks at the data.
struct Midpoint {
    process: VpSde,
    times: Vec<f64>,
}

impl Midpoint {
    /// dx/dt = α̇·x̂_0 + σ̇·ε̂.
    fn slope<const D: usize>(
        &self,
        x: Tensor<D>,
        t: f64,
        state: &mut RunState<D>,
        cx: &Context<'_, D>,
    ) -> Result<(Tensor<D>, Tensor<D>), SampleError> {
        let estimate = cx.ask(state, x, &Levels::Shared(self.process.level(t)))?;
        let x0 = estimate.x0()?;
        let slope =
            x0.clone().mul_scalar(self.process.alpha_dot(t)) + estimate.eps()?.mul_scalar(self.process.sigma_dot(t));
        Ok((slope, x0))
    }
}

impl<const D: usize> Sampler<D> for Midpoint {
    fn advance(&self, state: &mut RunState<D>, cx: &Context<'_, D>) -> Result<Option<Step<D>>, SampleError> {
        let Some(&[t, s]) = self.times.get(state.steps()..state.steps() + 2) else { return Ok(None) };
        let (x, h) = (state.x(), s - t);
        let (slope, _) = self.slope(x.clone(), t, state, cx)?;
        let (slope, x0) = self.slope(x.clone() + slope.mul_scalar(h / 2.0), t + h / 2.0, state, cx)?;
        state.set_x(x + slope.mul_scalar(h));
        Ok(Some(state.step(Levels::Shared(self.process.level(s)), Some(x0))))
    }

    fn start_levels(&self) -> Levels {
        Levels::Shared(self.process.level(self.times[0]))
    }

    fn prior_std(&self) -> f64 {
        self.process.prior_std()
    }
}

/// (2) A guidance: pulls x̂_0 towards a point, the more the less noise there is, and lets ε̂ follow.
struct Pull<T> {
    inner: T,
    towards: [f64; 2],
    strength: f64,
}

impl<T: Denoiser<2>> Denoiser<2> for Pull<T> {
    fn denoise(&self, query: Query<'_, 2>) -> Result<Estimate<2>, DenoiseError> {
        let weight = query.levels.map(|level| self.strength * level.alpha * level.alpha);
        let estimate = self.inner.denoise(query)?;
        let x0 = estimate.x0()?;
        let target = Tensor::<2>::from_data([self.towards], &x0.device()).expand(x0.dims());
        let pulled = x0.clone() + weight.times(target - x0);
        Ok(estimate.rederive(pulled)?)
    }
}

/// (3) A plan: the exponential midpoint rule in λ, a table that can be printed, saved and proven.
struct ExponentialMidpoint;

impl Solver for ExponentialMidpoint {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        let stops = grid.stops(process)?;
        let mut rows = Vec::new();
        for (index, stop) in stops.iter().enumerate() {
            let (t, s) = (stop.from.level, stop.to.level);
            let middle = process.node(process.time_at_lambda(0.5 * (t.lambda() + s.lambda()))?);
            // A step of DDIM from t to `to`, with the clean sample of `slot`.
            let step = |to: Level, slot| {
                let h = to.lambda() - t.lambda();
                let keep = Term::new(to.sigma / t.sigma, Src::X(0));
                [keep, Term::new(-to.alpha * (-h).exp_m1(), Src::X0(slot))]
            };
            let row = |eval, post, step, after| Row {
                draws: vec![],
                pre: vec![],
                eval: Some(eval),
                post: vec![post],
                step,
                after,
                report: vec![Term::new(1.0, Src::X0(0))],
            };
            rows.push(row(Eval { at: t, x: 0, into: 0 }, Set::new(1, step(middle.level, 0)), None, middle));
            rows.push(row(
                Eval { at: middle.level, x: 1, into: 0 },
                Set::new(0, step(s, 0)),
                Some(index as u32),
                stop.to,
            ));
        }
        Ok(Plan::new("exponential midpoint", stops[0].from, process.prior_std(), rows)?.on(process))
    }
}

fn main() -> Result<(), Report> {
    let device = device("cpu")?;
    let process = VpSde::default();
    let exact = correlated_mixture()?;
    let (noise, shape) = (Seeded::new(5), [512, 2]);
    let denoiser = exact.denoiser(Prediction::Epsilon)?;
    let reference = ProbabilityFlow::rk4().plan(&process, &Grid::uniform(1000))?;
    let reference = reference.start(shape, &denoiser, &noise, Load::on(&device))?.finish()?;
    let error = |x: Tensor<2>| (x - reference.clone()).abs().mean().into_scalar::<f64>();

    println!("mean distance to the exact flow:\nsteps  midpoint  exponential midpoint");
    for n in [10, 20, 40, 80] {
        let (clean, noisy) = process.time_range();
        let times = (0..=n).map(|i| noisy + (clean - noisy) * f64::from(i) / f64::from(n)).collect();
        let loop_body = Midpoint { process: process.clone(), times };
        let of_loop = error(loop_body.start(shape, &denoiser, &noise, Load::on(&device))?.finish()?);
        let plan = ExponentialMidpoint.plan(&process, &Grid::uniform_lambda(n as usize))?;
        let of_plan = error(plan.start(shape, &denoiser, &noise, Load::on(&device))?.finish()?);
        println!("{n:>5}  {of_loop:.6}  {of_plan:.6}");
    }
    println!("\n{}", ExponentialMidpoint.plan(&process, &Grid::uniform_lambda(2))?);

    let pulled = Pull { inner: &denoiser, towards: [1.0, 1.0], strength: 0.8 };
    let plan = Ddim::new().plan(&process, &Grid::uniform(50))?;
    for (name, x) in [
        ("unguided", plan.start(shape, &denoiser, &noise, Load::on(&device))?.finish()?),
        ("pulled towards (1, 1)", plan.start(shape, &pulled, &noise, Load::on(&device))?.finish()?),
    ] {
        println!("{name:<22} mean {:?}", x.mean_dim(0).try_to_vec_as::<f32>()?);
    }
    Ok(())
}
