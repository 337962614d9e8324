//! From what somebody typed to a row of the table.

use super::elsewhere::ELSEWHERE;
use super::error::NameError;
use super::spacing::{SPACINGS, Spacing};
use super::table::{Entry, SOLVERS};

/// A name without case and separators, with "++" as programs spell it in identifiers.
pub(super) fn key(name: &str) -> String {
    let kept = name.chars().filter_map(|c| match c {
        '+' => Some('p'),
        c if c.is_alphanumeric() => Some(c),
        _ => None,
    });
    kept.flat_map(char::to_lowercase).collect()
}

/// All spellings of a row.
fn spellings(entry: &'static Entry) -> impl Iterator<Item = &'static str> {
    std::iter::once(entry.name).chain(entry.also.iter().copied())
}

fn spacing_spellings() -> impl Iterator<Item = (&'static str, Spacing)> {
    SPACINGS
        .iter()
        .flat_map(|row| std::iter::once(row.name).chain(row.also.iter().copied()).map(move |name| (name, row.spacing)))
}

/// The schedule that has this key, by its name or as k-diffusion's function.
fn spacing_of(asked: &str) -> Option<Spacing> {
    let bare = asked.strip_prefix("getsigmas").unwrap_or(asked);
    spacing_spellings().find(|(name, _)| key(name) == bare).map(|(_, spacing)| spacing)
}

/// The row and the schedule of a name: a sampler's, or a sampler's followed by a schedule's.
pub(super) fn resolve(name: &str) -> Result<(&'static Entry, Spacing), NameError> {
    let whole = key(name);
    // k-diffusion's functions, and A1111's short names.
    let bare = ["sample", "k"].iter().filter_map(|prefix| whole.strip_prefix(prefix));
    for asked in std::iter::once(whole.as_str()).chain(bare) {
        if let Some(found) = find(asked) {
            return Ok(found);
        }
    }
    let known = ELSEWHERE.iter().find(|row| {
        let known = key(row.name);
        let rest = whole.strip_prefix("sample").unwrap_or(&whole).strip_prefix(known.as_str());
        rest.is_some_and(|rest| rest.is_empty() || spacing_of(rest).is_some())
    });
    if let Some(row) = known {
        return Err(NameError::Elsewhere { given: name.to_owned(), advice: row.advice });
    }
    let given = name.to_owned();
    if spacing_of(&whole).is_some() {
        return Err(NameError::ScheduleAlone { given });
    }
    if whole.ends_with("pipeline") {
        return Err(NameError::Pipeline { given });
    }
    if let Some((sampler, first, second)) = two_schedules(&whole) {
        return Err(NameError::TwoSchedules { given, sampler, first, second });
    }
    let nearest = nearest(
        &whole,
        SOLVERS.iter().flat_map(spellings).flat_map(|solver| {
            std::iter::once(solver.to_owned()).chain(SPACINGS.iter().map(move |row| format!("{solver} {}", row.name)))
        }),
    );
    Err(NameError::Unknown { given, nearest })
}

/// A sampler and the two schedules behind it.
fn two_schedules(asked: &str) -> Option<(&'static str, &'static str, &'static str)> {
    let rests = SOLVERS.iter().flat_map(|entry| {
        spellings(entry).filter_map(move |solver| Some((entry.name, asked.strip_prefix(key(solver).as_str())?)))
    });
    let mut split = rests.flat_map(|(sampler, rest)| {
        spacing_spellings()
            .filter_map(move |(first, _)| Some((sampler, first, rest.strip_prefix(key(first).as_str())?)))
    });
    split.find_map(|(sampler, first, rest)| {
        let (second, _) = spacing_spellings().find(|(name, _)| key(name) == rest)?;
        Some((sampler, first, second))
    })
}

/// The schedule of a name.
pub(super) fn resolve_spacing(name: &str) -> Result<Spacing, NameError> {
    let asked = key(name);
    spacing_of(&asked).ok_or_else(|| NameError::UnknownSpacing {
        given: name.to_owned(),
        nearest: nearest(&asked, spacing_spellings().map(|(name, _)| name.to_owned())),
    })
}

fn find(asked: &str) -> Option<(&'static Entry, Spacing)> {
    for entry in SOLVERS {
        for solver in spellings(entry) {
            match asked.strip_prefix(key(solver).as_str()) {
                None => {}
                Some("") => return Some((entry, entry.spacing)),
                Some(rest) => {
                    if let Some(spacing) = spacing_of(rest) {
                        return Some((entry, spacing));
                    }
                }
            }
        }
    }
    None
}

/// The name with the fewest edits, insertions and swaps from what was asked, the first of several; none where even that is far: more
/// than every third letter edited, in all of the name or in as much of its beginning as was asked for. That both are schedulers is
/// no likeness.
pub(crate) fn nearest(asked: &str, names: impl Iterator<Item = String>) -> Option<String> {
    let asked = key(asked);
    let name = names.min_by_key(|name| strsim::damerau_levenshtein(&asked, &key(name)))?;
    let whole = key(&name);
    let own = |of| str::strip_suffix(of, "scheduler");
    let (asked, whole) = own(&asked).zip(own(&whole)).unwrap_or((&asked, &whole));
    let letters = asked.chars().count();
    let begin: String = whole.chars().take(letters).collect();
    let near = |part: &str| 3 * strsim::damerau_levenshtein(asked, part) <= letters.max(part.chars().count());
    (letters > 0 && (near(whole) || near(&begin))).then_some(name)
}
