//! The 24 statistics counters: what the catalog says against what was counted. Source: format.md 4.9 and 12.13.

use nearfs_format::counters::{CatalogCounters, Counters};

use super::Frame;
use super::findings::Findings;
use crate::catalog::reader::CatalogReader;

/// Reads the counters; `None` and a finding where they cannot be read or some are missing.
pub(super) fn read(reader: &CatalogReader, findings: &mut Findings) -> Option<CatalogCounters> {
    let rows = match reader.counters() {
        Ok(rows) => rows,
        Err(e) => {
            findings.of_catalog(format_args!("statistics counters cannot be read: {e}"));
            return None;
        }
    };
    if rows.is_empty() {
        let version = reader.schema().version;
        findings.of_catalog(format_args!("catalog has no statistics counters (schema {version})"));
        return None;
    }
    CatalogCounters::from_rows(rows, i64::from(reader.schema().revision))
        .map_err(|e| findings.of_catalog(format_args!("statistics counters cannot be read: {e}")))
        .ok()
}

/// Compares the counters of a catalog below which everything was inspected.
pub(super) fn compare(frame: &Frame, findings: &mut Findings) {
    let Some(stored) = frame.stored else { return };
    findings.begin_catalog(frame.subject.clone());
    let parts = [
        ("self", frame.own_is_known, frame.own, stored.own),
        ("subtree", frame.below_is_known, frame.below, stored.subtree),
    ];
    for (part, _, expected, actual) in parts.into_iter().filter(|(_, is_known, ..)| *is_known) {
        for name in Counters::NAMES.into_iter().filter(|name| introduced_in(name) <= frame.schema_revision) {
            let (expected, actual) = (expected.get(name).unwrap_or(0), actual.get(name).unwrap_or(0));
            if expected != actual {
                let problem = format_args!(
                    "catalog statistics mismatch: {part}_{name} (expected: {expected} / in catalog: {actual})"
                );
                findings.of_catalog(problem);
            }
        }
    }
}

/// Returns the schema revision since which catalogs have a counter; older ones count nothing there (format.md 4.2).
fn introduced_in(name: &str) -> u32 {
    match name {
        "xattr" => 2,
        "external" | "external_file_size" => 3,
        "special" => 5,
        _ => 0,
    }
}
