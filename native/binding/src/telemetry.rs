//! The engine's log, written without Python: to a file, standard error, the system's log, and into memory.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::sync::Mutex;

use nearfs_core::{Error, journal};
use pyo3::prelude::*;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::errors::Raised;
use crate::syslog::Syslog;

/// Keeps the newest lines for `user.logbuffer`.
struct Memory;

impl<S: Subscriber> Layer<S> for Memory {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        journal::keep(&text_of(event));
    }
}

/// Collects an event's message and the values beside it.
#[derive(Default)]
struct Text {
    message: String,
    values: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.values, " {name}={value:?}"),
        };
    }
}

/// Returns an event as one text.
pub(crate) fn text_of(event: &Event<'_>) -> String {
    let mut text = Text::default();
    event.record(&mut text);
    text.message + &text.values
}

/// Begins the engine's log; the first call of a process counts.
///
/// `level` is what goes to `file`, or to standard error; `None` for nothing. `system` is the system's log: facility,
/// severity of notices, prefix. The newest lines are kept in memory in any case.
#[pyfunction]
#[pyo3(signature = (level = None, file = None, system = None))]
pub(crate) fn start_log(
    level: Option<&str>,
    file: Option<PathBuf>,
    system: Option<(u8, u8, String)>,
) -> Result<(), Raised> {
    let filter =
        |level: &str| EnvFilter::try_new(level).map_err(|e| Raised::invalid("log", format!("level `{level}`: {e}")));
    let output = match (level, file) {
        (None, _) => None,
        (Some(level), None) => {
            Some(fmt::layer().with_ansi(false).with_writer(std::io::stderr).with_filter(filter(level)?).boxed())
        }
        (Some(level), Some(path)) => {
            let opened = OpenOptions::new().append(true).create(true).open(&path);
            let log = opened.map_err(|e| Error::io("open log", path.display().to_string(), e))?;
            Some(fmt::layer().with_ansi(false).with_writer(Mutex::new(log)).with_filter(filter(level)?).boxed())
        }
    };
    let system =
        system.map(|(facility, normal, prefix)| Syslog::new(facility, normal, prefix).with_filter(LevelFilter::INFO));
    // A second call finds a log in place already and leaves it there.
    let _ =
        tracing_subscriber::registry().with(output).with(system).with(Memory.with_filter(LevelFilter::INFO)).try_init();
    Ok(())
}

/// Tells whether the engine was built without optimisation.
#[pyfunction]
pub(crate) fn is_debug_build() -> bool {
    cfg!(debug_assertions)
}
