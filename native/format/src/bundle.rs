//! Bundles: files that are read together, listed beside the file whose opening begins it.
//!
//! Owns the name `.cvmfsbundle-<trigger>`, the specification (a JSON object), and its limits. A specification is a hint:
//! whether what it lists exists, is a file, and is worth fetching is for others to say. Its form is that of CernVM-FS
//! 2.14, which is read as leniently as its own client reads it and written as its documentation shows it.

use std::collections::HashSet;
use std::fmt::Write as _;

use serde::Deserialize;

use crate::error::{FormatError, Result};
use crate::path::{NAME_MAX_BYTES, RepoPath};

/// What the name of a specification begins with; the rest is the name of its trigger.
pub const BUNDLE_PREFIX: &[u8] = b".cvmfsbundle-";
/// Largest specification that is read or written, in bytes. Ours: the format has no limit.
pub const BUNDLE_MAX_BYTES: usize = 1 << 20;
/// Most files that a specification lists. Ours as well.
pub const BUNDLE_MAX_DEPENDENCIES: usize = 16_384;

const NAME: &str = "CVMFS_BUNDLE";
const VERSION: &str = "1.0.0";
const ENCODING: &str = "UTF-8";
const SUBJECT: &str = "bundle specification";

/// Returns the path of the specification beside `trigger`; `None` for the root, and where the name would be too long.
pub fn specification_path(trigger: &RepoPath) -> Option<RepoPath> {
    let directory = trigger.parent()?;
    if BUNDLE_PREFIX.len() + trigger.name().len() > NAME_MAX_BYTES {
        return None;
    }
    directory.join(&[BUNDLE_PREFIX, trigger.name()].concat()).ok()
}

/// Returns the trigger that the file `name` is the specification of; `None` for every other file.
pub fn trigger_name(name: &[u8]) -> Option<&[u8]> {
    // What is left of a name is one, but for these three.
    name.strip_prefix(BUNDLE_PREFIX).filter(|trigger| !matches!(*trigger, b"" | b"." | b".."))
}

/// Returns the path of the trigger of a specification at `specification`; `None` for every other file.
pub fn trigger_path(specification: &RepoPath) -> Option<RepoPath> {
    specification.parent()?.join(trigger_name(specification.name())?).ok()
}

/// The files of a bundle, in the order in which they are read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BundleSpec {
    dependencies: Vec<RepoPath>,
    left_out: usize,
}

/// The specification as it is written. Unknown members are ignored.
#[derive(Deserialize)]
struct Document {
    name: String,
    version: Option<String>,
    encoding: Option<String>,
    dependencies: Vec<String>,
}

impl BundleSpec {
    /// Lists files, each once. What a specification cannot hold is left out: the root, paths that are not UTF-8, and what
    /// goes beyond the limits.
    pub fn of(paths: impl IntoIterator<Item = RepoPath>) -> Self {
        let mut spec = Self::default();
        let mut seen = HashSet::new();
        let mut size_bytes = spec.encode().len();
        for path in paths {
            if !seen.insert(path.clone()) {
                continue;
            }
            // A line of its own: indented, quoted, with a comma and a line feed.
            let line_bytes = quoted(&path).map(|text| text.len() + 4 + 2);
            match line_bytes {
                Some(bytes)
                    if !path.is_root()
                        && spec.dependencies.len() < BUNDLE_MAX_DEPENDENCIES
                        && size_bytes + bytes <= BUNDLE_MAX_BYTES =>
                {
                    size_bytes += bytes;
                    spec.dependencies.push(path);
                }
                _ => spec.left_out += 1,
            }
        }
        spec
    }

