//! Each number of a plan, a hundredth larger, makes a recorded step differ.

use crate::fixture::{Case, Fixture, find};
use crate::k_diffusion::{self, solver};
use crate::k_diffusion_steps::{drawn, open};
use crate::known::{self, Which};
use crate::schedulers::Walked;
use langevin::schedulers::Plan;
use langevin::schedulers::diffusers;
use langevin::schedulers::plan::Row;
use serde_json::Value;
use std::collections::BTreeMap;

/// None if they are other ones: how much of a plan recorded steps show depends on what is recorded.
fn fixtures(folder: &str) -> Option<Vec<Fixture>> {
    if known::which(&known::home()) == Which::Others {
        println!("{}", known::NOTE);
        return None;
    }
    Some(find(&known::home().join(folder)).iter().filter_map(|path| Fixture::read(path)).collect())
}

/// A number that no recorded step shows.
struct Hidden {
    name: String,
    row: Row,
    value: f64,
}

/// How many numbers of a plan there are that states are computed with, and those of them that are not noticed.
fn mutate(name: &str, plan: &Plan, fails: impl Fn(&Plan) -> bool) -> (usize, Vec<Hidden>) {
    let table = serde_json::to_value(plan).expect("a plan is data");
    let (mut mutants, mut hidden) = (0, Vec::new());
    assert!(!fails(plan), "{name}");
    for (index, row) in plan.rows().iter().enumerate() {
        for (part, sets) in [("pre", &row.pre), ("post", &row.post)] {
            let terms = sets.iter().enumerate().flat_map(|(set, it)| (0..it.sum.len()).map(move |term| (set, term)));
            for (set, term) in terms {
                let pointer = format!("/rows/{index}/{part}/{set}/sum/{term}/c/C");
                let mut mutant = table.clone();
                // Learned factors are no numbers of the plan.
                let Some(number) = mutant.pointer_mut(&pointer) else { continue };
                let value = number.as_f64().expect("a number");
                *number = Value::from(1.01 * value);
                mutants += 1;
                if !fails(&serde_json::from_value(mutant).expect("still a plan")) {
                    hidden.push(Hidden { name: format!("{name}: {pointer} = {value}"), row: row.clone(), value });
                }
            }
        }
    }
    (mutants, hidden)
}

/// Float32 resolves neither weights below 10⁻⁴ nor, where noise is all that there is, stages: the answer hardly depends on
/// what is asked about.
#[test]
fn numbers_of_k_diffusions_plans_are_noticed() {
    let Some(fixtures) = fixtures("k_diffusion") else { return };
    let (mut mutants, mut hidden) = (0, 0);
    for fixture in fixtures {
        for case in fixture.cases() {
            let (states, answers) = (case.tensor("x_at_callback"), case.tensor("denoised_at_callback"));
            let (Some(states), Some(answers)) = (states, answers) else { continue };
            let plan = solver(&case).and_then(|solver| k_diffusion::plan(&case, &*solver)).expect("a plan");
            let (all, left) = mutate(case.name(), &plan, |plan| {
                let again = case.again();
                open(&again, plan, &drawn(&case, plan), states, answers);
                !again.failures().is_empty()
            });
            for number in &left {
                let eval = number.row.eval.expect("a question");
                let in_noise = number.row.step.is_none() && eval.at.sigma > 1.0;
                assert!(number.value.abs() < 1e-4 || in_noise, "{} is not noticed", number.name);
            }
            (mutants, hidden) = (mutants + all, hidden + left.len());
        }
    }
    assert!(mutants > 1000 && hidden * 50 < mutants, "{hidden} of {mutants} are not noticed");
}

/// Of a hundredth of a number, recorded steps of float32 show what is above their tolerance: small weights of old answers, and
/// data where the state is noise, are not, nor the 10⁻⁸ of a state that LCM keeps. A last step to clean data reads no state, nor
/// what corrected it.
#[test]
fn most_numbers_of_configured_plans_are_noticed() {
    let Some(fixtures) = fixtures("schedulers") else { return };
    let own = ["KarrasVeScheduler", "RePaintScheduler"];
    let is_walked = |case: &Case<'_>| diffusers::CLASSES.contains(&case.class()) && !own.contains(&case.class());
    let mut classes = BTreeMap::new();
    for fixture in fixtures {
        for case in fixture.cases().into_iter().filter(is_walked) {
            let walked = Walked::of(&case).expect("a plan");
            let (all, left) = mutate(case.name(), &walked.plan, |plan| {
                let again = case.again();
                walked.open(&again, plan);
                !again.failures().is_empty()
            });
            let class = classes.entry(case.class().to_owned()).or_insert((0, 0));
            *class = (class.0 + all, class.1 + left.len());
        }
    }
    for (class, (mutants, hidden)) in &classes {
        assert!(3 * hidden < *mutants, "{class}: {hidden} of {mutants} are not noticed");
    }
    let (mutants, hidden) = classes.values().fold((0, 0), |sum, class| (sum.0 + class.0, sum.1 + class.1));
    assert!(mutants > 7000 && hidden * 10 < mutants, "{hidden} of {mutants} are not noticed");
}
