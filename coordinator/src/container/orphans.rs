//! Processes of the server whose parent has ended. Init is their parent then, and CRIU, which takes the tree below one process, would leave
//! them out without a word: what came back from such a checkpoint would lack a process that dmt knows.

use std::fs;
use std::path::Path;

use super::SERVER_PID;

/// Init's id in the container.
const INIT_PID: i32 = 1;

/// Why CRIU cannot take the server's processes as they are now, if it cannot. To be asked in the container while the server rests.
pub(super) fn refusal(processes: &Path) -> Option<String> {
    let entries = fs::read_dir(processes).ok()?;
    let stats = entries.flatten().filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let (pid, name) = stats.filter_map(|stat| orphan(&stat)).min()?;
    Some(format!(
        "process {pid} ({name}) of the server is no child of its first process any more, as daemons are, and CRIU cannot take it with \
         the others: let the server keep it as a child, or start it apart"
    ))
}

/// Id and name of a living process, from its `/proc/PID/stat`, if it is the server's and has lost its parent.
fn orphan(stat: &str) -> Option<(i32, String)> {
    let (head, tail) = stat.rsplit_once(')')?;
    let (pid, name) = head.split_once(" (")?;
    let pid: i32 = pid.parse().ok()?;
    let mut fields = tail.split_ascii_whitespace();
    let (state, parent) = (fields.next()?, fields.next()?.parse::<i32>().ok()?);
    let lives = !matches!(state, "Z" | "X");
    (lives && parent == INIT_PID && pid > SERVER_PID).then(|| (pid, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::orphan;

    #[test]
    fn only_living_processes_of_the_server_without_their_parent_are_orphans() {
        assert_eq!(orphan("1038 (epmd) S 1 1038 1038 0\n"), Some((1038, "epmd".to_owned())));
        assert_eq!(orphan("1038 (a) b) S 1 1038\n"), Some((1038, "a) b".to_owned())));
        assert_eq!(orphan("1038 (epmd) Z 1 1038 1038 0\n"), None, "it has ended");
        assert_eq!(orphan("1039 (worker) S 1000 1000 1000 0\n"), None, "it has its parent");
        assert_eq!(
            orphan("1000 (server) S 1 1000 1000 0\n"),
            None,
            "the server's first process is init's child"
        );
        assert_eq!(orphan("301 (brolga) S 1 1 1 0\n"), None, "our own");
    }
}
