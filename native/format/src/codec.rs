//! zlib: how objects are deflated for storing and inflated within bounds.
//!
//! Owns the choice of library for each direction. Deflate is stock zlib at level 6, because object names hash the
//! compressed bytes and only stock zlib gives the bytes of the reference publisher. Inflate never yields more than the
//! caller allows. Everything here belongs to one thread at a time. Source: format.md 1.4.

use std::fmt;

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};
use libdeflater::{CompressionLvl, Compressor, DecompressionError, Decompressor};

use crate::error::{FormatError, Result};

const LEVEL: u32 = 6;
/// Of libdeflate, for objects that are in memory.
const FAST_LEVEL: i32 = 4;
/// Of zlib, for objects that are not.
const FAST_STREAM_LEVEL: u32 = 1;
/// Step in which a streaming inflater hands out bytes; bounds its memory.
const STEP_BYTES: usize = 64 << 10;
/// No deflate stream expands further: a 258-byte match costs at least 2 bits.
const LARGEST_EXPANSION: u64 = 1032;

const SUBJECT: &str = "zlib stream";

/// Returns the largest stored size in bytes that is accepted for an object of `size_bytes` inflated bytes: what zlib
/// may need for incompressible content, and some slack for other compressors.
pub const fn stored_size_limit(size_bytes: u64) -> u64 {
    let zlib_overhead = (size_bytes >> 12) + (size_bytes >> 14) + (size_bytes >> 25) + 13;
    size_bytes.saturating_add(zlib_overhead).saturating_add(size_bytes / 256 + 1024)
}

/// Deflates `bytes` to one zlib stream.
pub fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(bytes.len() / 2 + 64);
    let mut deflater = Deflater::new();
    deflater.push(bytes, &mut stored);
    deflater.finish(&mut stored);
    stored
}

/// How hard to deflate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Effort {
    /// As the reference publisher: the same bytes, so the same object names.
    #[default]
    Stock,
    /// Several times faster at about the same size. Every zlib reader takes it, but object names are other ones.
    Fast,
}

/// Deflates object after object; with the stock effort the result does not depend on how the bytes were cut.
pub struct Deflater {
    stream: Compress,
    /// For whole objects, with the fast effort.
    fast: Option<Compressor>,
}

impl fmt::Debug for Deflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deflater").field("is_fast", &self.fast.is_some()).finish_non_exhaustive()
    }
}

impl Default for Deflater {
    fn default() -> Self {
        Self::new()
    }
}

impl Deflater {
    /// Starts a stream with the stock effort.
    pub fn new() -> Self {
        Self::with_effort(Effort::Stock)
    }

    /// Starts a stream.
    pub fn with_effort(effort: Effort) -> Self {
        let (level, fast) = match effort {
            Effort::Stock => (LEVEL, None),
            Effort::Fast => (FAST_STREAM_LEVEL, CompressionLvl::new(FAST_LEVEL).ok().map(Compressor::new)),
        };
        Self { stream: Compress::new(flate2::Compression::new(level), true), fast }
    }

    /// Appends the whole of an object to `stored`. Between streams only.
    pub fn whole(&mut self, bytes: &[u8], stored: &mut Vec<u8>) {
        let before = stored.len();
        if let Some(fast) = &mut self.fast {
            stored.resize(before + fast.zlib_compress_bound(bytes.len()), 0);
            let room = stored.get_mut(before..).unwrap_or_default();
            if let Ok(written) = fast.zlib_compress(bytes, room) {
                return stored.truncate(before + written);
            }
            stored.truncate(before);
        }
        self.push(bytes, stored);
        self.finish(stored);
    }

    /// Takes input and appends what zlib has ready to `stored`.
    pub fn push(&mut self, input: &[u8], stored: &mut Vec<u8>) {
        let mut rest = input;
        while !rest.is_empty() {
            let (_, taken) = self.step(rest, stored, FlushCompress::None);
            rest = rest.get(taken..).unwrap_or_default();
        }
    }

    /// Ends the stream, appends its last bytes and begins a new one.
    pub fn finish(&mut self, stored: &mut Vec<u8>) {
        while self.step(&[], stored, FlushCompress::Finish).0 != Status::StreamEnd {}
        self.stream.reset();
    }

    /// Drops an unfinished stream and begins a new one.
    pub fn reset(&mut self) {
        self.stream.reset();
    }

