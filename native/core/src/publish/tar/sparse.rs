//! Files with holes: which bytes of a file are in the archive.
//!
//! Owns the four ways in which archives say so (GNU's own header, and versions 0.0, 0.1 and 1.0 in extended headers)
//! and the check that a map makes sense. Maps are bounded; holes are never allocated.

use super::pax::{Bad, Records, decimal};

/// Most regions of one file: with 16 bytes each, a map takes 16 MiB.
pub(super) const REGION_LIMIT: usize = 1 << 20;

/// Where the stored bytes of a file belong, and how large it is with its holes. Bytes.
#[derive(Debug, Default, Clone)]
pub(super) struct Layout {
    regions: Vec<(u64, u64)>,
    pub(super) size: u64,
}

impl Layout {
    /// A file without holes.
    pub(super) fn whole(size: u64) -> Self {
        Self { regions: vec![(0, size)], size }
    }

    /// Returns the layout of a map whose regions follow each other within `size` and have `stored` bytes together.
    pub(super) fn of(regions: &[(i64, i64)], size: i64, stored: u64) -> Option<Self> {
        let size = u64::try_from(size).ok()?;
        let (mut end, mut sum) = (0, 0_u64);
        let mut checked = Vec::with_capacity(regions.len());
        for (offset, length) in regions {
            let (offset, length) = (u64::try_from(*offset).ok()?, u64::try_from(*length).ok()?);
            if offset < end {
                return None;
            }
            end = offset.checked_add(length)?;
            sum += length;
            checked.push((offset, length));
        }
        (end <= size && sum == stored).then_some(Self { regions: checked, size })
    }

    /// Returns how many bytes from `position` come from the archive (`true`) or are a hole; 0 at the end.
    pub(super) fn at(&self, position: u64) -> (bool, u64) {
        let next = self.regions.partition_point(|(offset, length)| offset + length <= position);
        match self.regions.get(next) {
            Some((offset, length)) if *offset <= position => (true, offset + length - position),
            Some((offset, _)) => (false, offset - position),
            None => (false, self.size - position.min(self.size)),
        }
    }
}

/// What extended headers say about holes.
#[derive(Debug)]
pub(super) enum Told {
    /// Nothing: the file has none.
    Nothing,
    /// Regions, and the size with holes.
    Map(Vec<(i64, i64)>, i64),
    /// The map precedes the content; the size with holes.
    Ahead(i64),
}

/// Returns what the records say.
pub(super) fn told(records: &Records) -> Result<Told, Bad> {
    if records.get("GNU.sparse.major") == Some(b"1") {
        return Ok(Told::Ahead(records.number("GNU.sparse.realsize")?.ok_or(Bad)?));
    }
    let Some(size) = records.number("GNU.sparse.size")? else { return Ok(Told::Nothing) };
    let flat = match records.get("GNU.sparse.map") {
        Some(map) => map.split(|byte| *byte == b',').map(decimal).collect::<Option<Vec<_>>>().ok_or(Bad)?,
        None => records.regions.clone(),
    };
    let pairs = flat.chunks(2).map(|pair| Some((*pair.first()?, *pair.get(1)?))).collect::<Option<Vec<_>>>();
    let pairs = pairs.filter(|pairs| pairs.len() <= REGION_LIMIT).ok_or(Bad)?;
    Ok(Told::Map(pairs, size))
}
