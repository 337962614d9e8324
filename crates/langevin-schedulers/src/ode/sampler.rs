//! The adaptive method on tensors: a sampler whose samples have clocks of their own.

use super::adaptive::NAME;
use super::control::{Clock, Control};
use super::drive::{Progress, System};
use super::tensors;
use super::{AdaptiveFlow, flow_slope};
use crate::plan::Memory;
use crate::sampler::rows::check_company;
use crate::sampler::{Context, RunState, SampleError, Sampler, Step};
use burn::tensor::Tensor;
use langevin_core::level::Scalars;
use langevin_core::{Denoiser, Level, Levels, Process};

/// Register of the state being integrated, where the run shows something else.
const INSIDE: u8 = 1;
/// Register of the slope at that state.
const SLOPE: u8 = 2;
/// Register of the outputs that some samples have passed and some have not, behind one another.
const PENDING: u8 = 3;

struct Tensors<'a, 'b, 'c, P, const D: usize> {
    process: &'a P,
    cx: &'a Context<'b, D>,
    state: &'c mut RunState<D>,
    together: bool,
}

impl<P: Process, const D: usize> Tensors<'_, '_, '_, P, D> {
    fn levels(&self, t: &[f64]) -> Levels {
        if self.together {
            Levels::Shared(self.process.level(t[0]))
        } else {
            Levels::Each(t.iter().map(|t| self.process.level(*t)).collect())
        }
    }
}

impl<P: Process, const D: usize> System for Tensors<'_, '_, '_, P, D> {
    type Value = Tensor<D>;

    fn slope(&mut self, x: &Tensor<D>, t: &[f64]) -> Result<Tensor<D>, SampleError> {
        let estimate = self.cx.ask(self.state, x.clone(), &self.levels(t))?;
        Ok(flow_slope(self.process, &estimate, t)?)
    }

    fn sum(&mut self, scale: &Scalars, terms: &[(Scalars, &Tensor<D>)]) -> Tensor<D> {
        tensors::sum(scale, terms).unwrap_or_else(|| self.state.x().zeros_like())
    }

    fn add(&mut self, x: &Tensor<D>, y: Tensor<D>) -> Tensor<D> {
        x.clone().add(y)
    }

    fn norms(
        &mut self,
        control: &Control,
        value: &Tensor<D>,
        a: &Tensor<D>,
        b: &Tensor<D>,
    ) -> Result<Vec<f64>, SampleError> {
        tensors::norms(control, value, a, b)
    }

    fn select(&mut self, flags: &[bool], new: &Tensor<D>, old: &Tensor<D>) -> Tensor<D> {
        tensors::select(flags, new, old)
    }

    fn first_sample(&self) -> u64 {
        self.state.first_sample()
    }
}

/// Everything that a run keeps between steps.
struct Kept<const D: usize> {
    progress: Progress<Tensor<D>>,
    /// Outputs that have been yielded; the end counts as the last one.
    yielded: usize,
    /// The next outputs, as far as some sample has passed them.
    pending: Vec<Tensor<D>>,
}

impl<P: Process> AdaptiveFlow<P> {
    /// How many of the outputs after the first `yielded` some sample has passed.
    fn passed(&self, clocks: &[Clock], yielded: usize) -> usize {
        let course = self.method.course(self.start, self.end);
        let farthest = clocks.iter().map(|clock| course.along(clock.t)).fold(f64::NEG_INFINITY, f64::max);
        self.outputs.iter().skip(yielded).take_while(|t| course.along(**t) <= farthest).count()
    }

    fn restore<const D: usize>(&self, state: &mut RunState<D>, cx: &Context<'_, D>) -> Result<Kept<D>, SampleError> {
        let batch = state.x().dims()[0];
        let Some((yielded, clocks)) = state.numbers.split_first() else {
            let x = state.x();
            let mut tensors = self.tensors(state, cx);
            let progress = self.method.course(self.start, self.end).begin(&mut tensors, x.clone(), batch)?;
            let pending = if self.outputs.first() == Some(&self.start) { vec![x] } else { Vec::new() };
            return Ok(Kept { progress, yielded: 0, pending });
        };
        let (yielded, memory) = (*yielded as usize, state.memory());
        let clocks: Vec<Clock> = clocks.chunks(Clock::NUMBERS).filter_map(Clock::restore).collect();
        let count = self.passed(&clocks, yielded);
        let pending = match memory.state(PENDING) {
            Some(all) if count > 0 => all.clone().chunk(count, 0),
            _ => Vec::new(),
        };
        let x = memory.state(INSIDE).cloned().unwrap_or_else(|| state.x());
        let slope = memory.state(SLOPE).cloned().filter(|_| !state.is_replaced());
        // Only a run that was edited, or written by another sampler, is not whole.
        let fits = |kept: &Tensor<D>| kept.dims() == state.x().dims();
        let whole = clocks.len() == batch
            && pending.len() == count
            && fits(&x)
            && slope.as_ref().is_none_or(fits)
            && pending.iter().all(fits);
        if !whole {
            return Err(SampleError::Incomplete { row: state.row() });
        }
        Ok(Kept { progress: Progress { x, slope, clocks }, yielded, pending })
    }

