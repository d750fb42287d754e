//! The members of a tar archive, one after the other, as they come in a stream.
//!
//! Owns reading: headers, extended headers, content with its holes. Owns no meaning of names. Reads forward only and
//! keeps one header at a time; every length from the archive is bounded before it is believed. An archive has to end
//! with a block of zeros: one that just stops was cut off.

use std::io::{self, Read};

use super::header::{BLOCK_BYTES, Block, Header, regions};
use super::pax::{Records, decimal};
use super::sparse::{Layout, REGION_LIMIT, Told, told};
use crate::error::{Error, ErrorKind, Result};

/// Longest extended header or long name.
const EXTENSION_LIMIT_BYTES: u64 = 16 << 20;
/// What may follow the end of an archive and is read, so that whoever writes it can end in peace.
const TRAILER_LIMIT_BYTES: u64 = 64 << 20;
/// A line of a sparse map is a decimal number.
const MAP_LINE_BYTES: usize = 20;

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Regular,
    Hardlink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// One member; its content is read from [`Members`] before the next one.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) link: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Bytes, with holes.
    pub(super) size: u64,
    pub(super) mtime: i64,
    pub(super) mtime_ns: u32,
    pub(super) device: (u32, u32),
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// An archive being read.
pub(super) struct Members<'a> {
    input: Box<dyn Read + 'a>,
    /// Bytes read so far.
    position: u64,
    defaults: Records,
    layout: Layout,
    /// How far the content was read, with holes.
    offset: u64,
    /// Stored bytes of the content that were not read, and the padding behind them.
    left: u64,
    padding: u64,
}

impl<'a> Members<'a> {
    pub(super) fn new(input: Box<dyn Read + 'a>) -> Self {
        let (layout, defaults) = (Layout::default(), Records::default());
        Self { input, position: 0, defaults, layout, offset: 0, left: 0, padding: 0 }
    }

    /// Returns the next member, `None` behind the last.
    pub(super) fn next(&mut self) -> Result<Option<Member>> {
        self.skip(self.left + self.padding)?;
        let (mut records, mut long_path, mut long_link) = (self.defaults.clone(), None, None);
        loop {
            let start = self.position;
            let Some(header) = self.header()? else {
                self.drain()?;
                return Ok(None);
            };
            let size = u64::try_from(header.size().unwrap_or(-1)).map_err(|_| damaged(start, "a bad size"))?;
            match header.kind() {
                b'x' | b'X' => {
                    let bytes = self.extension(size)?;
                    records.add(&bytes).ok_or_else(|| damaged(start, "a bad extended header"))?;
                }
                b'g' => {
                    let bytes = self.extension(size)?;
                    self.defaults.add(&bytes).ok_or_else(|| damaged(start, "a bad extended header"))?;
                    records = self.defaults.clone();
                }
                b'L' => long_path = Some(self.name(size)?),
                b'K' => long_link = Some(self.name(size)?),
                // The label of a volume is no file.
                b'V' => self.skip_content(size)?,
                b'M' => {
                    let subject = "archive: it goes on from another volume; put the volumes together first";
                    return Err(Error::new(ErrorKind::Unsupported, "read", subject));
                }
                _ => return self.member(start, &header, size, &records, long_path, long_link).map(Some),
            }
        }
    }

