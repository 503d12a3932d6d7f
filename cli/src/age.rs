//! How old something is, for people.

use jiff::Timestamp;

use crate::output::count;

/// Seconds since 1970 of a time as RFC 3339 writes it (`2024-01-01T00:00:00.5+02:00`); `None` for anything
/// else.
pub(crate) fn parse(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_second)
}

/// How long ago something was, in the largest unit of which there are at least two (weeks, months and years
/// later, as `docker images` has it); `-` for what is still to come.
pub(crate) fn since(then: i64, now: i64) -> String {
    let Ok(seconds) = u64::try_from(now.saturating_sub(then)) else {
        return "-".into();
    };
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if seconds < 120 => count(seconds, "second"),
        () if minutes < 120 => count(minutes, "minute"),
        () if hours < 48 => count(hours, "hour"),
        () if days < 14 => count(days, "day"),
        () if days < 60 => count(days / 7, "week"),
        () if days < 730 => count(days / 30, "month"),
        () => count(days / 365, "year"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2019-06-29T14:16:51.123456789Z", Some(1_561_817_811)),
            ("2019-06-29T16:16:51+02:00", Some(1_561_817_811)),
            ("2000-02-29T00:00:00Z", Some(951_782_400)),
            ("2100-03-01T00:00:00-00:30", Some(4_107_544_200)),
            ("0001-01-01T00:00:00Z", Some(-62_135_596_800)),
            ("2019-13-29T14:16:51Z", None),
            ("2019-06-29", None),
            ("2019-06-29T14:16:51", None),
            ("2019-06-29T14:16:5\u{1b}Z", None),
            ("\u{1b}]0;title", None),
            ("", None),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn ages_have_one_unit() {
        let day = 86_400;
        for (seconds, text) in [
            (0, "0 seconds"),
            (119, "119 seconds"),
            (120, "2 minutes"),
            (7_200, "2 hours"),
            (2 * day, "2 days"),
            (14 * day, "2 weeks"),
            (60 * day, "2 months"),
            (730 * day, "2 years"),
            (-1, "-"),
        ] {
            assert_eq!(since(1_000_000, 1_000_000 + seconds), text);
        }
    }
}
