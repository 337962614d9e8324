//! Against loops of the published formulas, which stand here in their own frame: y = x/α over s = σ/α.

use super::*;
use crate::exponential::{SaSolver, SecondOrder, Singlestep, UniC, UniPc};
use crate::plan::HostAnswer;
use crate::sigma::{Churned, Dpm2, Euler, EulerAncestral, GradientEstimation, Heun, ancestral_step};
use crate::{
    Ddim, Ddpm, Deis, DpmSolver, EulerMaruyama, Picard, PredictorCorrector, ProbabilityFlow, Restart, SampleError,
    SamplerExt, flow, names,
};
use burn::tensor::{DType, Device, Tensor};
use langevin_core::denoiser::from_fn;
use langevin_core::noise::Seeded;
use langevin_core::process::{Edm, RectifiedFlow, VpSde};
use langevin_core::{Denoiser, DenoiserExt, Levels, Load, NoiseSource, Prediction};

/// The clean sample without and with the condition, of y at s.
fn unconditional(y: f64, s: f64) -> f64 {
    0.3 * y / (1.0 + s) + (0.7 * y + 0.2).sin()
}

fn conditional(y: f64, s: f64) -> f64 {
    0.8 + 0.2 * y / (1.0 + s) - (0.4 * y - s / (1.0 + s)).cos()
}

/// What CFG++ answers at a scale.
fn answer(scale: f64) -> impl Fn(&[f64], &Level) -> HostAnswer {
    move |x, at| {
        let (y, s) = (x[0] / at.alpha, at.sigma / at.alpha);
        let (with, without) = (conditional(y, s), unconditional(y, s));
        let guided = without + scale * (with - without);
        HostAnswer { x0: vec![guided], eps: vec![(y - without) / s], variance: None }
    }
}

/// What the published loops have in common: levels s, the noise of each step, and the two answers.
struct Loop {
    s: Vec<f64>,
    z: Vec<f64>,
    scale: f64,
}

impl Loop {
    fn of(plan: &Plan, noise: &dyn NoiseSource, scale: f64) -> Self {
        let ratio = |level: Level| level.sigma / level.alpha;
        let ends = plan.rows().iter().filter(|row| row.step.is_some()).map(|row| ratio(row.after.level));
        let s = std::iter::once(ratio(plan.start_node().level)).chain(ends).collect();
        let mut z = vec![0.0; plan.steps()];
        for (index, row) in plan.rows().iter().enumerate() {
            for key in row.draws.iter().filter_map(|draw| draw.key(index)) {
                let step = row.step.expect("noise at the end of a step") as usize;
                noise.fill(0, key, &mut z[step..=step]).expect("seeded noise");
            }
        }
        Self { s, z, scale }
    }

    /// û_0 and the guided x̂_0.
    fn ask(&self, y: f64, s: f64) -> (f64, f64) {
        let without = unconditional(y, s);
        (without, without + self.scale * (conditional(y, s) - without))
    }

    fn euler(&self, mut y: f64, eta: f64) -> f64 {
        for (i, pair) in self.s.windows(2).enumerate() {
            let (down, up) = ancestral_step(pair[0], pair[1], eta);
            let (u, guided) = self.ask(y, pair[0]);
            y = guided + (y - u) / pair[0] * down + self.z[i] * up;
        }
        y
    }

    fn gradient_estimation(&self, mut y: f64) -> f64 {
        let mut last = 0.0;
        for (i, pair) in self.s.windows(2).enumerate() {
            let (u, guided) = self.ask(y, pair[0]);
            let slope = (y - u) / pair[0];
            y = guided + slope * pair[1];
            if i > 0 && pair[1] > 0.0 {
                y += (2.0 - 1.0) * (slope - last) * (pair[1] - pair[0]);
            }
            last = slope;
        }
        y
    }

