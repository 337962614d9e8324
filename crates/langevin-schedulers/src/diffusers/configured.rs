//! What a configuration becomes.

use super::consistency_models::{Angles, DECODER, TrainedSigmas};
use super::distilled::Distilled;
use super::edm::EdmSigmas;
use super::flow_heun::FlowChurn;
use super::flow_match::FlowSigmas;
use super::ipndm::Crash;
use super::karras_ve::Squares;
use super::lambdas::Lambdas;
use super::method::Method;
use super::options::Spacing;
use super::shift::Shift;
use super::sigmas::Sigmas;
use super::single_flows::EvenSigmas;
use super::{ConfigError, GridError, keys::Keys};
use crate::consistency::{Resize, Scalewise, Tcd};
use crate::plan::Plan;
use crate::sigma::{Churn, Lms};
use crate::solver::{PlanError, Solver};
use langevin_core::denoiser::Threshold;
use langevin_core::{Grid, Prediction, Process};
use std::sync::Arc;

/// A scheduler read from its configuration: process, prediction, thresholding, grids and solver.
#[derive(Clone, Debug)]
pub struct Configured {
    pub(super) class: String,
    pub(super) process: Arc<dyn Process>,
    pub(super) prediction: Prediction,
    pub(super) threshold: Option<Threshold>,
    pub(super) rederive: bool,
    /// Whether the network's output ends in channels of a variance, though the solver reads none.
    pub(super) drops_variance: bool,
    /// Whether what the original gets wrong is wrong here, too.
    pub(super) compat: bool,
    /// Keys of the file that other classes have.
    pub(super) ignored: Vec<String>,
    pub(super) schedule: Schedule,
    pub(super) method: Method,
}

/// How a number of steps becomes a grid.
#[derive(Clone, Debug)]
pub(super) enum Schedule {
    /// Whole steps of the chain.
    Steps { spacing: Spacing, offset: usize, walk: Walk },
    /// Sigmas over the chain.
    Sigmas(Sigmas),
    /// Sigmas of the classes that integrate in λ.
    Lambdas(Lambdas),
    /// Sigmas over EDM's range.
    Edm(EdmSigmas),
    /// Some of the steps that a network was distilled on.
    Distilled(Distilled),
    /// The squared sine.
    Crash(Crash),
    /// Sigmas of a flow.
    Flow(FlowSigmas),
    /// Some of the sigmas that a consistency model was trained on.
    Trained(TrainedSigmas),
    /// Angles of a TrigFlow.
    Angles(Angles),
    /// Sigmas in equal ratios, or the squares that are taken for them.
    Squares(Squares),
    /// The first step of a chain, the last, and some between.
    FirstToLast,
    /// Equal steps in continuous time.
    Uniform,
    /// Equal steps of a flow, shifted.
    Even(EvenSigmas),
    /// The two steps of the consistency decoder.
    Decoder,
}

/// Where steps on a chain go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Walk {
    /// To the next one.
    Joined,
    /// By one stride.
    Strided,
    /// From data to noise.
    Inverted,
}

impl Configured {
    /// Without a threshold, to be added by those that have one.
    pub(super) fn new(
        keys: &Keys,
        process: impl Process + 'static,
        prediction: Prediction,
        schedule: Schedule,
        method: Method,
    ) -> Self {
        let (class, process) = (keys.class().to_owned(), Arc::new(process));
        Self {
            class,
            process,
            prediction,
            threshold: None,
            rederive: false,
            drops_variance: false,
            compat: false,
            ignored: Vec::new(),
            schedule,
            method,
        }
    }

