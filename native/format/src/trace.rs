//! Learned traces: which files a program opens after its trigger, as a small text (docs/cold-start.md).
//!
//! Owns the layout and its limits: a line that names format and version, the trigger, one line a file in the order in
//! which they were opened first, and a last line that counts them, so that a torn file is none. Paths are bytes; what is
//! no printable ASCII is escaped. A trace says what may be worth fetching, never what anything is: its paths are looked
//! up in the catalogs of the day. How traces are learned is none of its business.

use std::collections::HashSet;
use std::fmt::Write as _;

use crate::error::{FormatError, Result};
use crate::hash::HashAlgorithm;
use crate::path::RepoPath;

/// Longest trace, in bytes. Part of the format: readers refuse more.
pub const TRACE_MAX_BYTES: usize = 1 << 20;
/// Most files of a trace. Part of the format.
pub const ITEMS_MAX: usize = 4096;
/// Most chunks that are named of one file: of those that are larger, one is read here and there. Part of the format.
pub const OFFSETS_MAX: usize = 256;

const FIRST_LINE: &str = "nearfs-trace ";
const VERSION: &str = "1";
const SUBJECT: &str = "trace";
/// What the lines need that are no items, less the paths in them.
const FRAME_BYTES: usize = 128;

/// What a trace belongs to: a trigger, or a file that is opened after it and tells one use of the trigger from others.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceName {
    /// The first file that is opened: an executable, a script.
    pub trigger: RepoPath,
    /// The file that was opened after the files which all uses share.
    pub after: Option<RepoPath>,
}

impl TraceName {
    /// Names what all uses of a trigger open.
    pub const fn of(trigger: RepoPath) -> Self {
        Self { trigger, after: None }
    }

    /// Names what is opened after `path` by those uses of the trigger that open it.
    #[must_use]
    pub fn after(&self, path: RepoPath) -> Self {
        Self { trigger: self.trigger.clone(), after: Some(path) }
    }

    /// Returns the name of the file that keeps it: the digest of the trigger, and that of the second path behind it, so
    /// that all traces of one trigger begin alike.
    pub fn file_name(&self) -> String {
        let digest = |path: &RepoPath| HashAlgorithm::Sha1.hash(path.as_bytes()).to_string();
        let trigger = digest(&self.trigger);
        self.after.as_ref().map_or_else(|| trigger.clone(), |after| format!("{trigger}.{}", digest(after)))
    }
}

/// What the files of a trace are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// All that one use of the trigger opens.
    Whole,
    /// The same, of a program that begins with another of these files each time.
    Unordered,
    /// What all uses of the trigger open before they go on differently.
    Shared,
}

impl Listing {
    const ALL: [Self; 3] = [Self::Whole, Self::Unordered, Self::Shared];

    /// Returns the word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Unordered => "unordered",
            Self::Shared => "shared",
        }
    }
}

/// A file of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceItem {
    /// Where it lies in the repository.
    pub path: RepoPath,
    /// For a file stored in chunks, where those begin that were read: in their order, each once. `None` for others.
    pub offsets: Option<Vec<u64>>,
}

/// A trace within its limits: no file twice, neither root nor trigger among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    name: TraceName,
    listing: Listing,
    items: Vec<TraceItem>,
}

impl Trace {
    /// Makes a trace of what fits: files that come twice, and those beyond the limits, are left out.
    pub fn new(name: TraceName, listing: Listing, items: impl IntoIterator<Item = TraceItem>) -> Self {
        let mut trace = Self { name, listing, items: Vec::new() };
        let mut known: HashSet<RepoPath> = trace.taken().cloned().collect();
        let names_bytes: usize = trace.taken().map(|path| escaped(path).len()).sum();
        let mut size_bytes = FRAME_BYTES + names_bytes;
        for mut item in items {
            if let Some(offsets) = &mut item.offsets {
                offsets.sort_unstable();
                offsets.dedup();
                offsets.truncate(OFFSETS_MAX);
            }
            size_bytes += line(&item).len();
            if trace.items.len() == ITEMS_MAX || size_bytes > TRACE_MAX_BYTES {
                break;
            }
            if !item.path.is_root() && known.insert(item.path.clone()) {
                trace.items.push(item);
            }
        }
        trace
    }

    /// Returns what it belongs to.
    pub const fn name(&self) -> &TraceName {
        &self.name
    }

    /// Returns what its files are.
    pub const fn listing(&self) -> Listing {
        self.listing
    }

    /// Says whether uses of the trigger go on differently after these files.
    pub const fn is_shared(&self) -> bool {
        matches!(self.listing, Listing::Shared)
    }

    /// Says whether it opens that file, as its trigger or after that.
    pub fn has(&self, path: &RepoPath) -> bool {
        self.name.trigger == *path || self.items.iter().any(|item| item.path == *path)
    }

    /// Returns the files in the order in which they were opened.
    pub fn items(&self) -> &[TraceItem] {
        &self.items
    }

    /// Gives the files away.
    pub fn into_items(self) -> Vec<TraceItem> {
        self.items
    }