    fn multistep(&self, mut y: f64) -> f64 {
        let mut last = None;
        for (i, pair) in self.s.windows(2).enumerate() {
            let (u, guided) = self.ask(y, pair[0]);
            let decay = pair[1] / pair[0];
            let mut mixed = -decay * u;
            if let Some(old) = last.filter(|_| pair[1] > 0.0) {
                let (h, before) = (-decay.ln(), (self.s[i - 1] / pair[0]).ln());
                mixed += (1.0 - decay) / (2.0 * before / h) * (guided - old);
            }
            y = guided + mixed + decay * y;
            last = Some(u);
        }
        y
    }

    fn singlestep_ancestral(&self, mut y: f64, eta: f64) -> f64 {
        for (i, pair) in self.s.windows(2).enumerate() {
            let (down, up) = ancestral_step(pair[0], pair[1], eta);
            let (u, guided) = self.ask(y, pair[0]);
            let guidance = guided - u;
            if down == 0.0 {
                y = u;
            } else {
                let middle = (pair[0] * down).sqrt();
                let inner = middle / pair[0] * y + (1.0 - middle / pair[0]) * u;
                let (second, _) = self.ask(inner, middle);
                y = down / pair[0] * y + (1.0 - down / pair[0]) * second;
            }
            y += self.z[i] * up + guidance;
        }
        y
    }

    fn res(&self, mut y: f64, eta: f64) -> f64 {
        let mut last: Option<(f64, f64)> = None;
        for (i, pair) in self.s.windows(2).enumerate() {
            let (down, up) = ancestral_step(pair[0], pair[1], eta);
            let (u, guided) = self.ask(y, pair[0]);
            match last.filter(|_| down > 0.0) {
                Some((old, last_down)) => {
                    let h = (pair[0] / down).ln();
                    let second = (last_down.ln() - self.s[i - 1].ln()) / h;
                    let phi1 = (1.0 - (-h).exp()) / h;
                    let phi2 = (1.0 - phi1) / h;
                    let (b1, b2) = (phi1 - phi2 / second, phi2 / second);
                    y = (-h).exp() * (y + guided - u) + h * (b1 * u + b2 * old);
                }
                None => y = guided + (y - u) / pair[0] * down,
            }
            y += self.z[i] * up;
            last = Some((u, down));
        }
        y
    }
}

#[test]
fn names_with_cfg_pp_are_the_published_loops() {
    let noise = Seeded::new(7);
    let grids: [(&dyn Process, Grid); 4] = [
        (&Edm::default(), Grid::karras(7, 7.0).unwrap()),
        (&VpSde::default(), Grid::uniform(7)),
        (&VpSde::default(), Grid::uniform_lambda(7)),
        (&RectifiedFlow::new(), Grid::uniform(7).between(0.9, 0.1)),
    ];
    let mut apart: f64 = f64::INFINITY;
    for (process, grid) in grids {
        for scale in [0.0, 0.6, 1.0, 1.7] {
            type Published = fn(&Loop, f64) -> f64;
            let cases: [(&str, Published); 8] = [
                ("euler_cfg_pp", |of, y| of.euler(y, 0.0)),
                ("euler_ancestral_cfg_pp", |of, y| of.euler(y, 1.0)),
                ("gradient_estimation_cfg_pp", |of, y| of.gradient_estimation(y)),
                ("dpmpp_2m_cfg_pp", |of, y| of.multistep(y)),
                ("dpmpp_2s_ancestral_cfg_pp", |of, y| of.singlestep_ancestral(y, 1.0)),
                ("res_multistep_cfg_pp", |of, y| of.res(y, 0.0)),
                ("res_multistep_ancestral_cfg_pp", |of, y| of.res(y, 1.0)),
                // Without noise it is Euler in σ/α.
                ("DDIM CFG++", |of, y| of.euler(y, 0.0)),
            ];
            for (name, published) in cases {
                let named = names::from_name(name).unwrap();
                let plan = named.solver(process, 7).unwrap().0.plan(process, &grid).unwrap();
                assert_eq!((plan.steps(), plan.needs_split()), (7, true), "{name}");
                let start = plan.start_node().level;
                let y = 1.3 * start.sigma / start.alpha;
                let expected = published(&Loop::of(&plan, &noise, scale), y);
                let run = |plan: &Plan| {
                    let end = plan.run_host(vec![y * start.alpha], 0, &noise, answer(scale)).unwrap();
                    end[0] / plan.rows()[plan.rows().len() - 1].after.level.alpha
                };
                let found = run(&plan);
                assert!((found - expected).abs() < 1e-11, "{name} on {process:?} at {scale}: {found}, {expected}");
                if ["dpmpp_2m_cfg_pp", "dpmpp_2s_ancestral_cfg_pp", "res_multistep_cfg_pp"].contains(&name)
                    && scale > 0.0
                {
                    // The name without it takes both answers for one.
                    let base = names::from_name(name.strip_suffix("_cfg_pp").unwrap()).unwrap();
                    let base = base.solver(process, 7).unwrap().0.plan(process, &grid).unwrap();
                    apart = apart.min((run(&base) - expected).abs());
                }
            }
        }
    }
    assert!(apart > 1e-3, "the solver alone does the same: {apart}");
}

