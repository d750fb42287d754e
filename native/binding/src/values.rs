//! Arguments that need more than a type: hashes, algorithms, suffixes.

use nearfs_format::dirent::Compression;
use nearfs_format::hash::{ContentHash, HashAlgorithm};
use nearfs_format::object::{ObjectId, ObjectKind};
use nearfs_format::path::RepoPath;

use crate::errors::Raised;

/// Returns the hash of a text.
pub(crate) fn hash(text: &str) -> Result<ContentHash, Raised> {
    Ok(text.parse::<ContentHash>()?)
}

/// Returns the algorithm of a configuration name.
pub(crate) fn algorithm(name: &str) -> Result<HashAlgorithm, Raised> {
    HashAlgorithm::from_name(name).ok_or_else(|| Raised::invalid("read", format!("hash algorithm `{name}`")))
}

/// Returns the compression of a configuration value.
pub(crate) fn compression(name: &str) -> Result<Compression, Raised> {
    Compression::from_name(name).ok_or_else(|| Raised::invalid("read", format!("compression `{name}`")))
}

/// Returns the object kind of a suffix letter.
pub(crate) fn kind(suffix: &str) -> Result<ObjectKind, Raised> {
    let kinds = [
        ObjectKind::File,
        ObjectKind::Chunk,
        ObjectKind::Catalog,
        ObjectKind::History,
        ObjectKind::Certificate,
        ObjectKind::Metainfo,
    ];
    kinds
        .into_iter()
        .find(|kind| kind.suffix() == suffix)
        .ok_or_else(|| Raised::invalid("read", format!("object suffix `{suffix}`")))
}

/// Returns (hash text, suffix) pairs as object ids.
pub(crate) fn references(pairs: &[(String, String)]) -> Result<Vec<ObjectId>, Raised> {
    pairs.iter().map(|(text, suffix)| Ok(ObjectId::new(hash(text)?, kind(suffix)?))).collect()
}

/// Returns an absolute path within a repository.
pub(crate) fn repo_path(path: &[u8]) -> Result<RepoPath, Raised> {
    RepoPath::parse(path).map_err(|e| Raised::invalid("read", format!("path `{}`: {e}", path.escape_ascii())))
}
