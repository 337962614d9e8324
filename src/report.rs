//! Errors as `main` shows them.

use std::error::Error;
use std::fmt;

/// Any error, for the result of `main`: a program that ends with one prints its message, not its fields.
///
/// Rust prints the error of `main` by `Debug`, which for the errors of this library is a list of their fields. The messages
/// say what was given, what was expected and what to do, so this type has them as its `Debug`, too. It is made from
/// errors and from text; a `Box<dyn Error + Send + Sync>` becomes one by `.map_err(|error| error as Box<dyn Error>)`. It is for programs alone: a library returns the typed errors.
///
/// # Example
///
/// ```
/// use langevin::prelude::*;
///
/// fn main() -> Result<(), Report> {
///     let plan = Ddim::new().plan(&VpSde::default(), &Grid::uniform(50))?;
///     println!("{plan}");
///     Ok(())
/// }
/// ```
pub struct Report(Box<dyn Error>);

impl<E: Into<Box<dyn Error>>> From<E> for Report {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl Report {
    /// The error itself, to be asked for its type.
    pub fn error(&self) -> &(dyn Error + 'static) {
        &*self.0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.to_string();
        write!(f, "{shown}")?;
        // Messages of this library end with those of their causes; others do not.
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let message = error.to_string();
            if !shown.contains(&message) {
                write!(f, "\n  because {message}")?;
                shown = message;
            }
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(std::io::Error);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the file is not read")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn messages_are_shown_and_fields_are_not() {
        let error = crate::core::Grid::times(vec![0.1, 0.5]).unwrap_err();
        let message = error.to_string();
        let report = Report::from(error.clone());
        assert_eq!((format!("{report:?}"), format!("{report}")), (message.clone(), message));
        assert_eq!(report.error().downcast_ref(), Some(&error));
    }

    #[test]
    fn causes_are_shown_once() {
        let cause = || std::io::Error::other("the disk is gone");
        assert_eq!(format!("{:?}", Report::from(cause())), "the disk is gone");
        assert_eq!(format!("{:?}", Report::from(Outer(cause()))), "the file is not read\n  because the disk is gone");
        assert_eq!(format!("{:?}", Report::from("text alone")), "text alone");
    }
}
