//! Runs the real `h2load`, a load generator for HTTP/2, and reads its report.

use std::process::{Command, Stdio};

/// Seconds that a run may take.
const LIMIT_SECONDS: &str = "60";
/// Connections, and requests under way on each.
const CLIENTS: u32 = 8;
const STREAMS: u32 = 10;

/// Asks for `path` at the TLS port `port` of this machine; how many requests were answered by 2xx. The error is its report.
pub fn run(port: u16, path: &str, requests: u32) -> Result<u32, String> {
    let output = Command::new("timeout")
        .args(["--signal=KILL", LIMIT_SECONDS, "h2load", "-n", &requests.to_string()])
        .args(["-c", &CLIENTS.to_string(), "-m", &STREAMS.to_string()])
        .arg(format!("https://127.0.0.1:{port}{path}"))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run h2load: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    succeeded(&text).ok_or_else(|| format!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Of a report on HTTP/2.
fn succeeded(text: &str) -> Option<u32> {
    text.lines().find(|line| *line == "Application protocol: h2")?;
    let codes = text.lines().find_map(|line| line.strip_prefix("status codes: "))?;
    codes.split(',').find_map(|code| code.trim().strip_suffix(" 2xx")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::succeeded;

    #[test]
    fn reads_a_report() {
        let text = "Application protocol: h2\nrequests: 10 total, 10 started, 10 done, 10 succeeded, 0 failed\n\
                    status codes: 9 2xx, 0 3xx, 1 4xx, 0 5xx\n";
        assert_eq!(succeeded(text), Some(9));
        assert_eq!(succeeded(&text.replace(": h2", ": http/1.1")), None);
    }
}
