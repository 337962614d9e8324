//! What each method promises of its steps.

use super::list;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use langevin::core::discrete::{TokenDenoiser, tokens_fn};
use langevin::core::noise::Seeded;
use langevin::schedulers::discrete::{
    BlockRefinement, Corrector, DiscreteDdim, EntropyBound, MaskGit, Masking, TokenMethod,
};
use langevin::schedulers::solver::PlanError;

fn tokens<const N: usize, const P: usize>(rows: [[i64; P]; N]) -> Tensor<2, Int> {
    Tensor::from_data(TensorData::from(rows), &Device::flex())
}

/// The same probabilities of three classes at every position.
fn always(p: [f64; 3]) -> impl TokenDenoiser {
    tokens_fn(move |tokens: Tensor<2, Int>, _step| {
        let logs = Tensor::<1>::from_data(p.map(|p| p.ln() as f32), &tokens.device()).reshape([1, 3, 1]);
        Ok(logs.expand([tokens.dims()[0], 3, tokens.dims()[1]]))
    })
}

/// Class `p % 3` at position p, with this probability; the others share the rest.
fn pattern(sure: f64) -> impl TokenDenoiser {
    tokens_fn(move |tokens: Tensor<2, Int>, _step| {
        let [batch, positions] = tokens.dims();
        let value = |c: usize, p: usize| if c == p % 3 { sure.ln() } else { ((1.0 - sure) / 2.0).ln() };
        let values: Vec<f32> = (0..3).flat_map(|c| (0..positions).map(move |p| value(c, p) as f32)).collect();
        let logs = Tensor::<3>::from_data(TensorData::new(values, [1, 3, positions]), &tokens.device());
        Ok(logs.expand([batch, 3, positions]))
    })
}

