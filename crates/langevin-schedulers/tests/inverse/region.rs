//! Runs with a known region.

use super::{largest, load, mixture, tensor, values};
use langevin_core::exact::Posterior;
use langevin_core::grid::End;
use langevin_core::inverse::{Filled, KnownRegion, Masking};
use langevin_core::noise::{Domain, Seeded};
use langevin_core::process::VpSde;
use langevin_core::{Denoiser, Grid, Key, NoiseError, NoiseSource, Prediction};
use langevin_schedulers::{Ddim, Ddpm, SamplerExt, Solver};
use std::sync::Mutex;

/// Keeps the keys that it is asked for.
struct Watched {
    keys: Mutex<Vec<Key>>,
}

impl NoiseSource for Watched {
    fn fill(&self, sample: u64, key: Key, out: &mut [f64]) -> Result<(), NoiseError> {
        self.keys.lock().expect("no panic").push(key);
        Seeded::new(8).fill(sample, key, out)
    }
}

fn known() -> KnownRegion<2> {
    KnownRegion::new(Masking::new(tensor(&[vec![1.0, 0.0]])).expect("a mask"), tensor(&[vec![0.4, 0.0]])).expect("fits")
}

#[test]
fn a_run_ends_with_the_known_values_and_draws_once_a_step() {
    let denoiser = mixture().denoiser(Prediction::Epsilon).expect("a denoiser");
    let filled = Filled::new(mixture().denoiser(Prediction::Epsilon).expect("a denoiser"), known());
    let plan = Ddim::new().plan(&VpSde::default(), &Grid::uniform(5).ending(End::Clean)).expect("a plan");
    for denoiser in [&denoiser as &dyn Denoiser<2>, &filled] {
        let (region, noise) = (known(), Watched { keys: Mutex::new(Vec::new()) });
        let run = plan.start([1, 2], denoiser, &noise, load()).expect("a run").constrained(&region);
        let x = values(&run.finish().expect("samples"));
        assert_eq!(x[0], 0.4);
        let drawn: Vec<Key> = noise.keys.lock().expect("no panic").clone();
        let expected = (0..4).map(|index| Key { domain: Domain::KnownRegion, index, lane: 0 });
        // The last step goes to σ = 0 and draws nothing.
        assert_eq!(drawn, [Key::INITIAL].into_iter().chain(expected).collect::<Vec<_>>());
    }
}

#[test]
fn a_constrained_run_resumes_to_the_same_bits_and_does_not_depend_on_its_batch() {
    let denoiser = mixture().denoiser(Prediction::Epsilon).expect("a denoiser");
    let plan = Ddpm::new().plan(&VpSde::default(), &Grid::uniform(6)).expect("a plan");
    let (noise, region) = (Seeded::new(17), known());
    let start =
        |first, rows| plan.start_at(first, [rows, 2], &denoiser, &noise, load()).expect("a run").constrained(&region);
    let whole: Vec<Vec<f64>> = start(4, 2).map(|step| values(&step.expect("a step").x)).collect();
    for pause in 0..=6 {
        let mut run = start(4, 2);
        run.by_ref().take(pause).for_each(|step| drop(step.expect("a step")));
        let saved = run.save().expect("a saved run");
        let rest = SamplerExt::<2>::resume(&plan, &saved, &denoiser, &noise, load()).expect("a resumed run");
        let rest: Vec<Vec<f64>> = rest.constrained(&region).map(|step| values(&step.expect("a step").x)).collect();
        assert_eq!(rest, whole[pause..], "paused after {pause} steps");
    }
    let alone: Vec<f64> = (4..6).flat_map(|first| values(&start(first, 1).finish().expect("samples"))).collect();
    assert!(largest(&alone, &whole[5]) < 1e-12);
}
