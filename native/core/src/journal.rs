//! The newest lines of the engine's log, in memory, for whoever has the mount but not the log file.
//!
//! Owns the lines and their bounds; whoever runs the engine feeds them. One list a process, shared by all threads.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

/// Target of lines that are no warnings and that an operator wants to see all the same.
pub const NOTICE: &str = "nearfs::notice";

const LINES_MAX: usize = 64;
/// Characters of a line; longer ones are cut.
const LINE_MAX: usize = 4096;
const CUT: &str = " <snip>";

static LINES: Mutex<VecDeque<(u64, String)>> = Mutex::new(VecDeque::new());

/// Keeps a line; the oldest one goes.
pub fn keep(line: &str) {
    let mut text: String = line.chars().take(LINE_MAX).collect();
    if text.len() < line.len() {
        text.push_str(CUT);
    }
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let mut lines = LINES.lock();
    lines.truncate(LINES_MAX - 1);
    lines.push_front((now_s, text));
}

/// Returns the lines, the newest first, each with its time: `[Unix seconds] text`.
pub fn newest_first() -> String {
    LINES.lock().iter().fold(String::new(), |mut all, (at, text)| {
        let _ = writeln!(all, "[{at}] {text}");
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_stay_and_long_ones_are_cut() {
        for number in 0..100 {
            keep(&format!("line {number}"));
        }
        keep(&"x".repeat(5000));
        let text = newest_first();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), LINES_MAX);
        assert!(lines[0].ends_with(CUT) && lines[0].len() < LINE_MAX + 40);
        assert!(lines[1].ends_with("] line 99"), "{}", lines[1]);
    }
}