    /// Reads a trace. Every text has one form only: what is accepted is what [`Self::encode`] writes.
    ///
    /// # Errors
    ///
    /// `TooLarge` for more bytes than a trace has, `Unsupported` for another version, `Malformed` for everything else.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > TRACE_MAX_BYTES {
            return Err(FormatError::TooLarge { subject: SUBJECT, limit_bytes: TRACE_MAX_BYTES as u64 });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| malformed("it is no text"))?;
        let text = text.strip_suffix('\n').ok_or_else(|| malformed("its last line does not end"))?;
        let mut lines = text.split('\n').peekable();
        match lines.next().and_then(|line| line.strip_prefix(FIRST_LINE)) {
            Some(VERSION) => {}
            Some(version) if version.len() <= 10 && version.bytes().all(|byte| byte.is_ascii_digit()) => {
                return Err(FormatError::Unsupported { subject: SUBJECT, reason: format!("version {version}") });
            }
            _ => return Err(malformed("it does not begin like a trace")),
        }
        let trigger = lines.next().and_then(|line| line.strip_prefix("trigger "));
        let trigger = unescaped(trigger.ok_or_else(|| malformed("it has no trigger"))?)?;
        let after = lines.next_if(|line| line.starts_with("after ")).map(|line| unescaped(&line["after ".len()..]));
        let name = TraceName { trigger, after: after.transpose()? };
        let listing = lines.next().and_then(|line| line.strip_prefix("list "));
        let listing = Listing::ALL.into_iter().find(|kind| listing == Some(kind.name()));
        let listing = listing.ok_or_else(|| malformed("it does not say what it lists"))?;
        let mut items = Vec::new();
        while let Some(line) = lines.next_if(|line| line.starts_with('/')) {
            if items.len() == ITEMS_MAX {
                return Err(malformed(format!("more than {ITEMS_MAX} files")));
            }
            items.push(item(line)?);
        }
        let trace = Self::new(name, listing, items);
        // Its one form: order, limits, repetitions and the last line included.
        if trace.encode() == bytes { Ok(trace) } else { Err(malformed("it is not written as a trace is")) }
    }

    /// Says what a trace lists by the beginning of its text, without reading the rest; nothing where that is no trace's.
    pub fn peek(text: &[u8]) -> Option<Listing> {
        let mut lines = text.split(|byte| *byte == b'\n');
        lines.next().filter(|line| *line == format!("{FIRST_LINE}{VERSION}").as_bytes())?;
        let line = lines.take_while(|line| !line.starts_with(b"/")).find_map(|line| line.strip_prefix(b"list "))?;
        Listing::ALL.into_iter().find(|kind| kind.name().as_bytes() == line)
    }

    /// Writes a trace: as text, within [`TRACE_MAX_BYTES`].
    pub fn encode(&self) -> Vec<u8> {
        let mut text = format!("{FIRST_LINE}{VERSION}\ntrigger {}\n", escaped(&self.name.trigger));
        if let Some(after) = &self.name.after {
            let _ = writeln!(text, "after {}", escaped(after));
        }
        let _ = writeln!(text, "list {}", self.listing.name());
        self.items.iter().for_each(|item| text.push_str(&line(item)));
        let _ = writeln!(text, "end {}", self.items.len());
        text.into_bytes()
    }

    fn taken(&self) -> impl Iterator<Item = &RepoPath> {
        std::iter::once(&self.name.trigger).chain(&self.name.after)
    }
}

fn malformed(reason: impl Into<String>) -> FormatError {
    FormatError::malformed(SUBJECT, reason)
}

/// Returns the line of an item: its path, and for a file in chunks a blank and the offsets, or `-` for none.
fn line(item: &TraceItem) -> String {
    let mut line = escaped(&item.path);
    if let Some(offsets) = &item.offsets {
        line.push(' ');
        for (number, offset) in offsets.iter().enumerate() {
            let _ = write!(line, "{}{offset}", if number == 0 { "" } else { "," });
        }
        if offsets.is_empty() {
            line.push('-');
        }
    }
    line.push('\n');
    line
}

fn item(line: &str) -> Result<TraceItem> {
    let (path, offsets) = line.split_once(' ').map_or((line, None), |(path, offsets)| (path, Some(offsets)));
    let number = |text: &str| text.parse().map_err(|_| malformed(format!("offset `{}`", text.escape_debug())));
    let offsets = match offsets {
        Some("-") => Some(Vec::new()),
        Some(numbers) => Some(numbers.split(',').map(number).collect::<Result<_>>()?),
        None => None,
    };
    Ok(TraceItem { path: unescaped(path)?, offsets })
}

fn escaped(path: &RepoPath) -> String {
    let bytes = path.as_bytes();
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_graphic() && *byte != b'%' {
            text.push(char::from(*byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

fn unescaped(text: &str) -> Result<RepoPath> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        (rest, bytes) = match (byte, after) {
            (b'%', [high, low, after @ ..]) => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let value = digit(*high).zip(digit(*low)).map(|(high, low)| (high << 4 | low) as u8);
                bytes.push(value.ok_or_else(|| malformed("an escape that is no byte"))?);
                (after, bytes)
            }
            (b'%', _) => return Err(malformed("an escape that does not end")),
            _ => {
                bytes.push(*byte);
                (after, bytes)
            }
        };
    }
    let path = RepoPath::parse(&bytes)?;
    if path.is_root() { Err(malformed("a path of nothing")) } else { Ok(path) }
}

#[cfg(test)]
#[path = "trace_tests.rs"]
mod tests;
