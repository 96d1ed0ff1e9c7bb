//! The server's limits (`getrlimit`). A kernel takes some of them from the machine's memory, a login or a unit file sets others, and
//! servers read them: they are those that the launcher had when the cluster was made, on each machine and at each start.

use std::collections::BTreeMap;
use std::str::FromStr;

use nix::libc::rlimit;
use nix::sys::resource::{Resource, getrlimit};
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
            Some((name.to_owned(), format!("{}:{}", word(soft), word(hard))))
        };
        Self(KEPT.into_iter().filter_map(of).collect())
    }

    /// True if none is named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As `setrlimit` takes them.
    ///
    /// # Errors
    /// Says which is none.
    pub fn decode(&self) -> Result<Vec<(Resource, rlimit)>, String> {
        self.0.iter().map(|(name, value)| decode(name, value)).collect()
    }
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
        let decoded = limits.decode().unwrap();
        assert_eq!(decoded.len(), super::KEPT.len());
        for (resource, limit) in decoded {
            assert_eq!(getrlimit(resource).unwrap(), (limit.rlim_cur, limit.rlim_max));
        }
    }

    #[test]
    fn nonsense_is_named() {
        let told = |name: &str, value: &str| {
            let text = format!("{{\"{name}\": \"{value}\"}}");
            serde_json::from_str::<Limits>(&text).unwrap().decode().map_err(|why| why.to_string())
        };
        let (resource, limit) = told("nproc", "5:unlimited").unwrap()[0];
        assert!(matches!(resource, Resource::RLIMIT_NPROC));
        assert_eq!((limit.rlim_cur, limit.rlim_max), (5, libc::RLIM_INFINITY));
        assert!(told("procs", "5:6").unwrap_err().contains("no limit `procs`"));
        for value in ["5", "6:5", "unlimited:5", "-1:5", ":", "a:b"] {
            assert!(told("nproc", value).unwrap_err().contains("is no limit `nproc`"), "{value}");
        }
    }
}
