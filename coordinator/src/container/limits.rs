//! The server's limits (`getrlimit`). A kernel takes some of them from the machine's memory, a login or a unit file sets others, and
//! servers read them: they are those that the launcher had when the cluster was made, on each machine and at each start.

use std::collections::BTreeMap;
use std::str::FromStr;

use nix::errno::Errno;
use nix::libc::rlimit;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

/// Those that are kept, by the names that `prlimit` has for them. Brolga itself fixes the number of open files and that of a core's
/// bytes; limits of processor time are the kernel's own, and nobody sets them for a server.
const KEPT: [(&str, Resource); 12] = [
    ("as", Resource::RLIMIT_AS),
    ("data", Resource::RLIMIT_DATA),
    ("fsize", Resource::RLIMIT_FSIZE),
    ("locks", Resource::RLIMIT_LOCKS),
    ("memlock", Resource::RLIMIT_MEMLOCK),
    ("msgqueue", Resource::RLIMIT_MSGQUEUE),
    ("nice", Resource::RLIMIT_NICE),
    ("nproc", Resource::RLIMIT_NPROC),
    ("rss", Resource::RLIMIT_RSS),
    ("rtprio", Resource::RLIMIT_RTPRIO),
    ("sigpending", Resource::RLIMIT_SIGPENDING),
    ("stack", Resource::RLIMIT_STACK),
];
const NONE: &str = "unlimited";
/// Those that a kernel makes out of the machine's memory are at most this: what each machine of 4 GB has. Brolga's own bounds of
/// processes, threads and signals are far below.
const OF_MEMORY: [(&str, u64); 2] = [("nproc", 16384), ("sigpending", 16384)];

/// Limits by name, each `SOFT:HARD` in the unit that `setrlimit` has for it; those that are not named stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Limits(BTreeMap<String, String>);

impl Limits {
    /// Those of this process.
    pub fn of_this_process() -> Self {
        let word =
            |limit: u64| if limit == libc::RLIM_INFINITY { NONE.to_owned() } else { limit.to_string() };
        let of = |(name, resource): (&str, Resource)| {
            let (soft, hard) = getrlimit(resource).ok()?;
            let most = OF_MEMORY.iter().find(|(known, _)| *known == name).map_or(u64::MAX, |(_, most)| *most);
            Some((name.to_owned(), format!("{}:{}", word(soft.min(most)), word(hard.min(most)))))
        };
        Self(KEPT.into_iter().filter_map(of).collect())
    }

    /// True if none is named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As `setrlimit` takes them; from now on this process may set them.
    ///
    /// # Errors
    /// Says which is none, or is more than this process may set.
    pub fn prepare(&self) -> Result<Vec<(Resource, rlimit)>, String> {
        let prepare = |(name, value): (&String, &String)| {
            let (resource, limit) = decode(name, value)?;
            raise(resource, limit.rlim_max).map_err(|(error, most)| {
                format!(
                    "cannot raise the limit `{name}` to {value}, with which the cluster was made: {error}; here it is {most} at \
                     the most: start brolga where it is higher (`prlimit --{name}={value}`)"
                )
            })?;
            Ok((resource, limit))
        };
        self.0.iter().map(prepare).collect()
    }
}

/// Raises the hard limit if it is lower; else says why not, and how high it is.
fn raise(resource: Resource, hard: u64) -> Result<(), (Errno, u64)> {
    let (soft, most) = getrlimit(resource).map_err(|error| (error, 0))?;
    if most >= hard { Ok(()) } else { setrlimit(resource, soft, hard).map_err(|error| (error, most)) }
}

fn decode(name: &str, value: &str) -> Result<(Resource, rlimit), String> {
    let resource = KEPT.iter().find(|(known, _)| *known == name).map(|(_, resource)| *resource);
    let resource = resource.ok_or_else(|| format!("there is no limit `{name}`"))?;
    let number = |word: &str| if word == NONE { Some(libc::RLIM_INFINITY) } else { u64::from_str(word).ok() };
    let limits = value.split_once(':').and_then(|(soft, hard)| Some((number(soft)?, number(hard)?)));
    match limits {
        Some((rlim_cur, rlim_max)) if rlim_cur <= rlim_max => Ok((resource, rlimit { rlim_cur, rlim_max })),
        _ => Err(format!("`{value}` is no limit `{name}`: two numbers or `{NONE}`, SOFT:HARD")),
    }
}

#[cfg(test)]
mod tests {
    use super::Limits;
    use nix::sys::resource::{Resource, getrlimit};

    #[test]
    fn those_of_a_process_come_back() {
        let limits = Limits::of_this_process();
        let prepared = limits.prepare().unwrap();
        assert_eq!(prepared.len(), super::KEPT.len());
        for (resource, limit) in prepared {
            let (soft, hard) = getrlimit(resource).unwrap();
            let least = match resource {
                Resource::RLIMIT_NPROC | Resource::RLIMIT_SIGPENDING => 16384,
                _ => u64::MAX,
            };
            assert_eq!((soft.min(least), hard.min(least)), (limit.rlim_cur, limit.rlim_max));
        }
    }

    #[test]
    fn nonsense_is_named() {
        let told = |name: &str, value: &str| {
            let text = format!("{{\"{name}\": \"{value}\"}}");
            serde_json::from_str::<Limits>(&text).unwrap().prepare()
        };
        let (resource, limit) = told("nproc", "5:6").unwrap()[0];
        assert!(matches!(resource, Resource::RLIMIT_NPROC));
        assert_eq!((limit.rlim_cur, limit.rlim_max), (5, 6));
        assert!(told("procs", "5:6").unwrap_err().contains("no limit `procs`"));
        for value in ["5", "6:5", "unlimited:5", "-1:5", ":", "a:b"] {
            assert!(told("nproc", value).unwrap_err().contains("is no limit `nproc`"), "{value}");
        }
    }
}