    fn step(&mut self, input: &[u8], stored: &mut Vec<u8>, flush: FlushCompress) -> (Status, usize) {
        stored.reserve((input.len() / 2).clamp(512, STEP_BYTES));
        let before = self.stream.total_in();
        let status = self
            .stream
            .compress_vec(input, stored, flush)
            .expect("zlib refuses only a stream that has ended, and finish() begins a new one");
        (status, (self.stream.total_in() - before) as usize)
    }
}

/// Inflates an object of known size: exactly `size_bytes` have to come out, and nothing may follow the stream.
///
/// Trailing bytes go unnoticed only if they repeat the stream's checksum; then the result is right all the same.
pub fn inflate_exact(stored: &[u8], size_bytes: u64) -> Result<Vec<u8>> {
    let wrong_size = |found: &str| FormatError::malformed(SUBJECT, format!("{found} than {size_bytes} bytes"));
    if stored.len() as u64 > stored_size_limit(size_bytes) {
        return Err(FormatError::TooLarge { subject: SUBJECT, limit_bytes: stored_size_limit(size_bytes) });
    }
    // Checked before the buffer is allocated: an announced size is no reason to take that much memory.
    if size_bytes > (stored.len() as u64).saturating_mul(LARGEST_EXPANSION) {
        return Err(wrong_size("holds fewer"));
    }
    let size = usize::try_from(size_bytes).map_err(|_| wrong_size("cannot hold more"))?;
    let mut bytes = vec![0; size];
    let inflated = Decompressor::new().zlib_decompress(stored, &mut bytes).map_err(|error| match error {
        DecompressionError::InsufficientSpace => wrong_size("holds more"),
        DecompressionError::BadData => damaged(),
    })?;
    if inflated != size {
        return Err(wrong_size("holds fewer"));
    }
    if !stored.ends_with(&libdeflater::adler32(&bytes).to_be_bytes()) {
        return Err(trailing());
    }
    Ok(bytes)
}

/// Inflates an object of unknown size, up to `limit_bytes`.
pub fn inflate_bounded(stored: &[u8], limit_bytes: u64) -> Result<Vec<u8>> {
    let mut inflater = Inflater::new(limit_bytes);
    let mut bytes = Vec::new();
    inflater.push(stored, &mut |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        Ok::<(), FormatError>(())
    })?;
    inflater.finish()?;
    Ok(bytes)
}

/// Inflates one stream piece by piece; memory stays the same whatever the stream expands to.
#[derive(Debug)]
pub struct Inflater {
    stream: Decompress,
    step: Box<[u8]>,
    limit_bytes: u64,
    has_ended: bool,
}

impl Inflater {
    /// Starts a stream that may yield `limit_bytes` at most.
    pub fn new(limit_bytes: u64) -> Self {
        Self { stream: Decompress::new(true), step: vec![0; STEP_BYTES].into(), limit_bytes, has_ended: false }
    }

    /// Returns how many bytes came out so far.
    pub fn inflated_bytes(&self) -> u64 {
        self.stream.total_out()
    }

    /// Takes stored bytes and hands what comes out to `sink`. After an error the inflater is of no further use.
    pub fn push<E: From<FormatError>>(
        &mut self,
        stored: &[u8],
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = stored;
        loop {
            if self.has_ended {
                return if rest.is_empty() { Ok(()) } else { Err(trailing().into()) };
            }
            let (in_before, out_before) = (self.stream.total_in(), self.stream.total_out());
            let status = self.stream.decompress(rest, &mut self.step, FlushDecompress::None).map_err(|_| damaged())?;
            let taken = (self.stream.total_in() - in_before) as usize;
            let produced = (self.stream.total_out() - out_before) as usize;
            if self.stream.total_out() > self.limit_bytes {
                return Err(FormatError::TooLarge { subject: "inflated object", limit_bytes: self.limit_bytes }.into());
            }
            if produced > 0 {
                sink(&self.step[..produced])?;
            }
            rest = &rest[taken..];
            self.has_ended = status == Status::StreamEnd;
            if !self.has_ended && rest.is_empty() && produced < self.step.len() {
                return Ok(());
            }
            if !self.has_ended && taken == 0 && produced == 0 {
                return Err(damaged().into());
            }
        }
    }

    /// Ends: returns the number of inflated bytes, or an error if the stream is cut off.
    pub fn finish(self) -> Result<u64> {
        if self.has_ended {
            return Ok(self.stream.total_out());
        }
        Err(FormatError::malformed(SUBJECT, "it is cut off"))
    }
}

fn damaged() -> FormatError {
    FormatError::malformed(SUBJECT, "it is damaged, or no zlib stream at all")
}

fn trailing() -> FormatError {
    FormatError::malformed(SUBJECT, "bytes follow its end")
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
