//! The client's operations for a loop that is written in Python.
//!
//! Owns no decision: questions, counts and error numbers are those of the native loop.
//! A failed operation is an `OSError` with its number. The methods that end in `_nearby` answer `None` where the network
//! would be needed: a loop asks them first, and the plain ones from a worker thread.
//!
//! Threading: shared by all Python threads. What may wait detaches from the interpreter; what never waits does not.

use std::ops::ControlFlow;
use std::os::fd::IntoRawFd;
use std::sync::Arc;

use nearfs_core::client::{Fh, FileSystem, FsResult, Ino, working_for};
use nearfs_fuse::{Operation, Questions};
use parking_lot::RwLock;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::attr::{Attr, Listed};
use crate::errors::Raised;
use crate::following::Following;
use crate::mount::{count_upcalls, counters};
use crate::opening::{MountRequest, Opened};
use crate::route::Route;
use crate::tracing::Tracing;
use crate::unserved::UnservedMount;

struct Open {
    questions: Questions,
    opened: Opened,
}

/// A repository's revision as plain operations.
#[pyclass(frozen, module = "nearfs._native")]
pub(crate) struct Engine(RwLock<Option<Arc<Open>>>);

impl Engine {
    fn open_half(&self) -> PyResult<Arc<Open>> {
        let closed = || Raised::invalid("ask", "an engine that is closed");
        self.0.read().as_ref().map(Arc::clone).ok_or_else(|| closed().into())
    }

    fn ask<T>(
        &self,
        operation: Operation,
        ino: u64,
        question: impl FnOnce(&dyn FileSystem) -> FsResult<T>,
    ) -> PyResult<T> {
        let half = self.open_half()?;
        half.questions.ask(operation, Ino(ino), question).map_err(|errno| os_error(errno.code()))
    }

    /// Counts nothing: a request may need several pages, and the loop knows when one is answered.
    fn listing(&self, py: Python<'_>, directory: u64, from: u64, limit: usize) -> PyResult<Vec<Listed>> {
        let half = self.open_half()?;
        let entries = py.detach(|| {
            half.questions.answer(Operation::Readdirplus, Ino(directory), |fs| {
                let mut page = Vec::new();
                fs.list(Ino(directory), from, &mut |entry| {
                    page.push((entry.name.to_vec(), entry.attr, entry.next));
                    if page.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                })?;
                Ok(page)
            })
        });
        let entries = entries.map_err(|errno| os_error(errno.code()))?;
        let listed = entries.into_iter();
        Ok(listed.map(|(name, attr, next)| (PyBytes::new(py, &name).unbind(), attr.into(), next)).collect())
    }
}

fn os_error(number: i32) -> PyErr {
    // `strerror`'s text, without the number that Rust adds to it and that Python prints anyway.
    let text = std::io::Error::from_raw_os_error(number).to_string();
    let text = text.split(" (os error").next().unwrap_or_default().to_owned();
    PyOSError::new_err((number, text))
}

#[pymethods]
impl Engine {
    fn lookup(&self, py: Python<'_>, parent: u64, name: &[u8]) -> PyResult<Attr> {
        let answer = py.detach(|| self.ask(Operation::Lookup, parent, |fs| fs.lookup(Ino(parent), name)));
        answer.map(Attr::from)
    }

    /// Never waits, and misses are frequent: stays attached.
    fn lookup_nearby(&self, parent: u64, name: &[u8]) -> PyResult<Option<Attr>> {
        if !self.open_half()?.opened.client.is_listing_nearby(Ino(parent)) {
            return Ok(None);
        }
        self.ask(Operation::Lookup, parent, |fs| fs.lookup(Ino(parent), name)).map(|attr| Some(attr.into()))
    }

    /// May wait, where the entry's catalog was let go; so do the next three.
    fn getattr(&self, py: Python<'_>, ino: u64) -> PyResult<Attr> {
        py.detach(|| self.ask(Operation::Getattr, ino, |fs| fs.getattr(Ino(ino)))).map(Attr::from)
    }

