//! Tables of numbers as text, one vector a line.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("iris.csv");
//! std::fs::write(&path, "width,height,kind\n1.5,2,setosa\n0.5,4,virginica\n2.5,3,setosa\n")?;
//! let table = langevin_data::csv::open(&path).labels("kind").load()?;
//! assert_eq!(table.columns, ["width", "height"]);
//! assert_eq!(table.vectors.vector(1)?, [0.5, 4.0]);
//! assert_eq!(table.vectors.labels(), Some(&[0, 1, 0][..]));
//! assert_eq!(table.classes, ["setosa", "virginica"]); // sorted
//! # Ok(())
//! # }
//! ```

use super::{FileError, Problem, open as open_file};
use crate::{DataError, VectorSet};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A table to be read; made by [`open`].
#[derive(Debug, Clone)]
pub struct Csv {
    path: PathBuf,
    delimiter: u8,
    header: Option<bool>,
    labels: Option<String>,
}

/// What was in a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// The numbers, `[lines, columns]`, with the labels if a column of them was named.
    pub vectors: VectorSet,
    /// The names of the columns of numbers; without a header they are counted from 1: "1", "2", …
    pub columns: Vec<String>,
    /// The names of the classes, sorted; empty without labels.
    pub classes: Vec<String>,
}

/// A table in a file, separated by commas. The first line is taken for the names of the columns unless all of its fields
/// are numbers; [`Csv::with_header`] and [`Csv::without_header`] say it outright.
pub fn open(path: impl AsRef<Path>) -> Csv {
    Csv { path: path.as_ref().to_path_buf(), delimiter: b',', header: None, labels: None }
}

impl Csv {
    /// The character between fields, such as `b';'` or `b'\t'`.
    #[must_use]
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.delimiter = delimiter;
        self
    }

    /// The first line has the names of the columns, also where these are numbers such as years.
    #[must_use]
    pub fn with_header(mut self) -> Self {
        self.header = Some(true);
        self
    }

    /// The first line is data; columns are named "1", "2", …
    #[must_use]
    pub fn without_header(mut self) -> Self {
        self.header = Some(false);
        self
    }

    /// The column that holds the class of each line, any text.
    #[must_use]
    pub fn labels(mut self, column: &str) -> Self {
        self.labels = Some(column.to_owned());
        self
    }

    /// Reads the table.
    ///
    /// # Errors
    ///
    /// [`DataError::File`]: it cannot be read, has no lines, lines of unequal length, text or NaN where a number
    /// should be, or no such column of labels.
    pub fn load(self) -> Result<Table, DataError> {
        let path = self.path.as_path();
        let bad = |problem| FileError::new(path, problem);
        let file = open_file(path)?;
        let builder = csv_crate::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(self.delimiter)
            .trim(csv_crate::Trim::All)
            .from_reader(file);
        let (mut columns, mut at, mut values, mut texts): (Vec<String>, _, _, _) =
            (Vec::new(), None, Vec::new(), Vec::new());
        for (number, record) in builder.into_records().enumerate() {
            let record = record.map_err(|error| bad(table_problem(error)))?;
            let line = record.position().map_or(number as u64 + 1, csv_crate::Position::line);
            if number == 0 {
                let header = self
                    .header
                    .unwrap_or_else(|| !record.iter().all(|text| text.parse::<f32>().is_ok_and(f32::is_finite)));
                columns = match header {
                    true => record.iter().map(str::to_owned).collect(),
                    false => (1..=record.len()).map(|column| column.to_string()).collect(),
                };
                if let Some(name) = &self.labels {
                    let known = columns.join(", ");
                    let found = columns.iter().position(|column| column == name);
                    at = Some(found.ok_or_else(|| bad(Problem::NoColumn { name: name.clone(), known }))?);
                }
                if header {
                    continue;
                }
            }
            if record.len() != columns.len() {
                return Err(bad(Problem::Ragged { line, given: record.len(), expected: columns.len() }).into());
            }
            for (column, text) in record.iter().enumerate() {
                if Some(column) == at {
                    texts.push(text.to_owned());
                    continue;
                }
                match text.parse::<f32>() {
                    Ok(value) if value.is_finite() => values.push(value),
                    _ => {
                        let text = text.chars().take(40).collect();
                        return Err(bad(Problem::NotANumber { line, column: column + 1, text }).into());
                    }
                }
            }
        }
        let width = columns.len() - usize::from(at.is_some());
        if values.is_empty() {
            return Err(bad(Problem::NoLines).into());
        }
        let mut vectors = VectorSet::new(values.clone(), [values.len() / width, width])?;
        let classes: Vec<String> = texts.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
        if let Some(at) = at {
            columns.remove(at);
            let class = |text: &String| classes.binary_search(text).unwrap_or_default();
            vectors = vectors.with_labels(texts.iter().map(class).collect(), classes.len())?;
        }
        Ok(Table { vectors, columns, classes })
    }
}

