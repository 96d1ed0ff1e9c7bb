//! What three replicas' logs say of a stretch of time, in one order: for a failure that took long.

use std::time::{Duration, SystemTime};

use brolga_tests::trio::Trio;

/// What is shown of before the failure.
const BEFORE: Duration = Duration::from_millis(200);
/// And of after its end.
const AFTER: Duration = Duration::from_millis(300);

/// Prints the lines of all logs from `at` on, for as long as the failure lasted.
pub fn print(trio: &Trio, at: SystemTime, lasted: Duration) {
    let (from, to) = (stamp(at - BEFORE), stamp(at + lasted + AFTER));
    let of = |id: u8| trio.log(id).into_iter().map(move |line| (id, line));
    let mut lines: Vec<_> = (1..=3).flat_map(of).filter(|(_, line)| *line >= from && *line <= to).collect();
    lines.sort_by(|a, b| a.1.cmp(&b.1));
    println!("  it began at {}", stamp(at));
    lines.iter().for_each(|(id, line)| println!("  replica {id}: {line}"));
}

/// As a line of a log begins: `2026-01-31T12:34:56.123456Z`.
fn stamp(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!(
        "{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}.{:06}Z",
        second % 60,
        since.subsec_micros()
    )
}

/// The date of a day, counted from the beginning of 1970.
fn date(days: u64) -> (u64, u64, u64) {
    // Years that begin in March have the odd day at their end.
    let day = days + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let month_of_year = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month_of_year <= 2);
    (year, month_of_year, of_year - (153 * month + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::stamp;

    #[test]
    fn dates() {
        let at = |seconds| stamp(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(at(951_825_599), "2000-02-29T11:59:59.000000Z");
        assert_eq!(at(1_798_761_599), "2026-12-31T23:59:59.000000Z");
    }
}
