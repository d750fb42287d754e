//! Files of the repository in the cache, by path: let go, or kept, because an operator says so (`cvmfs_talk`).
//!
//! May wait for catalogs and, to keep a file, for its content. Any thread.

use nearfs_format::dirent::FileType;
use nearfs_format::path::RepoPath;

use super::filesystem::{FileSystem, FsError, Refusal};
use super::ops::Client;
use super::types::Ino;
use crate::cache::Want;
use crate::catalog::content::{self, Content};
use crate::error::{Error, ErrorKind, Result};

impl Client {
    /// Removes the objects of a file from the cache; says whether all that were there are gone, `None` where the path is
    /// no regular file.
    pub fn evict_file(&self, path: &RepoPath) -> Result<Option<bool>> {
        let Some(objects) = self.objects_of(path)? else { return Ok(None) };
        let mut are_gone = true;
        for want in objects.iter().filter(|want| self.cache().is_cached(&want.id)) {
            are_gone &= self.cache().evict(&want.id)?;
        }
        Ok(Some(are_gone))
    }

    /// Fetches a file and keeps it from being cleaned up while the client lives; says whether it is kept, `None` where
    /// the path is no regular file.
    pub fn pin_file(&self, path: &RepoPath) -> Result<Option<bool>> {
        let Some(objects) = self.objects_of(path)? else { return Ok(None) };
        let mut are_kept = true;
        for want in &objects {
            self.cache().open_for(want, || path.to_string())?;
            are_kept &= self.cache().pin(&want.id)?;
        }
        Ok(Some(are_kept))
    }

    fn objects_of(&self, path: &RepoPath) -> Result<Option<Vec<Want>>> {
        let found = path.names().try_fold(Ino::ROOT, |ino, name| self.lookup(ino, name).map(|attr| attr.ino));
        let place = match found.and_then(|ino| self.entry(ino)) {
            Ok(place) => place,
            Err(FsError::Refused(Refusal::NoEntry | Refusal::NotADirectory)) => return Ok(None),
            Err(error) => return Err(engine_error(error)),
        };
        let entry = place.view.index.row(place.row);
        if entry.file_type != FileType::Regular {
            return Ok(None);
        }
        Ok(Some(match content::of(&place.view, place.row)? {
            Content::Empty => Vec::new(),
            Content::Whole(want) => vec![want],
            Content::Chunked(chunks) => (0..chunks.list.as_slice().len()).filter_map(|n| chunks.want(n)).collect(),
        }))
    }
}

fn engine_error(error: FsError) -> Error {
    match error {
        FsError::Engine(error) => error,
        FsError::Refused(refusal) => Error::new(ErrorKind::NotFound, "look up", refusal.to_string()),
    }
}
