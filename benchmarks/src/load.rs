//! A load: its name in the tables, and how it is run against a port.

use std::fmt;

use brolga_tests::stats::Times;

/// What a load measured.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Requests a second.
    pub rate: f64,
    /// Median latency, milliseconds.
    pub p50: f64,
    /// 99th percentile of the latency, milliseconds.
    pub p99: f64,
    /// Requests made.
    pub requests: u64,
}

impl Outcome {
    /// From the time that each request took, and the seconds that all took together.
    pub fn of(times: &Times, seconds: f64) -> Self {
        let milliseconds = |percent| times.percentile(percent).as_secs_f64() * 1000.0;
        Self {
            rate: times.count() as f64 / seconds,
            p50: milliseconds(50),
            p99: milliseconds(99),
            requests: times.count() as u64,
        }
    }
}

/// See the module.
pub struct Load {
    /// Its row in the tables.
    pub name: String,
    run: Box<dyn Fn(u16) -> Outcome>,
}

impl Load {
    /// A load that `run` makes on a port of this machine.
    pub fn new(name: impl Into<String>, run: impl Fn(u16) -> Outcome + 'static) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }

    /// Runs it.
    pub fn run(&self, port: u16) -> Outcome {
        (self.run)(port)
    }
}

impl fmt::Debug for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Load").field(&self.name).finish()
    }
}
