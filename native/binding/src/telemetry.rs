//! The engine's log, written without Python: a mount process logs to a file or to standard error.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::sync::Mutex;

use nearfs_core::Error;
use pyo3::prelude::*;
use tracing_subscriber::EnvFilter;

use crate::errors::Raised;

/// Writes the engine's log to a file, or to standard error; the first call of a process counts.
#[pyfunction]
pub(crate) fn log_to(file: Option<PathBuf>, level: &str) -> Result<(), Raised> {
    let filter = EnvFilter::try_new(level).map_err(|e| Raised::invalid("log", format!("level `{level}`: {e}")))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    // A second call finds a log in place already and leaves it there.
    let _ = match file {
        None => builder.with_writer(std::io::stderr).try_init(),
        Some(path) => {
            let opened = OpenOptions::new().append(true).create(true).open(&path);
            let log = opened.map_err(|e| Error::io("open log", path.display().to_string(), e))?;
            builder.with_writer(Mutex::new(log)).try_init()
        }
    };
    Ok(())
}

/// Tells whether the engine was built without optimisation.
#[pyfunction]
pub(crate) fn is_debug_build() -> bool {
    cfg!(debug_assertions)
}
