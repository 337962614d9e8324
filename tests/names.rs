//! The pages of names, against the table behind `names::from_name`.

use langevin::schedulers::diffusers;
use langevin::schedulers::names::{self, NameError};
use std::fmt::Write as _;
use std::path::Path;

const BEGIN: &str = "<!-- names -->\n";
const END: &str = "<!-- /names -->\n";

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path)
}

fn table(title: &str, columns: [&str; 3], rows: impl Iterator<Item = names::Listed>) -> String {
    let mut text = format!("## {title}\n\n| {} | {} | {} |\n|---|---|---|\n", columns[0], columns[1], columns[2]);
    for row in rows {
        let also: Vec<String> = row.also.iter().map(|name| format!("`{name}`")).collect();
        writeln!(text, "| `{}` | {} | {} |", row.name, also.join(", "), row.what).expect("a string");
    }
    text.push('\n');
    text
}

/// The tables of `docs/names.md`; `LANGEVIN_WRITE_DOCS=1` writes them.
#[test]
fn the_page_of_names_is_the_table() {
    let mut tables = table("Samplers", ["name", "also", "what it is"], names::solvers());
    tables += &table("Schedules", ["name", "also", "how levels are spaced"], names::spacings());
    let elsewhere = names::elsewhere().map(|row| format!("| `{}` | {} |\n", row.name, row.what)).collect::<String>();
    tables += &format!("## Known, and not by the name alone\n\n| name | instead |\n|---|---|\n{elsewhere}\n");

    let page = read("docs/names.md");
    let (before, rest) = page.split_once(BEGIN).expect("the beginning of the tables");
    let (committed, after) = rest.split_once(END).expect("the end of the tables");
    if std::env::var_os("LANGEVIN_WRITE_DOCS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/names.md");
        std::fs::write(path, format!("{before}{BEGIN}\n{tables}{END}{after}")).expect("docs/names.md can be written");
        return;
    }
    assert_eq!(committed.trim(), tables.trim(), "docs/names.md is old; write it with LANGEVIN_WRITE_DOCS=1");
}

