//! A mount that a loop in Python serves. Every call detaches: it waits for the kernel, for a bounded time.

use pyo3::prelude::*;

use crate::errors::Raised;
use crate::mount::UNMOUNT_GRACE;

/// A mount that a Python loop serves.
#[pyclass(frozen, module = "nearfs._native")]
pub(crate) struct UnservedMount(pub(crate) nearfs_fuse::UnservedMount);

#[pymethods]
impl UnservedMount {
    fn set_read_ahead(&self, py: Python<'_>) {
        py.detach(|| self.0.set_read_ahead());
    }

    fn unmount(&self, py: Python<'_>) -> Result<(), Raised> {
        py.detach(|| self.0.unmount(UNMOUNT_GRACE))?;
        Ok(())
    }

    fn give_up(&self, py: Python<'_>) {
        py.detach(|| self.0.give_up());
    }
}
