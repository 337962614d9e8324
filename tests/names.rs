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