fn solvers() -> Vec<Box<dyn Solver>> {
    let multi = |order| DpmSolver::multistep(order).unwrap();
    let line = multi(2).second_order(SecondOrder::Heun);
    vec![
        Box::new(PlusPlus::around(multi(2))),
        Box::new(PlusPlus::around(multi(2)).guided_at(GuidedAt::Slope)),
        Box::new(PlusPlus::around(line).guided_at(GuidedAt::Beginning)),
        Box::new(PlusPlus::around(Deis::new(3).unwrap())),
        Box::new(PlusPlus::around(Ddpm::new())),
        Box::new(PlusPlus::around(Singlestep::new(3).unwrap().sde(1.0).unwrap())),
        Box::new(PlusPlus::around(ProbabilityFlow::rk4())),
        Box::new(PlusPlus::around(EulerMaruyama::new())),
        Box::new(PlusPlus::around(Heun::new())),
        Box::new(PlusPlus::around(Dpm2::new())),
        Box::new(Churned::new(PlusPlus::around(multi(2)), Churn::new(2.0).unwrap())),
        Box::new(PlusPlus::around(Churned::new(multi(2), Churn::new(2.0).unwrap()))),
        Box::new(Restart::around(PlusPlus::around(multi(2))).interval(0.5, 2.0, 1).unwrap()),
        Box::new(PlusPlus::around(Restart::around(multi(2)).interval(0.5, 2.0, 1).unwrap())),
    ]
}

fn bare() -> Vec<Box<dyn Solver>> {
    let multi = |order| DpmSolver::multistep(order).unwrap();
    let line = multi(2).second_order(SecondOrder::Heun);
    let restart = || Restart::around(multi(2)).interval(0.5, 2.0, 1).unwrap();
    let churned = || Churned::new(multi(2), Churn::new(2.0).unwrap());
    vec![
        Box::new(multi(2)),
        Box::new(multi(2)),
        Box::new(line),
        Box::new(Deis::new(3).unwrap()),
        Box::new(Ddpm::new()),
        Box::new(Singlestep::new(3).unwrap().sde(1.0).unwrap()),
        Box::new(ProbabilityFlow::rk4()),
        Box::new(EulerMaruyama::new()),
        Box::new(Heun::new()),
        Box::new(Dpm2::new()),
        Box::new(churned()),
        Box::new(churned()),
        Box::new(restart()),
        Box::new(restart()),
    ]
}