    fn member(
        &mut self,
        start: u64,
        header: &Header,
        size: u64,
        records: &Records,
        long_path: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Member> {
        let bad = |what: &str| damaged(start, &format!("a bad {what}"));
        let of_pax = |key: &str| records.number(key).map_err(|_| bad(key));
        let positive = |value: Option<i64>| value.and_then(|value| u32::try_from(value).ok());
        let path = records.get("GNU.sparse.name").or(records.get("path")).map(<[u8]>::to_vec);
        let path = path.or(long_path).unwrap_or_else(|| header.path());
        let kind = match header.kind() {
            b'1' => Kind::Hardlink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharDevice,
            b'4' => Kind::BlockDevice,
            b'5' | b'D' => Kind::Directory,
            b'6' => Kind::Fifo,
            // v7 archives have no type for directories.
            0 if path.ends_with(b"/") => Kind::Directory,
            // POSIX: a type that is not known is a regular file.
            _ => Kind::Regular,
        };
        let stored = match of_pax("size")? {
            Some(value) => u64::try_from(value).map_err(|_| bad("size"))?,
            None => size,
        };
        // Links have no content, whatever their size says.
        self.begin_content(if kind == Kind::Hardlink { 0 } else { stored });
        if kind == Kind::Regular {
            self.layout = self.layout_of(start, header, records)?;
        }
        let of_header = || header.mtime().map(|seconds| (seconds, 0));
        let told = records.mtime().map_err(|_| bad("time"))?;
        let (mtime, mtime_ns) = told.or_else(of_header).ok_or_else(|| bad("time"))?;
        let (major, minor) = header.device().ok_or_else(|| bad("device"))?;
        Ok(Member {
            path,
            kind,
            link: records.get("linkpath").map(<[u8]>::to_vec).or(long_link).unwrap_or_else(|| header.link().to_vec()),
            mode: positive(header.mode()).ok_or_else(|| bad("mode"))?,
            uid: positive(of_pax("uid")?.or_else(|| header.uid())).ok_or_else(|| bad("owner"))?,
            gid: positive(of_pax("gid")?.or_else(|| header.gid())).ok_or_else(|| bad("group"))?,
            size: if kind == Kind::Regular { self.layout.size } else { 0 },
            mtime,
            mtime_ns,
            device: positive(Some(major)).zip(positive(Some(minor))).ok_or_else(|| bad("device"))?,
            xattrs: records.xattrs().map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
        })
    }

    fn begin_content(&mut self, stored: u64) {
        self.offset = 0;
        self.left = stored;
        self.padding = stored.next_multiple_of(BLOCK_BYTES as u64) - stored;
        self.layout = Layout::whole(stored);
    }

    fn layout_of(&mut self, start: u64, header: &Header, records: &Records) -> Result<Layout> {
        let told = told(records).map_err(|_| damaged(start, "a bad map of holes"))?;
        let (map, size) = match told {
            Told::Map(map, size) => (map, size),
            Told::Ahead(size) => (self.map_ahead(start)?, size),
            Told::Nothing if header.kind() == b'S' => {
                let size = header.real_size().ok_or_else(|| damaged(start, "a bad size"))?;
                (self.gnu_map(start, header)?, size)
            }
            Told::Nothing => return Ok(Layout::whole(self.left)),
        };
        Layout::of(&map, size, self.left).ok_or_else(|| damaged(start, "a bad map of holes"))
    }

    /// GNU's own form: four regions in the header, more in blocks behind it.
    fn gnu_map(&mut self, start: u64, header: &Header) -> Result<Vec<(i64, i64)>> {
        let bad = || damaged(start, "a bad map of holes");
        let mut map: Vec<_> = header.sparse_regions().collect::<Option<_>>().ok_or_else(bad)?;
        let mut has_more = header.has_more_regions();
        while has_more {
            let mut block = [0; BLOCK_BYTES];
            self.fill(&mut block)?;
            map.extend(regions(&block[..504]).collect::<Option<Vec<_>>>().ok_or_else(bad)?);
            if map.len() > REGION_LIMIT {
                return Err(bad());
            }
            has_more = block[504] != 0;
        }
        Ok(map)
    }

    /// Version 1.0: decimal lines before the content, padded to a block.
    fn map_ahead(&mut self, start: u64) -> Result<Vec<(i64, i64)>> {
        let bad = || damaged(start, "a bad map of holes");
        let (mut numbers, mut line, mut wanted) = (Vec::new(), Vec::new(), 1);
        while numbers.len() < wanted {
            let mut block = [0; BLOCK_BYTES];
            self.left = self.left.checked_sub(BLOCK_BYTES as u64).ok_or_else(bad)?;
            self.fill(&mut block)?;
            for byte in block {
                if byte != b'\n' {
                    line.push(byte);
                    if line.len() > MAP_LINE_BYTES && numbers.len() < wanted {
                        return Err(bad());
                    }
                    continue;
                }
                if numbers.len() == wanted {
                    break;
                }
                numbers.push(decimal(&line).ok_or_else(bad)?);
                line.clear();
                if let [count] = numbers[..] {
                    let count = usize::try_from(count).ok().filter(|count| *count <= REGION_LIMIT);
                    wanted = 1 + 2 * count.ok_or_else(bad)?;
                }
            }
        }
        Ok(numbers[1..].chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
    }

    /// Reads content of the present member, holes as zeros; 0 at its end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let (is_stored, length) = self.layout.at(self.offset);
        let count = usize::try_from(length).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = &mut buffer[..count];
        if is_stored {
            self.fill(buffer)?;
            self.left -= count as u64;
        } else {
            buffer.fill(0);
        }
        self.offset += count as u64;
        Ok(count)
    }

    fn header(&mut self) -> Result<Option<Header>> {
        let start = self.position;
        let mut bytes = Box::new([0; BLOCK_BYTES]);
        self.fill(&mut bytes[..])?;
        match Block::of(bytes) {
            Block::Zero => Ok(None),
            Block::Header(header) => Ok(Some(header)),
            Block::Garbage if start == 0 => {
                Err(Error::new(ErrorKind::Corrupt, "read", "archive: this is no tar archive"))
            }
            Block::Garbage => Err(damaged(start, "no header where one has to be")),
        }
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > EXTENSION_LIMIT_BYTES {
            return Err(damaged(self.position, &format!("an extended header of {size} bytes")));
        }
        let mut bytes = vec![0; size as usize];
        self.fill(&mut bytes)?;
        self.skip(size.next_multiple_of(BLOCK_BYTES as u64) - size)?;
        Ok(bytes)
    }

    fn name(&mut self, size: u64) -> Result<Vec<u8>> {
        let mut name = self.extension(size)?;
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        name.truncate(end);
        Ok(name)
    }

    fn skip_content(&mut self, size: u64) -> Result<()> {
        self.begin_content(size);
        self.skip(self.left + self.padding)
    }

    fn skip(&mut self, count: u64) -> Result<()> {
        let skipped = io::copy(&mut (&mut self.input).take(count), &mut io::sink()).map_err(unread)?;
        self.position += skipped;
        (self.left, self.padding) = (0, 0);
        if skipped == count { Ok(()) } else { Err(self.cut_off()) }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.input.read(&mut buffer[filled..]) {
                Ok(0) => return Err(self.cut_off()),
                Ok(count) => {
                    filled += count;
                    self.position += count as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(unread(e)),
            }
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<()> {
        // A compressed archive has its checksum at the very end.
        io::copy(&mut (&mut self.input).take(TRAILER_LIMIT_BYTES), &mut io::sink()).map(drop).map_err(unread)
    }

    fn cut_off(&self) -> Error {
        let subject = match self.position {
            0 => "archive: it is empty".to_owned(),
            position => format!("archive: it was cut off, it ends after {position} bytes in the middle"),
        };
        Error::new(ErrorKind::Corrupt, "read", subject)
    }
}

fn damaged(at: u64, what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, "read", format!("archive: it is damaged, {what} at byte {at}"))
}

/// Tells damage that the decompressor found from a disk or pipe that fails.
fn unread(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            let subject = format!("archive: its compressed form is damaged or cut off ({error})");
            Error::new(ErrorKind::Corrupt, "read", subject)
        }
        io::ErrorKind::TimedOut => Error::new(ErrorKind::Cancelled, "read", "archive: on request"),
        _ => Error::io("read", "archive", error),
    }
}
