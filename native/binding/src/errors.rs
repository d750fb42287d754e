//! Engine errors become Python exceptions here, and only here: by kind, through `nearfs.errors.from_kind`.

use nearfs_core::{Error, ErrorKind};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// An engine error on its way to Python.
pub(crate) struct Raised(Error);

impl From<Error> for Raised {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl Raised {
    /// Builds the refusal of an argument.
    pub(crate) fn invalid(operation: &'static str, reason: impl Into<String>) -> Self {
        Self(Error::new(ErrorKind::InvalidInput, operation, reason))
    }
}

impl From<nearfs_format::FormatError> for Raised {
    fn from(error: nearfs_format::FormatError) -> Self {
        Self(Error::format("read", "argument", error))
    }
}

impl From<Raised> for PyErr {
    fn from(Raised(error): Raised) -> Self {
        Python::attach(|py| {
            let build = || -> PyResult<Self> {
                let keywords = PyDict::new(py);
                keywords.set_item("operation", error.operation())?;
                keywords.set_item("subject", error.subject())?;
                let exception = py
                    .import("nearfs.errors")?
                    .getattr("from_kind")?
                    .call((error.kind().as_str(), error.to_string()), Some(&keywords))?;
                Ok(Self::from_value(exception))
            };
            build().unwrap_or_else(|failure| failure)
        })
    }
}

/// Returns the kind strings of the engine's errors.
#[pyfunction]
pub(crate) fn error_kinds() -> Vec<&'static str> {
    ErrorKind::ALL.iter().map(|kind| kind.as_str()).collect()
}