/// Where nothing is guided, x̂_0 is û_0, and each solver is what it is alone.
#[test]
fn without_guidance_it_is_the_solver() {
    let (vp, noise) = (VpSde::default(), Seeded::new(3));
    let grid = Grid::uniform_lambda(9).ending(langevin_core::grid::End::Range);
    for (guided, bare) in solvers().into_iter().zip(bare()) {
        let (guided, bare) = (guided.plan(&vp, &grid).unwrap(), bare.plan(&vp, &grid).unwrap());
        assert!(guided.needs_split() && !bare.needs_split(), "{}", guided.name());
        let run = |plan: &Plan, scale| plan.run_host(vec![0.8], 0, &noise, answer(scale)).unwrap()[0];
        let (found, expected) = (run(&guided, 0.0), run(&bare, 0.0));
        assert!((found - expected).abs() < 1e-10 * (1.0 + expected.abs()), "{}: {found}, {expected}", guided.name());
        assert!((run(&guided, 0.6) - found).abs() > 1e-3, "{} is not guided", guided.name());
    }
}

/// One step of any kind is the solver's step without the condition, and α' times what the condition adds.
#[test]
fn a_step_is_unconditional_with_guidance_on_top() {
    let vp = VpSde::default();
    let grid = Grid::times(vec![0.6, 0.35]).unwrap().ending(langevin_core::grid::End::Range);
    let noise = Seeded::new(3);
    for (guided, bare) in solvers().into_iter().zip(bare()).take(10) {
        let (guided, bare) = (guided.plan(&vp, &grid).unwrap(), bare.plan(&vp, &grid).unwrap());
        let (from, to) = (vp.level(0.6), vp.level(0.35));
        let (x, scale) = (0.4, 0.6);
        let (y, s) = (x / from.alpha, from.sigma / from.alpha);
        let guidance = scale * (conditional(y, s) - unconditional(y, s));
        let run = |plan: &Plan, scale| plan.run_host(vec![x], 0, &noise, answer(scale)).unwrap()[0];
        let (found, expected) = (run(&guided, scale), run(&bare, 0.0) + to.alpha * guidance);
        assert!((found - expected).abs() < 1e-12, "{}: {found}, {expected}", guided.name());
    }
}

#[test]
fn solvers_that_go_on_from_both_answers_stay_as_they_are() {
    let (vp, grid) = (VpSde::default(), Grid::uniform(6));
    let pairs: [(Box<dyn Solver>, Box<dyn Solver>); 4] = [
        (Box::new(PlusPlus::around(Ddim::new().eta(0.4).unwrap())), Box::new(Ddim::new().eta(0.4).unwrap())),
        (Box::new(PlusPlus::around(Euler::new())), Box::new(Euler::new())),
        (Box::new(PlusPlus::around(EulerAncestral::new())), Box::new(EulerAncestral::new())),
        (Box::new(PlusPlus::around(GradientEstimation::new())), Box::new(GradientEstimation::new())),
    ];
    for (guided, bare) in pairs {
        let (guided, bare) = (guided.plan(&vp, &grid).unwrap(), bare.plan(&vp, &grid).unwrap());
        assert_eq!(guided.rows(), bare.rows(), "{}", guided.name());
        assert_eq!(guided.name(), format!("{} with CFG++", bare.name()));
        let read: Plan = serde_json::from_str(&serde_json::to_string(&guided).unwrap()).unwrap();
        assert!(read.needs_split() && read == guided && !bare.needs_split());
    }
}

#[test]
fn solvers_with_other_states_are_refused() {
    let (vp, grid) = (VpSde::default(), Grid::uniform(6));
    let refused = |solver: &dyn Solver| match solver.plan(&vp, &grid) {
        Err(PlanError::Combination { first, reason, .. }) => (first, reason),
        other => panic!("{other:?}"),
    };
    for solver in [
        Box::new(PlusPlus::around(UniPc::new(2).unwrap())) as Box<dyn Solver>,
        Box::new(PlusPlus::around(SaSolver::new(2, 2).unwrap())),
    ] {
        let (first, reason) = refused(&*solver);
        assert!(first == "CFG++" && reason.contains("states of earlier steps"), "{reason}");
    }
    let late = Euler::new().churn(Churn::new(1.0).unwrap()).churn_after_asking(Prediction::Epsilon);
    assert!(refused(&PlusPlus::around(late)).1.contains("begin with a question"));
    assert!(refused(&PlusPlus::around(PlusPlus::around(Ddim::new()))).1.contains("already"));
    let (first, reason) = refused(&UniC::behind(PlusPlus::around(Ddim::new()), 1).unwrap());
    assert!(first == "UniC" && reason.contains("unconditional"), "{reason}");
    let plan = PlusPlus::around(Ddim::new()).plan(&vp, &grid).unwrap();
    let error = PredictorCorrector::new(plan, 0.16, 1).unwrap_err();
    assert!(matches!(error, PlanError::Combination { .. }), "{error}");
}

