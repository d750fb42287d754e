//! The Python face of the engine: a table of contents of what `nearfs._native` offers.
//!
//! Owns the mapping between Rust values and Python objects, and nothing else: each function takes its arguments,
//! detaches from the interpreter, calls the engine and converts the answer. No Rust thread ever enters Python.

/// The compiled half of nearfs.
#[pyo3::pymodule]
mod _native {
    /// Version of the engine; the Python package checks that it is its own.
    #[pymodule_export]
    const __VERSION__: &str = env!("CARGO_PKG_VERSION");
}
