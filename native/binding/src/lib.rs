//! The Python face of the engine: a table of contents of what `nearfs._native` offers.
//!
//! Owns the mapping between Rust values and Python objects, and nothing else: each function takes its arguments,
//! detaches from the interpreter, calls the engine and converts the answer. No Rust thread ever enters Python.

mod attr;
mod bundles;
mod cache;
mod catalog;
mod check;
mod content;
mod engine;
mod errors;
mod following;
mod into;
mod mount;
mod network;
mod opening;
mod progress;
mod publish;
mod replica;
mod revisions;
mod rewriting;
mod route;
mod storage;
mod sweep;
mod syslog;
mod tags;
mod telemetry;
mod tracing;
mod unserved;
mod values;

/// The compiled half of nearfs.
#[pyo3::pymodule]
mod _native {
    /// Version of the engine; the Python package checks that it is its own.
    #[pymodule_export]
    const __VERSION__: &str = env!("CARGO_PKG_VERSION");

    #[pymodule_export]
    use crate::attr::Attr;
    #[pymodule_export]
    use crate::bundles::{encode_bundle, list_bundles, parse_bundle};
    #[pymodule_export]
    use crate::cache::DiskCache;
    #[pymodule_export]
    use crate::catalog::Catalog;
    #[pymodule_export]
    use crate::check::{check_history, check_references, check_revision};
    #[pymodule_export]
    use crate::content::{cut_marks, deflate, hash_content, inflate, names_of_file};
    #[pymodule_export]
    use crate::engine::{Engine, open_engine};
    #[pymodule_export]
    use crate::errors::error_kinds;
    #[pymodule_export]
    use crate::following::Following;
    #[pymodule_export]
    use crate::into::{plan_into, publish_into};
    #[pymodule_export]
    use crate::mount::{Mount, clear_stale_mount, is_mounted, mount};
    #[pymodule_export]
    use crate::progress::Progress;
    #[pymodule_export]
    use crate::publish::{
        copy_directory, create_repository, plan_publish, publish_source, roll_back, update_virtual_directory,
    };
    #[pymodule_export]
    use crate::replica::{ReplicaSource, list_references};
    #[pymodule_export]
    use crate::revisions::{RevisionDiff, list_catalogs};
    #[pymodule_export]
    use crate::rewriting::rewrite_catalogs;
    #[pymodule_export]
    use crate::route::Route;
    #[pymodule_export]
    use crate::storage::{create_storage, put_object, read_object, sync_storage, write_named};
    #[pymodule_export]
    use crate::sweep::{SweepPlan, plan_sweep, rebuild_references};
    #[pymodule_export]
    use crate::tags::{catalog_facts, edit_tags, list_branches, list_tags, record_references};
    #[pymodule_export]
    use crate::telemetry::{is_debug_build, start_log};
    #[pymodule_export]
    use crate::tracing::{Tracing, parse_trace};
    #[pymodule_export]
    use crate::unserved::UnservedMount;
}
