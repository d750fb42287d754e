//! Calendar arithmetic in UTC: Unix seconds to dates and back, and the two date forms of the formats.
//!
//! Owns no clock: "now" always comes from the caller. Leap seconds do not exist in Unix time and are refused.

use std::fmt;

use crate::error::{FormatError, Result};

const DAY_S: i64 = 86_400;
/// Days of 400 Gregorian years, after which the calendar repeats.
const CYCLE_DAYS: i64 = 146_097;
/// Days from 1600-01-01, where a cycle begins, to 1970-01-01.
const DAYS_1600_TO_1970: i64 = 135_140;

/// A moment in UTC, to the second; ordered by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CalendarTime {
    year: i64,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
}

impl CalendarTime {
    /// Builds a moment from its parts, if they name one: years 0 to 9999, months and days from 1.
    pub fn new(year: u16, month: u8, day: u8, hour: u8, minute: u8, second: u8) -> Option<Self> {
        let year = i64::from(year);
        let is_valid = year <= 9999
            && (1..=12).contains(&month)
            && (1..=days_of_month(year, month)).contains(&i64::from(day))
            && hour < 24
            && minute < 60
            && second < 60;
        is_valid.then_some(Self { year, month, day, hour, minute, second })
    }

    /// Returns the moment of `unix_s` seconds after 1970-01-01.
    pub fn from_unix(unix_s: i64) -> Self {
        let (days, seconds) = (unix_s.div_euclid(DAY_S) + DAYS_1600_TO_1970, unix_s.rem_euclid(DAY_S));
        let mut year = 1600 + 400 * days.div_euclid(CYCLE_DAYS);
        let mut day = days.rem_euclid(CYCLE_DAYS);
        // At most 399 rounds: cheap enough for dates, and easy to see that it is right.
        while day >= days_of_year(year) {
            day -= days_of_year(year);
            year += 1;
        }
        let mut month = 1;
        while day >= days_of_month(year, month) {
            day -= days_of_month(year, month);
            month += 1;
        }
        Self {
            year,
            month,
            day: day as u8 + 1,
            hour: (seconds / 3600) as u8,
            minute: (seconds / 60 % 60) as u8,
            second: (seconds % 60) as u8,
        }
    }

    /// Returns seconds after 1970-01-01.
    pub fn to_unix(self) -> i64 {
        let cycle = (self.year - 1600).div_euclid(400);
        let first = 1600 + 400 * cycle;
        let days = CYCLE_DAYS * cycle
            + (first..self.year).map(days_of_year).sum::<i64>()
            + (1..self.month).map(|month| days_of_month(self.year, month)).sum::<i64>()
            + i64::from(self.day)
            - 1
            - DAYS_1600_TO_1970;
        days * DAY_S + i64::from(self.hour) * 3600 + i64::from(self.minute) * 60 + i64::from(self.second)
    }

    /// Returns year, month, day and hour: what the expiry of a whitelist is compared by.
    pub const fn hour_key(self) -> (i64, u8, u8, u8) {
        (self.year, self.month, self.day, self.hour)
    }

    /// Parses `YYYYMMDDhhmmss`, the form of whitelists.
    pub fn parse_compact(text: &[u8]) -> Result<Self> {
        let parts = [0..4, 4..6, 6..8, 8..10, 10..12, 12..14];
        Self::from_parts(text, 14, &parts, &[]).ok_or_else(|| unreadable(text, "YYYYMMDDhhmmss"))
    }

    /// Parses `YYYY-MM-DDTHH:MM:SSZ`, the form of `CVMFS_REPOSITORY_DATE` and of generic tag names.
    pub fn parse_iso(text: &[u8]) -> Result<Self> {
        let parts = [0..4, 5..7, 8..10, 11..13, 14..16, 17..19];
        let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'Z')];
        Self::from_parts(text, 20, &parts, &marks).ok_or_else(|| unreadable(text, "YYYY-MM-DDTHH:MM:SSZ"))
    }

    fn from_parts(
        text: &[u8],
        length: usize,
        parts: &[std::ops::Range<usize>; 6],
        marks: &[(usize, u8)],
    ) -> Option<Self> {
        if text.len() != length || marks.iter().any(|(at, mark)| text.get(*at) != Some(mark)) {
            return None;
        }
        let number = |part: &std::ops::Range<usize>| {
            text.get(part.clone())?
                .iter()
                .try_fold(0u16, |sum, b| b.is_ascii_digit().then(|| sum * 10 + u16::from(b - b'0')))
        };
        let small = |index: usize| number(&parts[index]).and_then(|n| u8::try_from(n).ok());
        Self::new(number(&parts[0])?, small(1)?, small(2)?, small(3)?, small(4)?, small(5)?)
    }

    /// Returns `YYYYMMDDhhmmss`.
    pub fn compact(self) -> String {
        let Self { year, month, day, hour, minute, second } = self;
        format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}")
    }
}

impl fmt::Display for CalendarTime {
    /// Writes `YYYY-MM-DDTHH:MM:SSZ`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day, hour, minute, second } = self;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

fn unreadable(text: &[u8], form: &str) -> FormatError {
    let shown = &text[..text.len().min(40)];
    FormatError::malformed("date", format!("`{}` is no date of the form {form} (UTC)", shown.escape_ascii()))
}

const fn is_leap_year(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

const fn days_of_year(year: i64) -> i64 {
    if is_leap_year(year) { 366 } else { 365 }
}

const fn days_of_month(year: i64, month: u8) -> i64 {
    match month {
        2 if is_leap_year(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_moments() {
        // From date(1): date -u -d @N.
        for (unix_s, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_735_689_600, "2025-01-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (-11_676_096_000, "1600-01-01T00:00:00Z"),
        ] {
            assert_eq!(CalendarTime::from_unix(unix_s).to_string(), text);
            assert_eq!(CalendarTime::parse_iso(text.as_bytes()).unwrap().to_unix(), unix_s);
        }
    }

    #[test]
    fn dates_that_do_not_exist_are_refused() {
        for text in ["20230229000000", "21000229000000", "20240001000000", "20241301000000", "20240132000000"] {
            assert!(CalendarTime::parse_compact(text.as_bytes()).is_err(), "{text}");
        }
        for text in ["20240101240000", "20240101006000", "20240101000060", "2024010100000", "2024010100000x", ""] {
            assert!(CalendarTime::parse_compact(text.as_bytes()).is_err(), "{text}");
        }
        for text in ["2024-01-01 00:00:00Z", "2024-01-01T00:00:00", "2024-01-01T00:00:00z", "+024-01-01T00:00:00Z"] {
            assert!(CalendarTime::parse_iso(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(CalendarTime::parse_compact(b"20240229010203").unwrap().compact(), "20240229010203");
    }

    proptest! {
        #[test]
        fn seconds_survive_the_calendar(unix_s in -62_000_000_000i64..253_402_300_800) {
            let moment = CalendarTime::from_unix(unix_s);
            prop_assert_eq!(moment.to_unix(), unix_s);
            prop_assert!(CalendarTime::from_unix(unix_s + 1) > moment);
        }

        #[test]
        fn any_seconds_have_a_date(unix_s: i64) {
            prop_assert_eq!(CalendarTime::from_unix(unix_s).to_unix(), unix_s);
        }

        #[test]
        fn any_text_parses_or_fails(text: Vec<u8>, digits in "[0-9]{14}") {
            let _ = (CalendarTime::parse_iso(&text), CalendarTime::parse_compact(&text));
            if let Ok(moment) = CalendarTime::parse_compact(digits.as_bytes()) {
                prop_assert_eq!(moment.compact(), digits);
            }
        }
    }
}