/// A table of one's own: DPM-Solver++ 2M, with one of its factors on `of` learned.
struct Learned {
    of: Src,
}

impl Solver for Learned {
    fn plan(&self, process: &dyn Process, grid: &Grid) -> Result<Plan, PlanError> {
        let plan = DpmSolver::multistep(2)?.plan(process, grid)?;
        let (start, std, mut rows) = (plan.start_node(), plan.prior_deviation(), plan.rows().to_vec());
        let slot = rows[2].eval.expect("a question").into;
        let term = rows[2].post[0].sum.iter_mut().find(|term| term.of == self.of).expect("a term");
        term.c = Coef::LearnedStd { slot, log_min: -2.0, log_max: -1.0 };
        Ok(Plan::new("learned", start, std, rows)?)
    }
}

/// Where the guidance depends on a factor that the network answers, nothing may drop it.
#[test]
fn learned_factors_on_what_is_guided_are_refused() {
    let (vp, grid) = (VpSde::default(), Grid::uniform(6));
    let plan = DpmSolver::multistep(2).unwrap().plan(&vp, &grid).unwrap();
    let row = &plan.rows()[2];
    let asked = row.eval.unwrap().into;
    let answers = row.post[0].sum.iter().filter_map(|term| if let Src::X0(slot) = term.of { Some(slot) } else { None });
    let (own, older): (Vec<Slot>, Vec<Slot>) = answers.partition(|slot| *slot == asked);
    let (own, older) = (Src::X0(own[0]), Src::X0(older[0]));
    let planned = |of, place| PlusPlus::around(Learned { of }).guided_at(place).plan(&vp, &grid);
    for (of, place) in [
        (own, GuidedAt::End),
        (own, GuidedAt::Slope),
        (own, GuidedAt::Beginning),
        (older, GuidedAt::Slope),
        (Src::X(0), GuidedAt::Beginning),
    ] {
        let error = planned(of, place).unwrap_err();
        let is_it =
            matches!(&error, PlanError::Combination { first, second, .. } if first == NAME && second == "learned");
        assert!(is_it && error.to_string().contains("learned deviations"), "{of}, {place:?}: {error}");
    }
    // Elsewhere it stays in the sum.
    for (of, place) in [(older, GuidedAt::End), (older, GuidedAt::Beginning), (Src::X(0), GuidedAt::End)] {
        let plan = planned(of, place).unwrap();
        let kept = |term: &&Term| matches!(term.c, Coef::LearnedStd { .. });
        assert_eq!(plan.rows()[2].post.iter().flat_map(|set| &set.sum).filter(kept).count(), 1, "{of}, {place:?}");
    }
}

