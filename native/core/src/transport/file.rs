//! One attempt on a `file://` base URL: a repository on the local disk.
//!
//! Same limits and same answers as over HTTP, without time-outs: the local disk is waited for. Reads on the thread
//! that polls. Symlinks are followed below the root only (`.cvmfsalt-` links need that); whoever can write into the
//! root while it is read could evade this, but could as well change the repository.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::OFlags;

use super::counters::Counters;
use super::failure::{Failure, FailureClass};
use super::{BoxFuture, Fetched, Request, Sink, Target, Transport, url};
use crate::error::{Error, ErrorKind, Result};

const STEP_BYTES: usize = 128 << 10;

/// Reads keys as files.
#[derive(Debug)]
pub struct FileTransport {
    counters: Arc<Counters>,
}

impl FileTransport {
    /// Builds the transport.
    pub fn new(counters: Arc<Counters>) -> Self {
        Self { counters }
    }

    fn attempt(&self, target: &Target, request: &Request, sink: &mut (dyn Sink + Send)) -> Result<Fetched, Failure> {
        url::check_key(&request.key).map_err(|e| Failure::new(FailureClass::Local, e))?;
        let path = format!("{}/{}", target.base_url, String::from_utf8_lossy(&request.key));
        let (file, size) = open_below(target, &request.key)
            .map_err(|e| Failure::new(FailureClass::Http, Error::io("fetch", path.as_str(), e)))?;
        let corrupted = |reason: String| {
            let error = Error::new(ErrorKind::Corrupt, "fetch", format!("{path}: {reason}"));
            Err(Failure::new(FailureClass::Corrupted, error))
        };
        let length = request.range.map_or(size, |range| range.length.min(size.saturating_sub(range.offset)));
        if length > request.max_bytes {
            return corrupted(format!("it is longer than {} bytes, which is all that it may hold", request.max_bytes));
        }
        let expected = request.expected_length.or(request.range.map(|range| range.length)).unwrap_or(length);
        if expected != length {
            return corrupted(format!("it has {length} bytes instead of {expected}"));
        }
        sink.begin(Some(length)).map_err(|e| Failure::from_sink(&path, e))?;
        let offset = request.range.map_or(0, |range| range.offset);
        let copied = self.copy(file, offset, length, request, sink, &path)?;
        if copied != length {
            let reason = format!("it ended after {copied} of {length} bytes");
            return Err(Failure::unreachable(FailureClass::ShortTransfer, &path, reason));
        }
        Ok(Fetched { length, base_url: target.base_url.clone(), has_connected: false, was_nearby: false })
    }

    fn copy(
        &self,
        mut file: File,
        offset: u64,
        length: u64,
        request: &Request,
        sink: &mut (dyn Sink + Send),
        path: &str,
    ) -> Result<u64, Failure> {
        let local = |e: io::Error| Failure::new(FailureClass::Http, Error::io("read", path, e));
        if offset > 0 {
            file.seek(SeekFrom::Start(offset)).map_err(local)?;
        }
        let mut step = vec![0; STEP_BYTES.min(usize::try_from(length).unwrap_or(STEP_BYTES))];
        let mut copied = 0;
        while copied < length {
            if request.interrupt.is_cancelled() {
                let error = Error::new(ErrorKind::Cancelled, "fetch", format!("{path}: the caller gave up"));
                return Err(Failure::new(FailureClass::Cancelled, error));
            }
            let wanted = step.len().min(usize::try_from(length - copied).unwrap_or(usize::MAX));
            let got = match file.read(&mut step[..wanted]) {
                Ok(0) => break,
                Ok(got) => got,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(local(e)),
            };
            copied += got as u64;
            self.counters.count_bytes(got as u64);
            sink.write(&step[..got]).map_err(|e| Failure::from_sink(path, e))?;
        }
        Ok(copied)
    }
}

impl Transport for FileTransport {
    fn fetch<'a>(
        &'a self,
        target: &'a Target,
        request: &'a Request,
        sink: &'a mut (dyn Sink + Send),
    ) -> BoxFuture<'a, Result<Fetched, Failure>> {
        Box::pin(async move {
            let begun = Instant::now();
            let outcome = self.attempt(target, request, sink);
            self.counters.count_request(begun.elapsed(), outcome.is_err());
            outcome
        })
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }
}

/// Opens the regular file of `key` if it lies below the target's root, and returns its size.
fn open_below(target: &Target, key: &[u8]) -> io::Result<(File, u64)> {
    let path = target.base_url.strip_prefix("file://").unwrap_or(&target.base_url);
    let root = PathBuf::from(OsString::from_vec(url::unescape(path))).canonicalize()?;
    let path = root.join(OsStr::from_bytes(key)).canonicalize()?;
    if !path.starts_with(&root) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it leads out of the repository root"));
    }
    // Not blocking, because a FIFO would otherwise be waited for.
    let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "it is no regular file"));
    }
    Ok((file, metadata.len()))
}
