//! Many small objects by one request: a pack is fetched, and its members become objects of the cache.
//!
//! Owns the way of a pack's bytes into the cache. Not what is packed, nor when a pack is asked for. A member is what its
//! own hash says, and its content has the size that its catalog says; a pack that is missing, short, damaged or made up
//! brings nothing, and whoever waited for a member then fetches it alone. The pack itself is not kept.
//!
//! Threading: as [`super::fill`]. Members count as on their way while their pack is.

use std::time::Duration;

use nearfs_format::object::ObjectId;
use nearfs_format::pack::Pack;

use super::fill::{Came, ObjectCache};
use super::flight::Boarding;
use super::sink::StoredSink;
use super::want::Want;
use crate::error::{Error, Result};
use crate::transport::{Interrupt, Request};

/// What came of a pack.
#[derive(Debug, Default)]
pub struct Unpacked {
    /// What it took.
    pub came: Came,
    /// The objects that are in the cache now because of it, each with its stored size in bytes.
    pub landed: Vec<(ObjectId, u64)>,
}

impl ObjectCache {
    /// Fetches a pack ahead, and takes those of its members that are in `wants`.
    ///
    /// Whoever asks for one of them meanwhile waits for the pack; what did not come with it they fetch themselves.
    /// Blocks; tried once, as any guess. A pack that is no pack is an error, and nothing of it is used.
    pub fn fetch_pack(&self, pack: &Want, wants: &[Want], interrupt: &Interrupt) -> Result<Unpacked> {
        pack.check_size()?;
        let mut pilots = Vec::new();
        for want in wants {
            // Those that are on their way already are left to whoever brings them.
            if let Boarding::Pilot(pilot) = self.flights.board(&Self::key(want), Duration::ZERO, || false)
                && !self.is_cached(&want.id)
            {
                pilots.push((want, pilot));
            }
        }
        let mut sink = StoredSink::new(pack.id);
        let request = Request { is_guess: true, ..pack.request(interrupt) };
        let came = self.origin.fetch(&request, &mut sink)?.into();
        let stored = sink.into_bytes();
        let members = Pack::parse(&stored).map_err(|e| Error::format("read pack", pack.id.to_string(), e))?;
        let mut landed = Vec::with_capacity(pilots.len());
        for (want, pilot) in pilots {
            let member = match members.get(&want.id.hash) {
                Ok(Some(member)) => member,
                Ok(None) => continue,
                Err(error) => {
                    tracing::debug!(%error, pack = %pack.id, "a member of a pack is not what it should be");
                    continue;
                }
            };
            match self.store(want, member.to_vec()) {
                Ok(object) => {
                    pilot.land(Ok(object));
                    landed.push((want.id, member.len() as u64));
                }
                // Its reader hears of that when they ask, or of nothing.
                Err(error) => tracing::debug!(%error, pack = %pack.id, "a member of a pack was not taken"),
            }
        }
        Ok(Unpacked { came, landed })
    }
}
