//! Runs the real `redis-benchmark` and reads its table.

use std::process::{Command, Stdio};

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// `SET` or `GET`.
    pub command: &'static str,
    /// Connections.
    pub clients: u32,
    /// Requests that a connection sends before it waits.
    pub pipeline: u32,
    /// Requests in all.
    pub requests: u64,
}

/// What came out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Requests a second.
    pub rate: f64,
    /// Median latency, milliseconds.
    pub p50: f64,
    /// 99th percentile of the latency, milliseconds.
    pub p99: f64,
}

/// redis-benchmark spins for ever if its first connection is refused or reset: then it is killed after this, seconds.
const LIMIT_SECONDS: &str = "60";

/// Runs one load to its end; the error is what the program said.
pub fn run(port: u16, load: Load) -> Result<Outcome, String> {
    let command = command(port, load);
    let output = Command::new("timeout")
        .args(["--signal=KILL", LIMIT_SECONDS])
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run redis-benchmark: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse(&text).ok_or_else(|| format!("redis-benchmark: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Its whole list, with these options; the name of each test that it ran, and its requests a second.
pub fn run_all(port: u16, options: &[&str]) -> Result<Vec<(String, f64)>, String> {
    let output = Command::new("timeout")
        .args(["--signal=KILL", LIMIT_SECONDS, "redis-benchmark", "--csv", "-p", &port.to_string()])
        .args(options)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run redis-benchmark: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if !output.status.success() || !output.stderr.is_empty() {
        return Err(format!("redis-benchmark: {}{}", text(&output.stdout), text(&output.stderr)));
    }
    Ok(text(&output.stdout).lines().skip(1).filter_map(row).collect())
}

/// `"LPUSH (needed to benchmark LRANGE)","62500.00",...`
fn row(line: &str) -> Option<(String, f64)> {
    let mut fields = line.split("\",\"");
    let name = fields.next()?.trim_start_matches('"').to_owned();
    Some((name, fields.next()?.parse().ok()?))
}

/// The command line of a load.
pub fn command(port: u16, load: Load) -> Command {
    let mut command = Command::new("redis-benchmark");
    command.stdin(Stdio::null()).args(["--csv", "-h", "127.0.0.1", "-r", "100000", "-d", "16"]);
    command.args(["-p", &port.to_string(), "-t", &load.command.to_lowercase()]);
    command.args([
        "-c",
        &load.clients.to_string(),
        "-P",
        &load.pipeline.to_string(),
        "-n",
        &load.requests.to_string(),
    ]);
    command
}

/// The last row of the table: `"SET","rps","avg","min","p50","p95","p99","max"`.
fn parse(text: &str) -> Option<Outcome> {
    let row = text.lines().rfind(|line| line.starts_with("\"SET\"") || line.starts_with("\"GET\""))?;
    let field = |index: usize| row.split(',').nth(index)?.trim_matches('"').parse().ok();
    Some(Outcome { rate: field(1)?, p50: field(4)?, p99: field(6)? })
}

#[cfg(test)]
mod tests {
    use super::{Outcome, parse, row};

    #[test]
    fn reads_a_table() {
        let text = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\"p95_latency_ms\",\
                    \"p99_latency_ms\",\"max_latency_ms\"\n\"SET\",\"107526.88\",\"0.288\",\"0.072\",\"0.287\",\
                    \"0.407\",\"0.535\",\"1.415\"\n";
        assert_eq!(parse(text), Some(Outcome { rate: 107_526.88, p50: 0.287, p99: 0.535 }));
        let first = text.lines().last().and_then(row);
        assert_eq!(first, Some(("SET".to_owned(), 107_526.88)));
        assert_eq!(row("Summary:"), None);
    }
}
