//! The same tokens in any batch, before and after a pause, and from one version to the next.

use super::leaning::leaning;
use super::list;
use burn::tensor::Device;
use langevin::core::noise::Seeded;
use langevin::schedulers::discrete::{
    BlockRefinement, Corrector, DiscreteDdim, EntropyBound, MaskGit, SavedTokens, TokenMethod,
};
use langevin::schedulers::solver::PlanError;

const POSITIONS: usize = 6;

/// The tokens of the first sample.
fn keeps_its_bits(name: &str, method: Result<impl TokenMethod, PlanError>) -> Vec<i64> {
    let (method, denoiser, noise, device) = (method.expect("settings"), leaning(), Seeded::new(4), Device::flex());
    let start = || method.start_at(5, [3, POSITIONS], &denoiser, &noise, &device).expect("a run");
    let whole: Vec<Vec<i64>> = start().map(|step| list(&step.expect("a step").tokens)).collect();
    assert!(whole.len() > 2, "{name}: {} steps", whole.len());
    for pause in 0..=whole.len() {
        let mut run = start();
        for step in run.by_ref().take(pause) {
            step.expect("a step");
        }
        let text = serde_json::to_string(&run.save().expect("a saved run")).expect("data");
        let saved: SavedTokens = serde_json::from_str(&text).expect("data");
        let rest = method.resume(&saved, &denoiser, &noise, &device).expect("a resumed run");
        let rest: Vec<Vec<i64>> = rest.map(|step| list(&step.expect("a step").tokens)).collect();
        assert_eq!(rest, whole[pause..], "{name}, paused after {pause}");
    }
    let alone: Vec<i64> = (5..8)
        .flat_map(|sample| {
            let run = method.start_at(sample, [1, POSITIONS], &denoiser, &noise, &device).expect("a run");
            list(&run.finish().expect("tokens"))
        })
        .collect();
    let last = &whole[whole.len() - 1];
    assert_eq!(&alone, last, "{name}");
    last[..POSITIONS].to_vec()
}

/// Values that must not change are behind each.
#[test]
fn mask_git_keeps_its_bits() {
    assert_eq!(keeps_its_bits("MaskGit", MaskGit::new(3, 3, 5)), [2, 2, 0, 2, 1, 0]);
}

#[test]
fn discrete_ddim_keeps_its_bits() {
    let sampler = || DiscreteDdim::new(3, 7).and_then(|sampler| sampler.temperature(1.0));
    let plain = keeps_its_bits("DiscreteDdim", sampler());
    let corrected = sampler().and_then(|sampler| Ok(sampler.corrected(Corrector::new(2)?)));
    let corrected = keeps_its_bits("DiscreteDdim, corrected", corrected);
    assert_eq!([plain, corrected], [[2, 1, 1, 1, 2, 1], [2, 1, 1, 2, 1, 1]]);
}

#[test]
fn entropy_bounds_keep_their_bits() {
    let plain = keeps_its_bits("EntropyBound", EntropyBound::new(3, 5));
    let masked = EntropyBound::new(3, 8).and_then(|sampler| sampler.masked(3)?.bound(0.3));
    let masked = keeps_its_bits("EntropyBound, masked", masked);
    assert_eq!([plain, masked], [[0, 0, 1, 2, 2, 1], [2, 2, 2, 1, 1, 0]]);
}

#[test]
fn block_refinement_keeps_its_bits() {
    let sampler = || BlockRefinement::new(3, 3, 3).and_then(|sampler| sampler.temperature(0.9)?.editing(0.5));
    let plain = keeps_its_bits("BlockRefinement", sampler());
    let masked = sampler().and_then(|sampler| sampler.masked(3)?.threshold(0.6)?.until(0));
    let masked = keeps_its_bits("BlockRefinement, masked", masked);
    assert_eq!([plain, masked], [[1, 2, 2, 2, 2, 1], [0, 2, 2, 3, 3, 3]]);
}