    fn readlink<'py>(&self, py: Python<'py>, ino: u64) -> PyResult<Bound<'py, PyBytes>> {
        let target = py.detach(|| self.ask(Operation::Readlink, ino, |fs| fs.readlink(Ino(ino))))?;
        Ok(PyBytes::new(py, &target))
    }

    fn readdir(&self, py: Python<'_>, directory: u64, start: u64, limit: usize) -> PyResult<Vec<Listed>> {
        self.listing(py, directory, start, limit)
    }

    fn readdir_nearby(
        &self,
        py: Python<'_>,
        directory: u64,
        start: u64,
        limit: usize,
    ) -> PyResult<Option<Vec<Listed>>> {
        if !self.open_half()?.opened.client.is_listing_nearby(Ino(directory)) {
            return Ok(None);
        }
        self.listing(py, directory, start, limit).map(Some)
    }

    /// Returns handle, "pages of earlier opens stay good" and "bypass the page cache".
    #[pyo3(signature = (ino, flags, caller = 0))]
    fn open(&self, py: Python<'_>, ino: u64, flags: i32, caller: u32) -> PyResult<(u64, bool, bool)> {
        let open = || self.ask(Operation::Open, ino, |fs| fs.open(Ino(ino), flags));
        let opened = py.detach(|| working_for(caller, open))?;
        Ok((opened.fh.0, opened.keep_cache, opened.direct_io))
    }

    #[pyo3(signature = (ino, flags, caller = 0))]
    fn open_nearby(&self, py: Python<'_>, ino: u64, flags: i32, caller: u32) -> PyResult<Option<(u64, bool, bool)>> {
        let half = self.open_half()?;
        let is_nearby = py.detach(|| half.opened.client.is_content_nearby(Ino(ino)));
        if is_nearby { self.open(py, ino, flags, caller).map(Some) } else { Ok(None) }
    }

    fn read<'py>(&self, py: Python<'py>, fh: u64, offset: u64, size: u32) -> PyResult<Bound<'py, PyBytes>> {
        let content = py.detach(|| {
            // A handle has no inode of its own in the protocol of a portable loop; the log then says 0.
            self.ask(Operation::Read, 0, |fs| {
                let mut content = Vec::new();
                fs.read(Fh(fh), offset, size, &mut content)?;
                Ok(content)
            })
        })?;
        Ok(PyBytes::new(py, &content))
    }

    fn read_nearby<'py>(
        &self,
        py: Python<'py>,
        fh: u64,
        offset: u64,
        size: u32,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let half = self.open_half()?;
        let is_nearby = py.detach(|| half.opened.client.is_range_nearby(Fh(fh), offset, size));
        if is_nearby { self.read(py, fh, offset, size).map(Some) } else { Ok(None) }
    }

    fn release(&self, fh: u64) -> PyResult<()> {
        self.ask(Operation::Release, 0, |fs| {
            fs.release(Fh(fh));
            Ok(())
        })
    }

    fn getxattr<'py>(&self, py: Python<'py>, ino: u64, name: &[u8], gid: u32) -> PyResult<Bound<'py, PyBytes>> {
        let value = py.detach(|| self.ask(Operation::Getxattr, ino, |fs| fs.getxattr(Ino(ino), name, gid)))?;
        Ok(PyBytes::new(py, &value))
    }

    fn listxattr(&self, py: Python<'_>, ino: u64) -> PyResult<Vec<Py<PyBytes>>> {
        let names = py.detach(|| self.ask(Operation::Listxattr, ino, |fs| fs.listxattr(Ino(ino))))?;
        let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        Ok(names.map(|name| PyBytes::new(py, name).unbind()).collect())
    }

    /// Returns block size, blocks, free blocks, files, free files.
    fn statfs(&self) -> PyResult<(u32, u64, u64, u64, u64)> {
        let s = self.ask(Operation::Statfs, Ino::ROOT.0, |fs| fs.statfs())?;
        Ok((s.block_bytes, s.blocks, s.blocks_free, s.files, s.files_free))
    }

    /// Counts; inode numbers are computed, so there is nothing to forget.
    fn forget(&self, inodes: u64) -> PyResult<()> {
        self.count("forget", inodes)
    }

    /// Counts requests that the loop answers by itself.
    #[pyo3(signature = (operation, times = 1))]
    fn count(&self, operation: &str, times: u64) -> PyResult<()> {
        let known = Operation::from_name(operation)
            .ok_or_else(|| Raised::invalid("count", format!("operation `{operation}`")))?;
        self.open_half()?.questions.upcalls().add(known, times);
        Ok(())
    }

    /// Counts the revisions that were shown before: an answer that was asked for before a switch must not be kept.
    fn generation(&self) -> PyResult<u32> {
        Ok(self.open_half()?.opened.client.generation())
    }

    /// Returns how long names, attributes and misses may be kept, in seconds.
    fn timeouts_s(&self) -> PyResult<(f64, f64, f64)> {
        let half = self.open_half()?;
        let client = &half.opened.client;
        let kept = [client.entry_timeout(), client.attr_timeout(), client.negative_timeout()];
        let [entry, attr, negative] = kept.map(|duration| duration.as_secs_f64());
        Ok((entry, attr, negative))
    }

    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let half = self.open_half()?;
        counters(py, &half.opened.client)
    }

    #[getter]
    fn root_hash(&self) -> PyResult<String> {
        Ok(self.open_half()?.opened.client.tree().root().catalog.hash.to_string())
    }

    #[getter]
    fn updates(&self) -> PyResult<Following> {
        Ok(Following::of(&self.open_half()?.opened))
    }

    #[getter]
    fn tracing(&self) -> PyResult<Tracing> {
        Ok(Tracing(Arc::clone(&self.open_half()?.opened.client)))
    }

    #[getter]
    fn route(&self) -> PyResult<Route> {
        Ok(Route::of(&self.open_half()?.opened.client))
    }

    #[getter]
    fn external_route(&self) -> PyResult<Route> {
        Ok(Route::to_external(&self.open_half()?.opened.client)?)
    }

    #[getter]
    fn revision(&self) -> PyResult<u64> {
        Ok(self.open_half()?.opened.client.tree().root().index.revision())
    }

    /// Mounts where the request says, for a loop to serve.
    fn mount(&self, py: Python<'_>) -> PyResult<(UnservedMount, i32)> {
        let half = self.open_half()?;
        let mounted = py.detach(|| nearfs_fuse::UnservedMount::mount(&half.opened.settings));
        let (mount, device_file) = mounted.map_err(Raised::from)?;
        half.opened.updates.start(mount.kept()).map_err(Raised::from)?;
        Ok((UnservedMount(mount), device_file.into_raw_fd()))
    }

    /// Ends the sockets once the last operation that is under way has ended; later ones are refused.
    fn close(&self, py: Python<'_>) {
        py.detach(|| {
            // Named, so that the lock is released before anything ends.
            let half = self.0.write().take();
            drop(half);
        });
    }
}

/// Verifies a snapshot and loads its root catalog; mounts nothing.
#[pyfunction]
#[pyo3(signature = (**request))]
pub(crate) fn open_engine(py: Python<'_>, request: Option<Bound<'_, PyDict>>) -> PyResult<Engine> {
    let request = request.unwrap_or_else(|| PyDict::new(py));
    let request: MountRequest = request.extract()?;
    let opened = py.detach(|| request.open())?;
    let questions = Questions::new(Arc::clone(&opened.client) as _);
    count_upcalls(&opened.client, questions.upcalls());
    Ok(Engine(RwLock::new(Some(Arc::new(Open { questions, opened })))))
}