/// û_0 does not follow from ε̂ in pure noise. Steps of order 1 do without it.
#[test]
fn pure_noise_is_left_in_steps_of_order_1() {
    let (flow, grid) = (RectifiedFlow::new(), Grid::uniform(6));
    for name in ["euler_cfg_pp", "dpmpp_2m_cfg_pp", "dpmpp_2s_ancestral_cfg_pp", "res_multistep_ancestral_cfg_pp"] {
        let plan = names::from_name(name).unwrap().solver(&flow, 6).unwrap().0.plan(&flow, &grid).unwrap();
        assert_eq!(plan.start_node().level.alpha, 0.0);
        let to = plan.rows()[0].after.level;
        // All of the state is noise there.
        let model = |_: &[f64], _: &Level| HostAnswer { x0: vec![0.4], eps: vec![0.9], variance: None };
        let mut first = None;
        let step = |step: crate::plan::HostStep<'_>| first = first.or(Some(step.x[0]));
        plan.run_host_steps(vec![0.9], 0, &Seeded::new(1), model, step).unwrap();
        let (expected, first) = (to.alpha * 0.4 + to.sigma * 0.9, first.unwrap());
        // Ancestral noise takes the place of all of ε̂.
        let is_it = (first - expected).abs() < 1e-12;
        assert_eq!(is_it, !plan.is_stochastic(), "{name}: {first} and {expected}");
    }
    let error = PlusPlus::around(flow::Heun::new()).plan(&flow, &grid).unwrap_err();
    assert!(matches!(error, PlanError::Singular { solver: "CFG++", t: 1.0, alpha: 0.0, .. }), "{error}");
}

#[test]
fn runs_want_the_answers_of_plus_plus() {
    let vp = VpSde::default();
    let (noise, load) = (Seeded::new(5), Load::on(&Device::flex()).dtype(DType::F64));
    let network = |which: fn(f64, f64) -> f64| {
        from_fn(Prediction::Sample, move |x: Tensor<2>, levels: &Levels| {
            let at = |row: usize| match levels {
                Levels::Shared(level) => *level,
                Levels::Each(levels) => levels[row],
            };
            let values: Vec<f64> = x.try_to_vec_as::<f64>().unwrap();
            let of = |(row, x): (usize, &f64)| which(x / at(row).alpha, at(row).sigma / at(row).alpha);
            let answers: Vec<f64> = values.iter().enumerate().map(of).collect();
            Ok(Tensor::<1>::from_data(answers.as_slice(), (&x.device(), DType::F64)).reshape(x.dims()))
        })
    };
    let plain = || DenoiserExt::<2>::autoguided(network(conditional), network(unconditional), 0.6).unwrap();
    let split = plain().plus_plus().unwrap();
    let grid = Grid::uniform(6);
    let bare = DpmSolver::multistep(2).unwrap();
    let plan = PlusPlus::around(bare.clone()).plan(&vp, &grid).unwrap();
    let start = |denoiser: &dyn Denoiser<2>| plan.start([3, 1], denoiser, &noise, load.clone()).map(drop);
    let error = start(&plain()).unwrap_err();
    assert!(matches!(&error, SampleError::NotSplit { sampler } if sampler == plan.name()), "{error}");
    assert!(error.to_string().contains("call `.plus_plus()`"), "{error}");
    let other = bare.plan(&vp, &grid).unwrap().start([3, 1], &split, &noise, load.clone()).map(drop);
    let other = other.unwrap_err();
    assert!(matches!(&other, SampleError::Split { sampler } if sampler.contains("2M")), "{other}");
    // On tensors as on the host.
    let run = plan.start([3, 1], &split, &noise, load.clone()).unwrap();
    let x: Vec<f64> = run.state().x().try_to_vec_as::<f64>().unwrap();
    let found: Vec<f64> = run.finish().unwrap().try_to_vec_as::<f64>().unwrap();
    for (x, found) in x.into_iter().zip(found) {
        let expected = plan.run_host(vec![x], 0, &noise, answer(0.6)).unwrap()[0];
        assert!((found - expected).abs() < 1e-11, "{found} and {expected}");
    }
    // What wraps a plan wants the same.
    let picard = Picard::over(plan.clone(), 3).unwrap();
    let error = picard.start([3, 1], &plain(), &noise, load.clone()).map(drop).unwrap_err();
    assert!(matches!(&error, SampleError::NotSplit { sampler } if sampler.starts_with("Picard")), "{error}");
    assert!(picard.start([3, 1], &split, &noise, load).unwrap().finish().is_ok());
}