    /// Reads a specification that lies in `directory`. Lines at the beginning that start with `#` are skipped. A path
    /// without a slash in front is one from `directory` on. Entries that are no path are left out; each path counts once.
    ///
    /// # Errors
    ///
    /// `TooLarge` for more than [`BUNDLE_MAX_BYTES`] or [`BUNDLE_MAX_DEPENDENCIES`], `Unsupported` for another version or
    /// encoding, `Malformed` for what is no specification.
    pub fn parse(bytes: &[u8], directory: &RepoPath) -> Result<Self> {
        if bytes.len() > BUNDLE_MAX_BYTES {
            return Err(FormatError::TooLarge { subject: SUBJECT, limit_bytes: BUNDLE_MAX_BYTES as u64 });
        }
        let json = without_comments(bytes).trim_ascii_start();
        // The parser would take an array with the members in order for the object.
        if !json.starts_with(b"{") {
            return Err(FormatError::malformed(SUBJECT, "it is no JSON object"));
        }
        let document: Document =
            serde_json::from_slice(json).map_err(|error| FormatError::malformed(SUBJECT, error.to_string()))?;
        if document.name != NAME {
            let reason = format!("its name is `{}` instead of `{NAME}`", document.name.escape_debug());
            return Err(FormatError::malformed(SUBJECT, reason));
        }
        // The client of 2.14 looks at neither; what it would misread is another major version.
        if let Some(version) = document.version.filter(|version| version.split('.').next() != Some("1")) {
            return Err(unsupported(format!("version `{}`", version.escape_debug())));
        }
        if let Some(encoding) = document.encoding.filter(|encoding| !encoding.eq_ignore_ascii_case(ENCODING)) {
            return Err(unsupported(format!("encoding `{}`", encoding.escape_debug())));
        }
        let stated = document.dependencies.len();
        if stated > BUNDLE_MAX_DEPENDENCIES {
            let reason = format!("{stated} dependencies, more than {BUNDLE_MAX_DEPENDENCIES}");
            return Err(FormatError::malformed(SUBJECT, reason));
        }
        let mut spec = Self::default();
        let mut seen = HashSet::new();
        for entry in &document.dependencies {
            match resolve(entry, directory) {
                Some(path) if seen.insert(path.clone()) => spec.dependencies.push(path),
                Some(_) => {}
                None => spec.left_out += 1,
            }
        }
        Ok(spec)
    }

    /// Returns the files, each once, in the order of the specification.
    pub fn dependencies(&self) -> &[RepoPath] {
        &self.dependencies
    }

    /// Returns how many entries were left out.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Writes the specification: one file a line, so that revisions can be compared.
    pub fn encode(&self) -> String {
        let mut text = format!("{{\n  \"name\": \"{NAME}\",\n  \"version\": \"{VERSION}\",\n");
        let _ = write!(text, "  \"encoding\": \"{ENCODING}\",\n  \"dependencies\": [\n");
        let lines: Vec<String> =
            self.dependencies.iter().filter_map(quoted).map(|path| format!("    {path}")).collect();
        text.push_str(&lines.join(",\n"));
        text.push_str("\n  ]\n}\n");
        text
    }
}

fn unsupported(reason: String) -> FormatError {
    FormatError::Unsupported { subject: SUBJECT, reason }
}

/// Returns what follows the lines at the beginning that start with `#`.
fn without_comments(mut bytes: &[u8]) -> &[u8] {
    while bytes.starts_with(b"#") {
        let end = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
        bytes = &bytes[end..];
    }
    bytes
}

/// Returns the path that an entry means; `None` for the root and for what is no path.
fn resolve(entry: &str, directory: &RepoPath) -> Option<RepoPath> {
    let path = if entry.starts_with('/') {
        RepoPath::parse(entry.as_bytes())
    } else {
        let relative = entry.strip_prefix("./").unwrap_or(entry);
        RepoPath::parse(&[directory.as_bytes(), b"/", relative.as_bytes()].concat())
    };
    path.ok()
}

/// Returns the path as a JSON string, if it can be one.
fn quoted(path: &RepoPath) -> Option<String> {
    serde_json::to_string(std::str::from_utf8(path.as_bytes()).ok()?).ok()
}

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;