    fn store<const D: usize>(&self, state: &mut RunState<D>, kept: Kept<D>, shown: Tensor<D>) {
        let Kept { progress, yielded, pending } = kept;
        let mut memory = Memory::new(shown);
        if !self.outputs.is_empty() {
            memory.set_state(INSIDE, progress.x);
        }
        if let Some(slope) = progress.slope {
            memory.set_state(SLOPE, slope);
        }
        if !pending.is_empty() {
            memory.set_state(PENDING, Tensor::cat(pending, 0));
        }
        state.numbers = vec![yielded as f64];
        state.numbers.extend(progress.clocks.iter().flat_map(Clock::save));
        state.commit(state.row() + 1, memory);
    }

    fn tensors<'a, 'b, 'c, const D: usize>(
        &'a self,
        state: &'c mut RunState<D>,
        cx: &'a Context<'b, D>,
    ) -> Tensors<'a, 'b, 'c, P, D> {
        Tensors { process: &self.process, cx, state, together: self.method.together }
    }

    fn levels_of(&self, clocks: &[Clock]) -> Levels {
        if self.method.together {
            Levels::Shared(self.process.level(clocks[0].t))
        } else {
            Levels::Each(clocks.iter().map(|clock| self.process.level(clock.t)).collect())
        }
    }

    fn check<const D: usize>(&self, state: &RunState<D>, cx: &Context<'_, D>) -> Result<(), SampleError> {
        self.check_denoiser(cx.denoiser, &state.x().dims())?;
        if state.is_replaced() && !self.outputs.is_empty() {
            let (what, advice) = ("constraints while `output_at` is used", "leave one of them out");
            return Err(SampleError::Unsupported { sampler: NAME, what, advice });
        }
        Ok(())
    }
}

impl<P: Process, const D: usize> Sampler<D> for AdaptiveFlow<P> {
    fn advance(&self, state: &mut RunState<D>, cx: &Context<'_, D>) -> Result<Option<Step<D>>, SampleError> {
        self.check(state, cx)?;
        let course = self.method.course(self.start, self.end);
        let dense = !self.outputs.is_empty();
        let mut kept = self.restore(state, cx)?;
        loop {
            let arrived = course.arrived(&kept.progress);
            let next = self.outputs.get(kept.yielded).copied();
            let passed = |t: f64| kept.progress.clocks.iter().all(|clock| course.along(clock.t) >= course.along(t));
            if let Some(t) = next.filter(|t| passed(*t)) {
                kept.yielded += 1;
                let shown = kept.pending.remove(0);
                let level: Level = self.process.level(t);
                self.store(state, kept, shown);
                return Ok(Some(state.step(Levels::Shared(level), None)));
            }
            if arrived {
                if !dense || kept.yielded > self.outputs.len() {
                    return Ok(None);
                }
                kept.yielded += 1;
                let shown = kept.progress.x.clone();
                self.store(state, kept, shown);
                return Ok(Some(state.step(Levels::Shared(self.process.level(self.end)), None)));
            }
            let before = state.clone();
            let attempt = course.attempt(&mut self.tensors(state, cx), &mut kept.progress)?;
            if !attempt.accepted.contains(&true) {
                state.roll_back(&before);
                continue;
            }
            if !dense {
                let (levels, shown) = (self.levels_of(&kept.progress.clocks), kept.progress.x.clone());
                self.store(state, kept, shown);
                return Ok(Some(state.step(levels, None)));
            }
            let count = self.passed(&kept.progress.clocks, kept.yielded);
            kept.pending.resize(count, kept.progress.x.clone());
            let mut tensors = self.tensors(state, cx);
            for (t, output) in self.outputs[kept.yielded..].iter().zip(&mut kept.pending) {
                *output = course.interpolate(&mut tensors, &attempt, *t, output);
            }
        }
    }

    fn start_levels(&self) -> Levels {
        Levels::Shared(self.process.level(self.start))
    }

    fn prior_std(&self) -> f64 {
        crate::solver::prior_std(&self.process, &self.process.node(self.start))
    }

    fn name(&self) -> String {
        NAME.into()
    }

    fn check_denoiser(&self, denoiser: &dyn Denoiser<D>, shape: &[usize]) -> Result<(), SampleError> {
        check_company(NAME, self.method.together, denoiser, shape)
    }

    fn reads_clean(&self) -> bool {
        // Where α stays, the flow moves along ε̂ alone.
        self.process.level(self.start).alpha != self.process.level(self.end).alpha
    }

    fn zero_terminal_snr(&self) -> bool {
        crate::solver::has_zero_terminal_snr(&self.process)
    }

    fn fingerprint(&self) -> u64 {
        self.numbers_fingerprint()
    }
}