/// Code spans in the first cells of a page's tables.
fn first_cells(page: &str) -> Vec<&str> {
    let cells = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

/// The name of a function or class in a code span, without its arguments.
fn bare(span: &str) -> &str {
    let span = span.strip_prefix("sampling.").unwrap_or(span);
    span.split('(').next().unwrap_or(span)
}

#[test]
fn every_sampler_on_the_pages_of_other_programs_resolves() {
    for (page, is_sampler) in [
        ("docs/from-k-diffusion.md", (|name| name.starts_with("sample_")) as fn(&str) -> bool),
        ("docs/from-diffusers.md", |name| name.ends_with("Scheduler")),
    ] {
        let text = read(page);
        let listed: Vec<&str> = first_cells(&text).into_iter().map(bare).filter(|name| is_sampler(name)).collect();
        assert!(listed.len() >= 9, "{page}: {listed:?}");
        for name in &listed {
            // Some are samplers and processes in one, and RePaint wants an image: the error says how they are made.
            let named = names::from_name(name);
            assert!(matches!(named, Ok(_) | Err(NameError::Elsewhere { .. })), "{page}: {name} does not resolve");
        }
    }
}

/// What resolves is on the pages: all functions of k-diffusion, all classes of diffusers.
#[test]
fn the_pages_of_other_programs_are_complete() {
    let page = read("docs/from-diffusers.md");
    let classes = diffusers::CLASSES.iter().chain(&diffusers::SCORE_SDE_CLASSES).chain(&diffusers::HELIOS_CLASSES);
    for class in classes.chain(&diffusers::TOKEN_CLASSES).chain(&["RFD4ProteinaScheduler", "PiflowScheduler"]) {
        assert!(first_cells(&page).iter().any(|cell| bare(cell) == *class), "docs/from-diffusers.md lacks {class}");
    }
    let page = read("docs/from-k-diffusion.md");
    let functions = [
        "sample_euler",
        "sample_euler_ancestral",
        "sample_heun",
        "sample_dpm_2",
        "sample_dpm_2_ancestral",
        "sample_lms",
        "sample_dpm_fast",
        "sample_dpm_adaptive",
        "sample_dpmpp_2s_ancestral",
        "sample_dpmpp_sde",
        "sample_dpmpp_2m",
        "sample_dpmpp_2m_sde",
        "sample_dpmpp_3m_sde",
    ];
    for function in functions.into_iter().filter(|function| names::from_name(function).is_ok()) {
        assert!(
            first_cells(&page).iter().any(|cell| bare(cell) == function),
            "docs/from-k-diffusion.md lacks {function}"
        );
    }
}

#[test]
fn the_check_of_the_pages_can_fail() {
    let page = "| k-diffusion | here |\n|---|---|\n| `sample_a(n)`, `b` | `C` |\ntext `d`\n";
    assert_eq!(first_cells(page), ["sample_a(n)", "b"]);
    assert_eq!((bare("sampling.sample_a(n)"), bare("b")), ("sample_a", "b"));
    assert!(names::from_name("sample_nothing").is_err());
}

/// A class that another function reads: the error names it.
#[test]
fn configurations_of_other_functions() {
    let says = |error: &diffusers::ConfigError, parts: [&str; 2]| {
        let error = error.to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    };
    let file = |class: &str| format!(r#"{{"_class_name": "{class}"}}"#);
    for (class, reads) in [
        ("AmusedScheduler", "amused_from_config"),
        ("VQDiffusionScheduler", "vq_diffusion_from_config"),
        ("DiscreteDDIMScheduler", "discrete_ddim_from_config"),
        ("EntropyBoundScheduler", "entropy_bound_from_config"),
        ("BlockRefinementScheduler", "block_refinement_from_config"),
        ("PiflowScheduler", "piflow_from_config"),
        ("RFD4ProteinaScheduler", "rfd4_proteina_from_config"),
        ("HeliosDMDScheduler", "helios_from_config"),
        ("ScoreSdeVpScheduler", "score_sde_from_config"),
    ] {
        let error = diffusers::from_config(&file(class)).expect_err("another function");
        says(&error, [&format!("'{class}' is not read by this function"), &format!("`diffusers::{reads}`")]);
    }
    let error = diffusers::amused_from_config(&file("DDPMScheduler"), 3, 4).expect_err("another function");
    says(&error, ["'DDPMScheduler' is not read by this function", "`diffusers::from_config`"]);
}

/// Every recorded class is read by one function, which says what it is; an option that no class has is refused by name.
#[test]
fn every_class_of_the_fixtures_is_read_by_one_function() {
    use diffusers::{ConfigError, Scheduler, from_diffusers};
    use std::collections::BTreeSet;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/schedulers");
    let (mut classes, mut count) = (BTreeSet::new(), 0);
    for entry in std::fs::read_dir(folder).expect("fixtures") {
        let path = entry.expect("a file").path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a fixture");
        let fixture: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        for case in fixture["cases"].as_array().expect("cases") {
            let class = case["class"].as_str().expect("a class");
            let mut config = case["config"].clone();
            config["_class_name"] = class.into();
            let (file, case) = (path.display(), &case["name"]);
            let scheduler =
                from_diffusers(&config.to_string()).unwrap_or_else(|error| panic!("{file}, {case}: {error}"));
            assert_eq!(scheduler.class(), class);
            let tokens = class == "VQDiffusionScheduler";
            assert_eq!((scheduler.process().is_none(), scheduler.prediction().is_none()), (tokens, tokens), "{class}");
            let direct = match &scheduler {
                Scheduler::Configured(_) => diffusers::from_config(&config.to_string()).map(|_| ()),
                Scheduler::ScoreSde(found) => {
                    diffusers::score_sde_from_config(&config.to_string()).map(|own| assert_eq!(own, *found))
                }
                _ => diffusers::vq_diffusion_from_config(&config.to_string()).map(|_| ()),
            };
            direct.unwrap_or_else(|error| panic!("{file}, {case}: {error}"));
            config["beta_strat"] = 0.1.into();
            let error = from_diffusers(&config.to_string()).expect_err("no such option");
            assert!(matches!(&error, ConfigError::UnknownKey { key, .. } if key == "beta_strat"), "{class}: {error}");
            classes.insert(class.to_owned());
            count += 1;
        }
    }
    assert!(classes.len() >= 35 && count > 200, "{} classes, {count} cases", classes.len());
}

/// Published sigmas beyond a chain are taken as diffusers takes them: as they are, and asked with the chain's last time.
#[test]
fn sigmas_beyond_a_chain_are_asked_with_its_last_time() {
    let sigmas = langevin::core::grid::AysTable::StableVideoDiffusion.sigmas();
    let config = r#"{"_class_name": "EulerDiscreteScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085,
        "beta_end": 0.012}"#;
    let scheduler = diffusers::from_config(config).expect("a scheduler");
    let plan = scheduler.plan_on(&scheduler.grid_of_sigmas(&sigmas).expect("a grid")).expect("a plan");
    let start = plan.start_node().level;
    assert!((start.sigma / start.alpha / 700.0 - 1.0).abs() < 1e-9, "{start:?}");
    let asked: Vec<f64> = plan.rows().iter().filter_map(|row| row.eval.map(|eval| eval.at.time)).collect();
    // 54.5 and 15.886 are beyond 14.6, too.
    assert_eq!(asked[..3], [999.0; 3], "{asked:?}");
    assert!(asked[3] < 999.0 && asked[3..].is_sorted_by(|a, b| a > b), "{asked:?}");
}

/// Every class that any function here knows, with what it is, and classes that none knows.
#[test]
fn every_class_is_something() {
    use diffusers::{ConfigError, Scheduler, from_diffusers};
    let all = diffusers::CLASSES.iter().chain(&diffusers::SCORE_SDE_CLASSES).chain(&diffusers::HELIOS_CLASSES);
    let all = all.chain(&diffusers::TOKEN_CLASSES).chain(&["RFD4ProteinaScheduler", "PiflowScheduler"]);
    let mut kinds = [0; 7];
    for class in all {
        // What has no default in the original.
        let needed = match *class {
            "AmusedScheduler" => r#", "mask_token_id": 8255"#,
            "VQDiffusionScheduler" => r#", "num_vec_classes": 4097"#,
            "RFD4ProteinaScheduler" => {
                r#", "schedule_mode": "log", "noise_mode": "1/t", "tsr_k": 2.0, "tsr_sigma": 0.5"#
            }
            _ => "",
        };
        let scheduler = from_diffusers(&format!(r#"{{"_class_name": "{class}"{needed}}}"#));
        let scheduler = scheduler.unwrap_or_else(|error| panic!("{class}: {error}"));
        assert_eq!(scheduler.class(), *class);
        let kind = match &scheduler {
            Scheduler::Configured(_) => 0,
            Scheduler::ScoreSde(_) => 1,
            Scheduler::Rfd4Proteina(_) => 2,
            Scheduler::Helios(_) => 3,
            Scheduler::PiFlow(_) => 4,
            Scheduler::VqDiffusion(_) => 5,
            Scheduler::Tokens(tokens) => {
                let made = [
                    tokens.mask_git(9000, 12).map(|_| ()),
                    tokens.discrete_ddim(1000).map(|_| ()),
                    tokens.entropy_bound(1000).map(|_| ()),
                    tokens.block_refinement(1000).map(|_| ()),
                ];
                assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1, "{class}: {made:?}");
                6
            }
            other => panic!("{other:?}"),
        };
        kinds[kind] += 1;
        let sampler = scheduler.sampler::<4>(if *class == "ConsistencyDecoderScheduler" { 2 } else { 40 });
        match sampler {
            Ok(_) => assert!(kind < 3, "{class}"),
            Err(ConfigError::NoSampler { class: named, .. }) => assert!(kind >= 3 && named == *class, "{class}"),
            Err(error) => panic!("{class}: {error}"),
        }
    }
    assert_eq!(kinds, [40, 2, 1, 2, 1, 1, 4]);
    let error = from_diffusers(r#"{"_class_name": "AmusedScheduler", "mask_token_id": 8255, "temperature": 2}"#);
    assert!(matches!(error, Err(ConfigError::UnknownKey { .. })), "{error:?}");
    let error = from_diffusers(r#"{"_class_name": "EulerDiscretScheduler"}"#).expect_err("a class that is not there");
    assert!(error.to_string().contains("'EulerDiscreteScheduler'"), "{error}");
    assert!(matches!(from_diffusers("[]"), Err(ConfigError::Json { .. })));
    assert!(matches!(from_diffusers("{}"), Err(ConfigError::NoClass)));
    let code = r#"{"training": {"sde": "vesde"}, "sampling": {"predictor": "none", "corrector": "ald"}}"#;
    assert_eq!(from_diffusers(code).expect("score SDEs' own code").class(), "score_sde_pytorch");
}
