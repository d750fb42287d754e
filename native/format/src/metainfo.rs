//! Repository meta-information: a JSON text that no client interprets.
//!
//! Owns its size limit and the skeleton that a publisher starts from. Source: format.md 8.3.

use crate::error::{FormatError, Result};

/// Largest text that clients hand out (`user.repo_metainfo`), in bytes.
pub const SIZE_LIMIT_BYTES: u64 = 65_536;

/// The keys that a publisher fills in.
pub const SKELETON: &str = r#"{
  "administrator": "",
  "email": "",
  "organisation": "",
  "description": "",
  "url": "",
  "recommended-stratum0": "",
  "recommended-stratum1s": [],
  "custom": {}
}
"#;

/// Checks that clients would hand out a text of that many bytes.
pub fn check_size(size_bytes: u64) -> Result<()> {
    if size_bytes > SIZE_LIMIT_BYTES {
        return Err(FormatError::TooLarge { subject: "metainfo", limit_bytes: SIZE_LIMIT_BYTES });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_skeleton_fits_and_names_every_key() {
        assert!(check_size(SKELETON.len() as u64).is_ok());
        assert!(check_size(SIZE_LIMIT_BYTES).is_ok());
        assert!(check_size(SIZE_LIMIT_BYTES + 1).is_err());
        for key in ["administrator", "email", "organisation", "description", "url", "custom"] {
            assert_eq!(SKELETON.matches(&format!("\"{key}\":")).count(), 1);
        }
        assert_eq!(SKELETON.matches("\"recommended-stratum").count(), 2);
    }
}
