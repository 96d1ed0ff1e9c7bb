//! Runs wrk and reads what it prints.

use std::process::Command;
use std::time::Duration;

use crate::load::Outcome;

/// Kept connections to servers that are made for many.
pub const CONNECTIONS: u32 = 50;

/// Fetches a page over so many kept connections for a time.
pub fn run(port: u16, page: &str, connections: u32, time: Duration) -> Outcome {
    fetch(port, page, connections, time, &[])
}

/// The same with a new connection for each request. A server that sends head and body by two writes is held up on a kept
/// connection until its client acknowledges the first, which clients put off for 40 ms; under brolga the two leave together.
pub fn run_anew(port: u16, page: &str, connections: u32, time: Duration) -> Outcome {
    fetch(port, page, connections, time, &["-H", "Connection: close"])
}

fn fetch(port: u16, page: &str, connections: u32, time: Duration, options: &[&str]) -> Outcome {
    let output = Command::new("wrk")
        .args([
            "-t",
            "1",
            "-c",
            &connections.to_string(),
            "-d",
            &format!("{}s", time.as_secs().max(1)),
            "--latency",
        ])
        .args(options)
        .arg(format!("http://127.0.0.1:{port}/{page}"))
        .output()
        .expect("run wrk");
    let text = String::from_utf8_lossy(&output.stdout);
    parse(&text).unwrap_or_else(|| panic!("wrk: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

fn parse(text: &str) -> Option<Outcome> {
    let after = |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name));
    let requests = text.lines().find_map(|line| line.trim().split_once(" requests in "))?.0.parse().ok()?;
    Some(Outcome {
        rate: after("Requests/sec:")?.trim().parse().ok()?,
        p50: milliseconds(after("50%")?)?,
        p99: milliseconds(after("99%")?)?,
        requests,
    })
}

/// `812.00us`, `1.02ms` or `1.50s`.
fn milliseconds(text: &str) -> Option<f64> {
    let text = text.trim();
    for (unit, factor) in [("us", 0.001), ("ms", 1.0), ("s", 1000.0)] {
        if let Some(number) = text.strip_suffix(unit) {
            return number.parse::<f64>().ok().map(|number| number * factor);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn reads_what_wrk_prints() {
        let text = "  Latency Distribution\n     50%  812.00us\n     75%    1.1ms\n     90%    2.00ms\n     99%    5.34ms\n  \
                    123456 requests in 5.00s, 99.00MB read\nRequests/sec:  24691.20\nTransfer/sec:     19.80MB\n";
        let outcome = parse(text).unwrap();
        assert_eq!((outcome.requests, outcome.rate), (123_456, 24_691.2));
        assert!((outcome.p50 - 0.812).abs() < 1e-9 && (outcome.p99 - 5.34).abs() < 1e-9);
    }
}