    /// Computes as diffusers does where diffusers is known to be wrong, too: to compare values, or to repeat samples of old.
    ///
    /// Otherwise a configuration is its method as published. The two differ where the original loses an order or the law of
    /// the data: in order 3 of DPM-Solver's multistep classes, DPMSolverSinglestepScheduler of order 2 for the SDE,
    /// PNDMScheduler for v, IPNDMScheduler, KarrasVeScheduler, UnCLIPScheduler, RePaintScheduler, DDPMScheduler whose noise
    /// does not vanish in a last step from above step 0, and the churn of FlowMatchHeunDiscreteScheduler.
    /// `docs/from-diffusers.md` has the reasons and what was measured. All other configurations, and conventions of the
    /// original that are as good as others, stay what they are.
    ///
    /// ```
    /// use langevin_schedulers::diffusers::from_config;
    /// let scheduler = from_config(r#"{"_class_name": "DPMSolverMultistepScheduler", "solver_order": 3}"#)?;
    /// let published = scheduler.clone().compat_diffusers();
    /// assert_ne!(scheduler.plan(20)?, published.plan(20)?);
    /// let second = from_config(r#"{"_class_name": "DPMSolverMultistepScheduler"}"#)?;
    /// assert_eq!(second.plan(20)?, second.clone().compat_diffusers().plan(20)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn compat_diffusers(mut self) -> Self {
        self.compat = true;
        self
    }

    /// The class that the configuration names.
    pub fn class(&self) -> &str {
        &self.class
    }

    /// Keys of the file that this class does not have, sorted by name: options of other classes that ask for nothing, as
    /// [`from_config`](super::from_config) says. They change nothing; diffusers ignores them, too, with a warning.
    ///
    /// ```
    /// use langevin_schedulers::diffusers::from_config;
    /// let scheduler = from_config(r#"{"_class_name": "PNDMScheduler", "skip_prk_steps": true, "clip_sample": false}"#)?;
    /// assert_eq!(scheduler.ignored(), ["clip_sample"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// The noise process. Where it is a chain, [`Process::chain`] has its betas.
    pub fn process(&self) -> &dyn Process {
        &*self.process
    }

    /// What the network predicts.
    pub fn prediction(&self) -> Prediction {
        self.prediction
    }

    /// How x̂_0 is kept in range: give it to
    /// [`thresholded`](langevin_core::denoiser::DenoiserExt::thresholded).
    pub fn threshold(&self) -> Option<Threshold> {
        self.threshold
    }

    /// Whether ε̂ follows a thresholded x̂_0: then also call
    /// [`rederive_eps`](langevin_core::denoiser::Thresholded::rederive_eps).
    pub fn rederives_eps(&self) -> bool {
        self.rederive
    }

    /// Whether the network's output has channels of a variance behind its own, which the solver reads or, as the classes
    /// of DPM-Solver and SA-Solver do, leaves: then bind it
    /// [`with_learned_variance`](langevin_core::denoiser::Bound::with_learned_variance).
    pub fn learns_variance(&self) -> bool {
        match &self.method {
            Method::Ddpm(ddpm) => ddpm.learns_variance(),
            Method::UnClip { learned } => *learned,
            _ => self.drops_variance,
        }
    }

    /// The seed that the configuration names for the noise of its steps, if it names one: run with
    /// [`Seeded::new`](langevin_core::noise::Seeded::new) of it. The same seed always gives the same samples, though not
    /// those of the original, whose generator is another.
    pub fn noise_seed(&self) -> Option<u64> {
        if let Method::DpmSde(_, seed) = self.method { seed } else { None }
    }

    fn refuse<T>(&self, key: &'static str, given: f64, expected: &'static str) -> Result<T, ConfigError> {
        Err(ConfigError::Value { class: self.class.clone(), key, given: given.to_string(), expected })
    }

    /// Sets η of DDIM or γ of TCD, an argument of diffusers' `step`.
    ///
    /// # Errors
    /// [`ConfigError::Plan`] outside [0, 1], [`ConfigError::Value`] for other solvers.
    pub fn eta(mut self, eta: f64) -> Result<Self, ConfigError> {
        match &mut self.method {
            Method::Ddim(ddim) => *ddim = std::mem::take(ddim).eta(eta)?,
            Method::Tcd(tcd) => *tcd = Tcd::new(eta)?,
            _ if eta == 0.0 => {}
            _ => return self.refuse("eta", eta, "no eta: only DDIMScheduler and TCDScheduler take one"),
        }
        Ok(self)
    }

    /// Sets how many steps of the chain the network was distilled on, an argument of diffusers' `set_timesteps`. TCDScheduler then chooses among all
    /// steps of the chain, whatever the number, as the original does.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for none, more than the chain has, or a class that is not for distilled networks.
    pub fn original_steps(mut self, steps: usize) -> Result<Self, ConfigError> {
        match &mut self.schedule {
            Schedule::Distilled(distilled) if (1..=distilled.steps).contains(&steps) => {
                distilled.original = if distilled.to_first { distilled.steps } else { steps };
            }
            Schedule::Distilled(_) => {
                let expected = "at least 1, at most the steps of the chain";
                return self.refuse("original_inference_steps", steps as f64, expected);
            }
            _ => {
                let expected = "nothing: only LCMScheduler and TCDScheduler take them";
                return self.refuse("original_inference_steps", steps as f64, expected);
            }
        }
        Ok(self)
    }

    /// Sets μ of a dynamic shift, an argument of diffusers' `set_timesteps`. UniPCMultistepScheduler and flow-matching classes
    /// need it where `use_dynamic_shifting` is set; without it DPM-Solver's classes and DEIS are shifted by `flow_shift`.
    ///
    /// # Errors
    /// [`ConfigError::Value`] out of range, without `use_dynamic_shifting`, or for a class that has none.
    pub fn mu(mut self, mu: f64) -> Result<Self, ConfigError> {
        match shift_of(&mut self.schedule) {
            Some(shift) => shift.set_mu(&self.class, mu)?,
            None => return self.refuse("mu", mu, "nothing: this class has no shift"),
        }
        Ok(self)
    }

    /// Sets μ of a dynamic shift to that of an image of `tokens` tokens: linear in it, through the configuration's
    /// `base_image_seq_len`, `base_shift`, `max_image_seq_len` and `max_shift`.
    ///
    /// ```
    /// use langevin_schedulers::diffusers::from_config;
    /// let flux = from_config(
    ///     r#"{"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": true, "shift": 3.0}"#,
    /// )?;
    /// let plan = flux.image_tokens(64 * 64)?.plan(28)?; // 1024×1024 pixels
    /// assert_eq!(plan.steps(), 28);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`mu`](Self::mu), and [`ConfigError::Process`] where the two points make no line.
    pub fn image_tokens(mut self, tokens: usize) -> Result<Self, ConfigError> {
        match shift_of(&mut self.schedule) {
            Some(shift) => shift.set_tokens(&self.class, tokens)?,
            None => return self.refuse("image_seq_len", tokens as f64, "nothing: this class has no shift"),
        }
        Ok(self)
    }

    /// Sets the first angle of SCMScheduler and the middle one of two steps: `max_timesteps` and `intermediate_timesteps`
    /// of diffusers' `set_timesteps`.
    ///
    /// # Errors
    /// [`ConfigError::Value`] outside [0, π/2], or for another class.
    pub fn angles(mut self, max: f64, middle: Option<f64>) -> Result<Self, ConfigError> {
        match &mut self.schedule {
            Schedule::Angles(angles) => angles.set(max, middle)?,
            _ => return self.refuse("max_timesteps", max, "nothing: only SCMScheduler has angles"),
        }
        Ok(self)
    }

    /// Sets the churn of Euler's solvers and of FlowMatchHeunDiscreteScheduler: the arguments `s_churn`, `s_tmin`, `s_tmax` and
    /// `s_noise` of diffusers' `step`.
    ///
    /// Euler's solvers ask the network before the state is raised, as there; they have weak order 1, as those that ask
    /// afterwards. On a flow the interval is one of σ in [0, 1], as there, and σ/α is raised as by
    /// [`Churned`](crate::sigma::Churned), from σ below 1; the original leaves the flow, see
    /// [`compat_diffusers`](Self::compat_diffusers). The amount is divided by the number of steps, where the original divides by that of
    /// calls, about twice as many: the same `s_churn` adds about twice as much here.
    ///
    /// # Errors
    /// [`ConfigError::Plan`] for numbers out of range, [`ConfigError::Value`] for solvers that take none.
    pub fn churn(mut self, amount: f64, (low, high): (f64, f64), noise: f64) -> Result<Self, ConfigError> {
        let churn = Churn::new(amount)?.between(low, high)?.noise(noise)?;
        match &mut self.method {
            Method::Euler(euler) => {
                *euler = std::mem::take(euler).churn(churn).churn_after_asking(self.prediction);
            }
            Method::FlowHeun(of) => *of = Some(FlowChurn::new(amount, (low, high), noise)?),
            _ if amount == 0.0 => {}
            _ => {
                let expected = "no churn: only EulerDiscreteScheduler, EDMEulerScheduler and FlowMatchHeunDiscreteScheduler \
                                take it";
                return self.refuse("s_churn", amount, expected);
            }
        }
        Ok(self)
    }

    /// Sets the factor on the noise of DPMSolverSDEScheduler, the argument `s_noise` of diffusers' `step`. (That of Euler's
    /// solvers belongs to their [churn](Self::churn).)
    ///
    /// # Errors
    /// [`ConfigError::Plan`] for numbers out of range, [`ConfigError::Value`] for other solvers.
    pub fn noise_scale(mut self, factor: f64) -> Result<Self, ConfigError> {
        match &mut self.method {
            Method::DpmSde(solver, _) => *solver = std::mem::take(solver).noise(factor)?,
            _ if factor == 1.0 => {}
            _ => return self.refuse("s_noise", factor, "1: of its own only DPMSolverSDEScheduler takes one"),
        }
        Ok(self)
    }

    /// Sets the order of a linear multistep solver, an argument of diffusers' `step`.
    ///
    /// # Errors
    /// [`ConfigError::Plan`] outside 1 to 4, [`ConfigError::Value`] for other solvers.
    pub fn order(mut self, order: usize) -> Result<Self, ConfigError> {
        match &mut self.method {
            Method::Lms(lms) => *lms = Lms::new(order)?,
            _ => return self.refuse("order", order as f64, "no order: only LMSDiscreteScheduler takes one"),
        }
        Ok(self)
    }

    /// Sets how far RePaint jumps back and how often it passes a stretch: the arguments `jump_length` and `jump_n_sample`
    /// of diffusers' `set_timesteps`, 10 and 10 unless said otherwise.
    ///
    /// # Errors
    /// [`ConfigError::Plan`] for 0, [`ConfigError::Value`] for other solvers.
    pub fn jumps(mut self, length: usize, samples: usize) -> Result<Self, ConfigError> {
        match self.method {
            Method::RePaint(repaint) => self.method = Method::RePaint(repaint.jumps(length, samples)?),
            _ => return self.refuse("jump_length", length as f64, "no jumps: only RePaintScheduler makes them"),
        }
        Ok(self)
    }

    /// Sets the scale factors of FlowMatchLCMScheduler, one for each step but the last, and how x̂_0 is resized: the arguments
    /// of diffusers' `set_scale_factors`, and the options `scale_factors` and `upscale_mode`. The samples of such a scheduler
    /// grow, so that it is run by [`scalewise`](Self::scalewise) and has no [`plan`](Self::plan).
    ///
    /// # Errors
    /// [`ConfigError::Value`] for none, for factors that are not positive numbers, and for another class.
    pub fn scale_factors(mut self, factors: Vec<f64>, resize: Resize) -> Result<Self, ConfigError> {
        let bad = |given: String, expected| {
            Err(ConfigError::Value { class: self.class.clone(), key: "scale_factors", given, expected })
        };
        let wrong = factors.iter().find(|factor| !(**factor > 0.0 && factor.is_finite()));
        if let Some(wrong) = wrong.map(f64::to_string).or(factors.is_empty().then(|| "an empty list".to_owned())) {
            return bad(wrong, "a positive number for each step but the last, or null");
        }
        match self.method {
            Method::Consistency(solver) | Method::Scalewise(solver, ..) if self.class == "FlowMatchLCMScheduler" => {
                self.method = Method::Scalewise(solver, factors, resize);
                Ok(self)
            }
            _ => bad("a list".to_owned(), "nothing: only FlowMatchLCMScheduler takes them"),
        }
    }

    /// The grid of `steps` steps, as diffusers' `set_timesteps` counts them: those of MiniMaxH3Scheduler are one more than there are.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for a class that has no grid of so many, [`ConfigError::Grid`] for no steps, or more than the chain has. Grids of whole steps are checked when they meet
    /// the chain.
    pub fn grid(&self, steps: usize) -> Result<Grid, ConfigError> {
        match &self.schedule {
            Schedule::Steps { spacing, offset, walk } => {
                let grid = match spacing {
                    Spacing::Leading => Grid::leading(steps).offset(*offset),
                    Spacing::Trailing => Grid::trailing(steps),
                    Spacing::Linspace => Grid::linspace(steps),
                };
                Ok(match walk {
                    Walk::Joined => grid,
                    Walk::Strided => grid.strided(),
                    Walk::Inverted => grid.strided().inverted(),
                })
            }
            Schedule::Sigmas(sigmas) => sigmas.grid(steps),
            Schedule::Lambdas(lambdas) => lambdas.grid(steps),
            Schedule::Edm(sigmas) => sigmas.grid(steps),
            Schedule::Distilled(distilled) => distilled.grid(steps),
            Schedule::Crash(crash) => crash.grid(steps),
            Schedule::Flow(sigmas) => sigmas.grid(steps),
            Schedule::Trained(sigmas) => sigmas.grid(steps),
            Schedule::Angles(angles) => angles.grid(steps),
            Schedule::Squares(squares) => squares.grid(steps, self.compat),
            Schedule::FirstToLast if steps < 2 => {
                self.refuse("num_inference_steps", steps as f64, "at least 2: the first step of the chain and the last")
            }
            Schedule::FirstToLast => Ok(Grid::linspace(steps)),
            Schedule::Uniform if steps == 0 => Err(no_steps()),
            Schedule::Uniform => Ok(Grid::uniform(steps)),
            Schedule::Even(sigmas) => sigmas.grid(steps),
            Schedule::Decoder if steps == 2 => Ok(Grid::times(DECODER.to_vec())?),
            Schedule::Decoder => {
                self.refuse("num_inference_steps", steps as f64, "2, which the network was trained for")
            }
        }
    }

    /// The grid of given timesteps. For CMStochasticIterativeScheduler these are positions among its trained sigmas, for
    /// SCMScheduler angles, of which the last is where sampling arrives, for LTXEulerAncestralRFScheduler sigmas.
    ///
    /// # Errors
    /// [`ConfigError::Value`] if the class takes none, [`ConfigError::Contradiction`] with options that choose them,
    /// [`ConfigError::Grid`] unless they fall.
    pub fn grid_at(&self, times: &[f64]) -> Result<Grid, ConfigError> {
        match &self.schedule {
            Schedule::Steps { walk: Walk::Joined, .. } => Ok(Grid::times(times.to_vec())?),
            Schedule::Sigmas(sigmas) => sigmas.grid_at(times),
            Schedule::Lambdas(lambdas) => lambdas.grid_at(times),
            Schedule::Distilled(distilled) => distilled.grid_at(times),
            Schedule::Flow(sigmas) => sigmas.grid_at(times),
            Schedule::Trained(sigmas) => sigmas.grid_at(times),
            Schedule::Angles(angles) => angles.grid_at(times),
            Schedule::Even(sigmas) => sigmas.grid_at(times),
            // The last is where sampling arrives.
            Schedule::Uniform => Ok(Grid::times(times.to_vec())?),
            _ => Err(ConfigError::Value {
                class: self.class.clone(),
                key: "timesteps",
                given: "a list".to_owned(),
                expected: "nothing: this class chooses them itself",
            }),
        }
    }

    /// The grid of given sigmas (ratios σ/α), falling; the last is where sampling arrives.
    ///
    /// For EDMEulerScheduler these are positions in [0, 1] on its schedule, as in the original; for flow-matching classes
    /// noise coefficients in [0, 1] before they are shifted, all of them asked; for LTXEulerAncestralRFScheduler and
    /// MiniMaxH3Scheduler noise coefficients as they are, with the end.
    ///
    /// # Errors
    /// [`ConfigError::Value`] if the class takes none, [`ConfigError::Grid`] unless they fall.
    pub fn grid_of_sigmas(&self, sigmas: &[f64]) -> Result<Grid, ConfigError> {
        match &self.schedule {
            Schedule::Sigmas(schedule) => schedule.grid_of(sigmas),
            Schedule::Edm(schedule) => schedule.grid_on(sigmas),
            Schedule::Flow(schedule) => schedule.grid_of(sigmas),
            Schedule::Even(schedule) => schedule.grid_of(sigmas),
            _ => Err(ConfigError::Value {
                class: self.class.clone(),
                key: "sigmas",
                given: "a list".to_owned(),
                expected: "nothing: this class chooses them itself",
            }),
        }
    }

    /// The grid of given sigmas, which are shifted as always, and of the timesteps that the network is told at them.
    ///
    /// # Errors
    /// [`ConfigError::Value`] if the class takes none, or their numbers differ; [`ConfigError::Grid`] unless sigmas fall.
    pub fn grid_of_sigmas_at(&self, sigmas: &[f64], times: &[f64]) -> Result<Grid, ConfigError> {
        match &self.schedule {
            Schedule::Flow(schedule) => schedule.grid_of_both(sigmas, times),
            _ => Err(ConfigError::Value {
                class: self.class.clone(),
                key: "sigmas",
                given: "a list beside timesteps".to_owned(),
                expected: "one list: only flow-matching classes take both",
            }),
        }
    }

    /// The plan of `steps` steps.
    ///
    /// # Errors
    /// [`ConfigError`] if the chain has fewer steps, or the grid leaves it, or samples grow from step to step.
    pub fn plan(&self, steps: usize) -> Result<Plan, ConfigError> {
        Ok(self.plan_on(&self.grid(steps)?)?)
    }

    /// The plan on another grid, for instance [`grid_at`](Self::grid_at), or one that starts later.
    ///
    /// # Errors
    /// [`PlanError`] if the grid does not fit the process, or samples grow from step to step.
    pub fn plan_on(&self, grid: &Grid) -> Result<Plan, PlanError> {
        if let Method::Scalewise(..) = self.method {
            let (first, second) = ("a plan".to_owned(), format!("the scale factors of {}", self.class));
            let reason = "samples of a plan have one size; take the sampler, `.scalewise(steps)`";
            return Err(PlanError::Combination { first, second, reason });
        }
        self.table_on(grid)
    }

    /// The sampler of `steps` steps with [scale factors](Self::scale_factors).
    ///
    /// ```
    /// use langevin_schedulers::diffusers::from_config;
    /// let json = r#"{"_class_name": "FlowMatchLCMScheduler", "scale_factors": [1.5, 2.0], "upscale_mode": "bilinear"}"#;
    /// let sampler = from_config(json)?.scalewise(3)?;
    /// assert_eq!(sampler.plan().steps(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ConfigError::Plan`] without factors, or if there is not one for each step but the last; [`ConfigError`] as of
    /// [`plan`](Self::plan).
    pub fn scalewise(&self, steps: usize) -> Result<Scalewise, ConfigError> {
        Ok(self.scalewise_on(&self.grid(steps)?)?)
    }

    /// The sampler with scale factors on another grid, for instance [`grid_of_sigmas`](Self::grid_of_sigmas).
    ///
    /// # Errors
    /// [`PlanError`] as of [`scalewise`](Self::scalewise).
    pub fn scalewise_on(&self, grid: &Grid) -> Result<Scalewise, PlanError> {
        let (factors, resize) = match &self.method {
            Method::Scalewise(_, factors, resize) => (factors.clone(), *resize),
            _ => (Vec::new(), Resize::default()),
        };
        Ok(Scalewise::over(self.table_on(grid)?, factors)?.by(resize))
    }

    fn table_on(&self, grid: &Grid) -> Result<Plan, PlanError> {
        let plan = match (&self.method, &self.schedule) {
            // Logarithmic sigmas have one that no step uses, but that counts.
            (Method::Euler(euler), Schedule::Sigmas(sigmas)) if sigmas.has_spare() => {
                let stops = grid.clone().starting_at(0).stops(&*self.process)?;
                let spare = stops.last().is_some_and(|stop| sigmas.ends_before_spare(&stop.to.level));
                euler.clone().churn_over(stops.len() + usize::from(spare)).plan(&*self.process, grid)?
            }
            (method, _) => {
                let steps = |grid: &Grid| Ok::<_, PlanError>(grid.stops(&*self.process)?.len());
                let before = steps(&grid.clone().starting_at(0))? - steps(grid)?;
                method.solver(self.compat, self.prediction, before).plan(&*self.process, grid)?
            }
        };
        let level = plan.start_node().level;
        let std = match &self.schedule {
            Schedule::Sigmas(Sigmas { spacing: Spacing::Leading, .. }) => libm::hypot(level.alpha, level.sigma),
            Schedule::Sigmas(_) | Schedule::Decoder => level.sigma,
            Schedule::Edm(sigmas) => sigmas.prior(&level),
            Schedule::Flow(_) | Schedule::Even(_) => 1.0,
            Schedule::Trained(sigmas) => sigmas.max,
            Schedule::Squares(squares) => squares.max,
            _ => return Ok(plan),
        };
        Ok(plan.with_prior(std)?)
    }
}

fn shift_of(schedule: &mut Schedule) -> Option<&mut Shift> {
    match schedule {
        Schedule::Flow(sigmas) => Some(&mut sigmas.shift),
        Schedule::Lambdas(lambdas) => Some(&mut lambdas.shift),
        _ => None,
    }
}

/// What grids of nothing are.
pub(super) fn no_steps() -> ConfigError {
    GridError::ZeroSteps.into()
}
