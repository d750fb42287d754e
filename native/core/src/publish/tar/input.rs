//! Where an archive's bytes come from: a file or standard input, as it is or deflated.
//!
//! Owns recognising the compression by its first bytes, and waiting that can be given up. Never holds more than a
//! buffer: an archive that inflates to more than anybody wants is read like any other, and can be cancelled.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use flate2::read::MultiGzDecoder;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;

/// How often a reader that waits for more looks whether it shall give up.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
const BUFFER_BYTES: usize = 256 << 10;
const MAGIC_BYTES: u64 = 6;

/// Compressions that are recognised but not read here, and the program that undoes each.
const FOREIGN: [(&[u8], &str); 5] = [
    (b"BZh", "bzip2 -dc"),
    (b"\xfd7zXZ\0", "xz -dc"),
    (b"\x28\xb5\x2f\xfd", "zstd -dc"),
    (b"LZIP", "lzip -dc"),
    (b"\x1f\x9d", "uncompress -c"),
];

/// Where an archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Archive {
    /// A file, or anything else that can be opened and read forward.
    File(PathBuf),
    /// Standard input.
    StandardInput,
}

impl Archive {
    fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::StandardInput => "standard input".into(),
        }
    }

    /// Opens the archive for one pass.
    pub(super) fn open<'p>(&self, progress: &'p Progress) -> Result<Box<dyn Read + 'p>> {
        let failed = |e| Error::io("open", self.name(), e);
        let file = match self {
            Self::File(path) => File::open(path).map_err(failed)?,
            // A descriptor of our own: the standard library's has a buffer that polling would not see.
            Self::StandardInput => File::from(io::stdin().as_fd().try_clone_to_owned().map_err(failed)?),
        };
        if file.metadata().map_err(failed)?.is_dir() {
            return Err(Error::new(ErrorKind::InvalidInput, "read", format!("{}: it is a directory", self.name())));
        }
        let input = io::BufReader::with_capacity(BUFFER_BYTES, Patient { file, progress });
        self.inflated(input)
    }

    fn inflated<'p>(&self, mut input: impl Read + 'p) -> Result<Box<dyn Read + 'p>> {
        let mut magic = Vec::new();
        let read = (&mut input).take(MAGIC_BYTES).read_to_end(&mut magic);
        read.map_err(|e| Error::io("read", self.name(), e))?;
        if let Some((_, program)) = FOREIGN.iter().find(|(foreign, _)| magic.starts_with(foreign)) {
            let name = self.name();
            let subject =
                format!("{name}: this version reads plain and gzip archives only; pipe it through `{program}`");
            return Err(Error::new(ErrorKind::Unsupported, "read", subject));
        }
        let is_gzip = magic.starts_with(b"\x1f\x8b");
        let whole = Cursor::new(magic).chain(input);
        Ok(if is_gzip { Box::new(io::BufReader::new(MultiGzDecoder::new(whole))) } else { Box::new(whole) })
    }
}

/// A file or pipe that may keep its reader waiting; fails with `TimedOut` once the operation is cancelled.
struct Patient<'p> {
    file: File,
    progress: &'p Progress,
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.progress.check("read").is_err() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match poll(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(&PATIENCE)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return self.file.read(buffer),
                Err(e) => return Err(e.into()),
            }
        }
    }
}
