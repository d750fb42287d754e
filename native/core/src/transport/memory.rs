//! A sink for small answers: they are collected in memory.

use super::Sink;
use crate::error::Result;

/// Memory reserved at most on the word of a host.
const MAX_RESERVED_BYTES: u64 = 1 << 20;

/// Collects an answer, which the request's `max_bytes` bounds.
#[derive(Debug, Default)]
pub(super) struct MemorySink {
    bytes: Vec<u8>,
}

impl MemorySink {
    /// Returns what came.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl Sink for MemorySink {
    fn begin(&mut self, content_length: Option<u64>) -> Result<()> {
        self.bytes.clear();
        self.bytes.reserve(content_length.unwrap_or(0).min(MAX_RESERVED_BYTES) as usize);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        self.bytes.clear();
        Ok(())
    }
}