fn table_problem(error: csv_crate::Error) -> Problem {
    let line = error.position().map_or(0, csv_crate::Position::line);
    match error.into_kind() {
        csv_crate::ErrorKind::Io(source) => Problem::Io { action: "read", source },
        _ => Problem::Text { line },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_line_of_numbers_is_data() {
        let table = load(b"1,2\n3,4\n", |csv| csv).unwrap();
        assert_eq!((table.vectors.len(), &table.columns[..]), (2, &["1".to_owned(), "2".to_owned()][..]));
        let named = load(b"1,2\n3,4\n", Csv::with_header).unwrap();
        assert_eq!((named.vectors.len(), named.vectors.vector(0).unwrap()), (1, &[3.0, 4.0][..]));
        let table = load(b"1,b\n3,4\n", |csv| csv).unwrap();
        assert_eq!((table.vectors.len(), &table.columns[..]), (1, &["1".to_owned(), "b".to_owned()][..]));
    }

    fn load(text: &[u8], settings: impl FnOnce(Csv) -> Csv) -> Result<Table, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.csv");
        std::fs::write(&path, text).unwrap();
        settings(open(&path)).load()
    }

    fn problem(text: &[u8], settings: impl FnOnce(Csv) -> Csv) -> Problem {
        match load(text, settings).unwrap_err() {
            DataError::File(error) => error.problem,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn tables_of_several_kinds() {
        let plain = load(b"a,b\n1,2\n 3 ,-4e-1\n", |csv| csv).unwrap();
        assert_eq!(plain.vectors.values(), [1.0, 2.0, 3.0, -0.4]);
        assert_eq!((plain.vectors.dim(), plain.vectors.labels()), (2, None));
        let bare = load(b"7;1;2\n8;3;4\n7;5;6", |csv| csv.without_header().delimiter(b';').labels("1")).unwrap();
        assert_eq!(bare.vectors.values(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(bare.columns, ["2", "3"]);
        assert_eq!(bare.classes, ["7", "8"]);
        assert_eq!(bare.vectors.labels(), Some(&[0, 1, 0][..]));
        let quoted = load(b"x,name\n1,\"a, b\"\n2,c\n", |csv| csv.labels("name")).unwrap();
        assert_eq!(quoted.classes, ["a, b", "c"]);
    }

    #[test]
    fn ragged_rows() {
        assert!(matches!(problem(b"a,b\n1,2\n3\n", |csv| csv), Problem::Ragged { line: 3, given: 1, expected: 2 }));
        assert!(matches!(problem(b"a,b\n1,2,3\n", |csv| csv), Problem::Ragged { line: 2, given: 3, expected: 2 }));
    }

    #[test]
    fn text_and_nan() {
        for text in ["x", "", "NaN", "inf", "1e99", "0x10"] {
            let table = format!("a,b\n1,2\n3,{text}\n");
            let problem = problem(table.as_bytes(), |csv| csv);
            assert!(
                matches!(&problem, Problem::NotANumber { line: 3, column: 2, text: found } if found == text),
                "{problem}"
            );
        }
        assert!(matches!(problem(b"a\n\xff\xfe\n", |csv| csv), Problem::Text { line: 2 }));
    }

    #[test]
    fn nothing_to_read() {
        assert!(matches!(problem(b"", |csv| csv), Problem::NoLines));
        assert!(matches!(problem(b"a,b\n", |csv| csv), Problem::NoLines));
        assert!(matches!(problem(b"kind\na\n", |csv| csv.labels("kind")), Problem::NoLines));
        let missing = problem(b"a,b\n1,2\n", |csv| csv.labels("c"));
        assert!(matches!(&missing, Problem::NoColumn { name, known } if name == "c" && known == "a, b"), "{missing}");
    }
}