#[test]
fn masks_become_fewer_and_known_tokens_stay() {
    for masking in [Masking::Cosine, Masking::Linear] {
        let sampler = MaskGit::new(3, 7, 6).expect("settings").masking(masking);
        let start = tokens([[7, 7, 2, 7, 7, 7, 7, 0], [7, 1, 7, 7, 1, 2, 0, 0], [2, 1, 0, 1, 1, 2, 0, 0]]);
        let (denoiser, noise) = (always([0.5, 0.3, 0.2]), Seeded::new(1));
        let mut before = list(&start);
        let left = |tokens: &[i64], row: usize| tokens[row * 8..][..8].iter().filter(|token| **token == 7).count();
        for step in sampler.start_from(0, start, &denoiser, &noise).expect("a run") {
            let step = step.expect("a step");
            let after = list(&step.tokens);
            for row in 0..3 {
                let (was, is) = (left(&before, row), left(&after, row));
                // The last mask stays until the end.
                let expected = match step.reached {
                    None => 0,
                    Some(_) => {
                        let planned = (8.0 * sampler.share(step.index + 1) + 1e-9) as usize;
                        planned.min(was.saturating_sub(1)).max(1).min(was)
                    }
                };
                assert_eq!(is, expected, "step {}, row {row}", step.index);
            }
            let changed = before.iter().zip(&after).filter(|(before, after)| **before != 7 && before != after);
            assert_eq!(changed.count(), 0);
            before = after;
        }
        assert_eq!((sampler.share(0), sampler.share(6)), (1.0, 0.0));
    }
    // Numbers that are whole but for rounding.
    let linear = MaskGit::new(3, 3, 10).expect("settings").masking(Masking::Linear);
    let (denoiser, noise) = (always([0.5, 0.3, 0.2]), Seeded::new(1));
    let run = linear.start([1, 10], &denoiser, &noise, &Device::flex()).expect("a run");
    let left: Vec<usize> =
        run.map(|step| list(&step.expect("a step").tokens).iter().filter(|token| **token == 3).count()).collect();
    assert_eq!(left, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
}

#[test]
fn certain_tokens_are_accepted_at_once() {
    let sampler = EntropyBound::new(3, 32).expect("settings");
    let (noise, device) = (Seeded::new(3), Device::flex());
    // Impossible classes have no part in an entropy.
    let certain = pattern(1.0);
    let run = sampler.clone().masked(3).expect("a mask");
    let mut run = run.start([2, 6], &certain, &noise, &device).expect("a run");
    assert_eq!((run.by_ref().count(), list(&run.tokens())), (1, [0, 1, 2, 0, 1, 2].repeat(2)));
    // Without masks there are as many steps as there are.
    let mut run = sampler.start([2, 6], &certain, &noise, &device).expect("a run");
    assert_eq!((run.by_ref().count(), list(&run.tokens())), (32, [0, 1, 2, 0, 1, 2].repeat(2)));
    // With doubts and too few steps the last one takes the rest.
    let sampler = EntropyBound::new(3, 2).and_then(|sampler| sampler.bound(0.0)?.masked(3)).expect("settings");
    let doubtful = always([0.5, 0.3, 0.2]);
    let run = sampler.start([1, 6], &doubtful, &noise, &device).expect("a run");
    let left: Vec<usize> =
        run.map(|step| list(&step.expect("a step").tokens).iter().filter(|token| **token == 3).count()).collect();
    assert_eq!(left, [5, 0]);
}

/// Masks that are left after each step.
fn left(
    sampler: Result<BlockRefinement, PlanError>,
    denoiser: &dyn TokenDenoiser,
    start: Tensor<2, Int>,
) -> Vec<usize> {
    let (sampler, noise) = (sampler.expect("settings"), Seeded::new(3));
    let run = sampler.start_from(0, start, denoiser, &noise).expect("a run");
    run.map(|step| list(&step.expect("a step").tokens).iter().filter(|token| **token == 3).count()).collect()
}

#[test]
fn blocks_are_filled_as_planned() {
    let sampler = |steps| BlockRefinement::new(3, 4, steps).and_then(|sampler| sampler.masked(3));
    let masks = || tokens([[3; 8]]);
    let doubtful = always([0.5, 0.3, 0.2]);
    assert_eq!(left(sampler(4), &doubtful, masks()), [7, 6, 5, 4, 3, 2, 1, 0]);
    assert_eq!(left(sampler(3), &doubtful, masks()), [6, 5, 4, 2, 1, 0]);
    assert_eq!(left(sampler(9), &doubtful, masks()), [7, 6, 5, 4, 3, 2, 1, 0]);
    let minimal = sampler(4).and_then(|sampler| sampler.minimal(3));
    assert_eq!(left(minimal, &doubtful, masks()), [5, 4, 1, 0]);
    let threshold = sampler(4).and_then(|sampler| sampler.threshold(0.4));
    assert_eq!(left(threshold, &doubtful, masks()), [4, 0]);
    // A prompt stays, even one with a mask in it, and a block is ready without it.
    let prompted = sampler(4).map(|sampler| sampler.prompt(2));
    assert_eq!(left(prompted, &doubtful, tokens([[3, 0, 3, 3, 3, 3, 3, 3]])), [6, 5, 4, 3, 2, 1]);
    // The sample with fewer masks waits at the end of the block.
    assert_eq!(left(sampler(4), &doubtful, tokens([[3; 8], [0, 0, 3, 3, 3, 3, 3, 3]])), [12, 10, 9, 8, 6, 4, 2, 0]);
    // Class 0 ends a sample.
    let end = |prompt: usize| sampler(4).and_then(|sampler| sampler.prompt(prompt).until(0));
    assert_eq!(left(end(0), &pattern(0.6), masks()), [7]);
    assert_eq!(left(end(1), &pattern(0.6), tokens([[0, 3, 3, 3, 3, 3, 3, 3]])), [6, 5, 4]);
}

#[test]
fn edits_stop_when_nothing_changes() {
    let (noise, wrong) = (Seeded::new(3), tokens([[1, 1, 1, 3, 3, 3], [1, 0, 0, 0, 3, 3]]));
    let plain = BlockRefinement::new(3, 6, 6).and_then(|sampler| sampler.masked(3)?.threshold(0.5));
    let plain = plain.expect("settings").prompt(1);
    let kept = plain.start_from(0, wrong.clone(), &pattern(0.7), &noise).expect("a run").finish().expect("tokens");
    assert_eq!(list(&kept), [1, 1, 1, 0, 1, 2, 1, 0, 0, 0, 1, 2]);
    let editing = plain.clone().editing(0.6).expect("a threshold");
    let denoiser = pattern(0.7);
    let mut run = editing.start_from(0, wrong.clone(), &denoiser, &noise).expect("a run");
    // The second step finds nothing to do; the prompt stays.
    assert_eq!(run.by_ref().count(), 2);
    assert_eq!(list(&run.tokens()), [1, 1, 2, 0, 1, 2].repeat(2));
    // No edit is sure enough.
    let sure = plain.clone().editing(0.8).expect("a threshold");
    let same = sure.start_from(0, wrong, &denoiser, &noise).expect("a run").finish().expect("tokens");
    assert_eq!(list(&same), list(&kept));
    // A denoiser that always wants something else is stopped.
    let restless = tokens_fn(|tokens: Tensor<2, Int>, _step| {
        let next = tokens.clone().add_scalar(1).remainder_scalar(3).unsqueeze_dim::<3>(1);
        let [batch, _, positions] = next.dims();
        let classes = Tensor::<1, Int>::arange(0..3, &tokens.device()).reshape([1, 3, 1]);
        let hot = next.expand([batch, 3, positions]).equal(classes.expand([batch, 3, positions]));
        Ok(hot.float().mul_scalar(9.0))
    });
    for posts in [0, 4] {
        let sampler = editing.clone().post_steps(posts);
        let run = sampler.start_from(0, tokens([[0, 3, 3, 3, 3, 3]]), &restless, &noise).expect("a run");
        assert_eq!(run.count(), 2 + posts as usize);
    }
}

#[test]
fn without_masks_a_prompt_stays_and_blocks_end_all_taken() {
    let noise = Seeded::new(3);
    let sampler = BlockRefinement::new(3, 4, 3).expect("settings").prompt(2);
    let start = tokens([[2, 2, 0, 0, 0, 0, 0, 0]]);
    let denoiser = pattern(0.6);
    let mut taken = Vec::new();
    let mut last = Vec::new();
    for step in sampler.start_from(0, start.clone(), &denoiser, &noise).expect("a run") {
        let step = step.expect("a step");
        taken.push(list(&step.accepted.int()).iter().sum::<i64>());
        last = list(&step.tokens);
    }
    assert_eq!((taken, last), (vec![0, 1, 1, 2, 1, 1], vec![2, 2, 2, 0, 1, 2, 0, 1]));
    // A threshold takes them at once, and the block is ready.
    let quick = sampler.clone().threshold(0.5).expect("a threshold");
    assert_eq!(quick.start_from(0, start.clone(), &denoiser, &noise).expect("a run").count(), 2);
    // A sample that has its end in the first block has no second.
    let ended = sampler.until(0).expect("a class");
    let mut run = ended.start_from(0, start, &denoiser, &noise).expect("a run");
    assert_eq!((run.by_ref().count(), list(&run.tokens())), (3, vec![2, 2, 2, 0, 0, 0, 0, 0]));
}

/// Chosen when the program runs, and through references.
#[test]
fn boxed_methods_run_as_they_are() {
    let (denoiser, noise, device) = (always([0.5, 0.3, 0.2]), Seeded::new(3), Device::flex());
    let plain = BlockRefinement::new(3, 4, 4).and_then(|sampler| sampler.masked(3)).expect("settings");
    let boxed: Box<dyn TokenMethod> = Box::new(plain.clone());
    let start = |shape| boxed.start(shape, &denoiser, &noise, &device);
    assert!(start([2, 6]).is_err(), "blocks of 4");
    let mut run = start([2, 8]).expect("a run");
    run.next().expect("a step").expect("a step");
    let saved = run.save().expect("a saved run");
    let whole = list(&run.finish().expect("tokens"));
    assert_eq!(list(&plain.start([2, 8], &denoiser, &noise, &device).expect("a run").finish().expect("tokens")), whole);
    let by_reference: &dyn TokenMethod = &*boxed;
    let resumed = (&by_reference).resume(&saved, &denoiser, &noise, &device).expect("a run");
    assert_eq!(list(&resumed.finish().expect("tokens")), whole);
}

/// The chain that a run keeps is that of its settings, whatever ran before.
#[test]
fn discrete_ddim_takes_the_chain_of_its_settings() {
    let (denoiser, noise, device) = (always([0.5, 0.3, 0.2]), Seeded::new(3), Device::flex());
    let run = |sampler: &DiscreteDdim| {
        list(&sampler.start([2, 32], &denoiser, &noise, &device).expect("a run").finish().expect("tokens"))
    };
    let fresh = |steps| DiscreteDdim::new(3, steps).and_then(|sampler| sampler.temperature(1.0)).expect("settings");
    let used = fresh(9);
    run(&used);
    assert_eq!(used, fresh(9));
    assert_eq!(run(&used.clone().steps(4).expect("steps")), run(&fresh(4)));
    let corrector = Corrector::new(2).expect("settings");
    assert_eq!(run(&used.corrected(corrector)), run(&fresh(9).corrected(corrector)));
}

/// Which positions are taken is decided in the precision of the answer: of two that are nearly as sure the surer one.
#[test]
fn answers_of_double_precision_are_compared_as_such() {
    let sampler = BlockRefinement::new(3, 2, 2).and_then(|sampler| sampler.masked(3)).expect("settings");
    for surer in [0, 1] {
        let denoiser = tokens_fn(move |tokens: Tensor<2, Int>, _step| {
            let mut logs = [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]];
            logs[0][surer] += 1e-12;
            let data = TensorData::new(logs.concat(), [1, 3, 2]);
            Ok(Tensor::<3>::from_data(data, (&tokens.device(), DType::F64)))
        });
        let noise = Seeded::new(3);
        let mut run = sampler.start_from(0, tokens([[3, 3]]), &denoiser, &noise).expect("a run");
        let step = run.next().expect("a step").expect("a step");
        let expected = [0, 1].map(|position| i64::from(position == surer));
        assert_eq!(list(&step.accepted.int()), expected);
    }
}

/// Masks of training: the same for the same step, and others in each.
#[test]
fn masks_of_training_change_from_step_to_step() {
    let (noise, clean) = (Seeded::new(3), tokens([[0; 64]; 2]));
    let git = MaskGit::new(3, 3, 4).expect("settings");
    let blocks = BlockRefinement::new(3, 8, 4).and_then(|sampler| sampler.masked(3)).expect("settings");
    let by_share = |step| list(&git.noised(&clean, 2, &noise, 0, step).expect("masks"));
    let by_block = |step| list(&blocks.noised(&clean, None, &noise, 0, step).expect("masks")[0]);
    for noised in [&by_share as &dyn Fn(u64) -> Vec<i64>, &by_block] {
        let (first, again, next) = (noised(0), noised(0), noised(1));
        assert_eq!(first, again);
        assert_ne!(first, next);
        // What one step has in its second block is not what the next one has in its first.
        assert_ne!(first[8..16], next[..8]);
        assert_ne!(first[..64], first[64..]);
    }
}
