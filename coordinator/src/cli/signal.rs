//! Names and numbers of the signals that can be sent to a server.

use nix::sys::signal::Signal;

use dmt::process::signal::SIGNALS;

/// The first and the last real-time signal that programs can use, as glibc counts them.
const REAL_TIME: (i32, i32) = (34, 63);

/// The number of a signal that is given as `HUP`, `SIGHUP`, `1`, `RTMIN+3` or `RTMAX-1`.
pub(super) fn signal_number(text: &str) -> Result<i32, String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = name.parse().ok().or_else(|| real_time(name)).or_else(|| {
        let signal: Signal = format!("SIG{name}").parse().ok()?;
        Some(signal as i32)
    });
    let number: i32 = number.ok_or("no signal has this name; `kill -l` lists them")?;
    match number {
        libc::SIGSYS | 32 | 33 => Err("libc and Brolga use this signal themselves".to_owned()),
        _ if (1..SIGNALS as i32).contains(&number) => Ok(number),
        _ => Err(format!("signals are numbered 1 to {}", SIGNALS - 1)),
    }
}

fn real_time(name: &str) -> Option<i32> {
    let (first, last) = REAL_TIME;
    let number = if let Some(rest) = name.strip_prefix("RTMIN") {
        first + if rest.is_empty() { 0 } else { i32::from(rest.strip_prefix('+')?.parse::<u8>().ok()?) }
    } else {
        let rest = name.strip_prefix("RTMAX")?;
        last - if rest.is_empty() { 0 } else { i32::from(rest.strip_prefix('-')?.parse::<u8>().ok()?) }
    };
    (first..=last).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::signal_number;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [
            ("HUP", 1),
            ("SIGUSR1", 10),
            ("hup", 1),
            ("15", 15),
            ("RTMIN", 34),
            ("RTMIN+3", 37),
            ("SIGRTMAX-1", 62),
            ("STOP", 19),
        ] {
            assert_eq!(signal_number(text), Ok(number), "{text}");
        }
    }

    #[test]
    fn refuses_what_cannot_be_sent() {
        for text in ["", "0", "-1", "64", "SIGSYS", "33", "FOO", "RTMIN+40", "RTMAX-40"] {
            assert!(signal_number(text).is_err(), "{text}");
        }
    }
}
