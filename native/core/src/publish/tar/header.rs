//! One header block of a tar archive: 512 bytes of fixed fields.
//!
//! Owns the fields of the four dialects that are met: v7, POSIX ustar, GNU, star. Reads no more than the block; nothing
//! in it is trusted before its checksum holds. Source: POSIX.1-2017 "pax", the GNU tar manual's chapter on formats.

/// Size of a block in bytes; everything in an archive is padded to it.
pub(super) const BLOCK_BYTES: usize = 512;

/// A block whose checksum holds.
#[derive(Debug, Clone)]
pub(super) struct Header(Box<[u8; BLOCK_BYTES]>);

/// What a block is.
#[derive(Debug)]
pub(super) enum Block {
    /// The end of the archive.
    Zero,
    /// A header.
    Header(Header),
    /// Anything else.
    Garbage,
}

impl Block {
    pub(super) fn of(bytes: Box<[u8; BLOCK_BYTES]>) -> Self {
        if bytes.iter().all(|byte| *byte == 0) {
            return Self::Zero;
        }
        let header = Header(bytes);
        if header.has_checksum() { Self::Header(header) } else { Self::Garbage }
    }
}

impl Header {
    fn field(&self, from: usize, length: usize) -> &[u8] {
        self.0.get(from..from + length).unwrap_or_default()
    }

    /// The checksum counts its own field as blanks. Old programs summed signed characters.
    fn has_checksum(&self) -> bool {
        let Some(told) = number(self.field(148, 8)) else { return false };
        let counted = |(at, byte): (usize, &u8)| if (148..156).contains(&at) { b' ' } else { *byte };
        let unsigned: i64 = self.0.iter().enumerate().map(counted).map(i64::from).sum();
        let signed: i64 = self.0.iter().enumerate().map(counted).map(|byte| i64::from(byte as i8)).sum();
        told == unsigned || told == signed
    }

    fn is_ustar(&self) -> bool {
        self.field(257, 6) == b"ustar\0"
    }

    fn is_gnu(&self) -> bool {
        self.field(257, 8) == b"ustar  \0"
    }

    /// Returns the name, with its prefix where the dialect has one.
    pub(super) fn path(&self) -> Vec<u8> {
        let name = text(self.field(0, 100));
        let is_star = self.field(508, 4) == b"tar\0";
        let prefix = if self.is_ustar() { text(self.field(345, if is_star { 131 } else { 155 })) } else { b"" };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(super) fn link(&self) -> &[u8] {
        text(self.field(157, 100))
    }

    pub(super) fn kind(&self) -> u8 {
        self.field(156, 1).first().copied().unwrap_or(0)
    }

    pub(super) fn mode(&self) -> Option<i64> {
        number(self.field(100, 8))
    }

    pub(super) fn uid(&self) -> Option<i64> {
        number(self.field(108, 8))
    }

    pub(super) fn gid(&self) -> Option<i64> {
        number(self.field(116, 8))
    }

    pub(super) fn size(&self) -> Option<i64> {
        number(self.field(124, 12))
    }

    pub(super) fn mtime(&self) -> Option<i64> {
        number(self.field(136, 12))
    }

    /// Major and minor number of a device; v7 headers have none.
    pub(super) fn device(&self) -> Option<(i64, i64)> {
        if self.is_ustar() || self.is_gnu() {
            Some((number(self.field(329, 8))?, number(self.field(337, 8))?))
        } else {
            Some((0, 0))
        }
    }

    /// The four regions that a GNU sparse header has room for.
    pub(super) fn sparse_regions(&self) -> impl Iterator<Item = Option<(i64, i64)>> {
        regions(self.field(386, 96))
    }

    pub(super) fn has_more_regions(&self) -> bool {
        self.0.get(482).is_some_and(|byte| *byte != 0)
    }

    /// Size of a GNU sparse file with its holes.
    pub(super) fn real_size(&self) -> Option<i64> {
        number(self.field(483, 12))
    }
}

/// Returns the regions in a list of pairs of 12-byte numbers, `None` for one that is none; unused places are empty.
pub(super) fn regions(bytes: &[u8]) -> impl Iterator<Item = Option<(i64, i64)>> {
    let used = bytes.chunks_exact(24).take_while(|pair| pair.iter().any(|byte| !matches!(byte, 0 | b' ')));
    used.map(|pair| Some((number(pair.get(..12)?)?, number(pair.get(12..)?)?)))
}

fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Returns the number in a field: octal digits, or GNU's base-256 for what does not fit. Empty fields are 0.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    if matches!(first, 0x80 | 0xff) {
        // Two's complement; the bit that marks the form lies above its sign.
        let start = if *first == 0xff { -1_i64 } else { 0 };
        return rest
            .iter()
            .try_fold(start, |value, byte| value.checked_mul(256).map(|shifted| shifted | i64::from(*byte)));
    }
    let digits = field.trim_ascii_start();
    let end = digits.iter().position(|byte| matches!(byte, 0 | b' ')).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if !rest.iter().all(|byte| matches!(byte, 0 | b' ')) {
        return None;
    }
    digits.iter().try_fold(0_i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}
