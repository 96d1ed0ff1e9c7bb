use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use super::{Line, calls, install};

/// How a child that has the filter ended: its wait status, and what it wrote.
fn in_child(work: impl FnOnce() -> bool) -> (i32, String) {
    let mut ends = [0; 2];
    // SAFETY: a valid array; the child uses nothing that another thread may hold locked but the allocator, which libc's fork looks after.
    let child = unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
        libc::fork()
    };
    // SAFETY: the pipe's ends are ours.
    let [read, write] = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    if child == 0 {
        // SAFETY: plain system calls.
        unsafe {
            libc::dup2(write.as_raw_fd(), 2);
            let done = install().is_ok() && work();
            libc::_exit(if done { 0 } else { 1 })
        }
    }
    assert!(child > 0, "fork");
    drop(write);
    let (mut text, mut status) = (String::new(), 0);
    File::from(read).read_to_string(&mut text).unwrap();
    // SAFETY: our own child.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    (status, text)
}

#[test]
fn what_is_not_on_the_list_ends_the_process_with_a_line() {
    let forbidden = [
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_fork,
        libc::SYS_vfork,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_move_mount,
        libc::SYS_fsopen,
        libc::SYS_open_tree,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_ptrace,
        libc::SYS_process_vm_writev,
        libc::SYS_kill,
        libc::SYS_pidfd_open,
        libc::SYS_pidfd_getfd,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_kexec_load,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_io_uring_setup,
        libc::SYS_userfaultfd,
        libc::SYS_memfd_create,
        libc::SYS_setuid,
        libc::SYS_capset,
        libc::SYS_reboot,
        libc::SYS_swapon,
        libc::SYS_settimeofday,
        libc::SYS_iopl,
        libc::SYS_open_by_handle_at,
        libc::SYS_personality,
    ];
    for number in forbidden {
        // SAFETY: without arguments none of these does anything where it is not refused.
        let (status, text) = in_child(|| unsafe { libc::syscall(number, 0, 0, 0, 0, 0, 0) } == -1);
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSYS, "{number}: {status:x}");
        assert!(
            text.contains(&format!("system call {number}, which its filter refuses")),
            "{number}: {text:?}"
        );
    }
}

#[test]
fn arguments_that_are_not_meant_are_refused() {
    let page = 4096;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let executable = i64::from(libc::PROT_EXEC | libc::PROT_READ);
    let raw: [(i64, [i64; 6]); 7] = [
        (libc::SYS_mmap, [0, page, executable, flags.into(), -1, 0]),
        (libc::SYS_mprotect, [0, page, executable, 0, 0, 0]),
        (libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0, 0, 0, 0]),
        (libc::SYS_socket, [libc::AF_PACKET.into(), libc::SOCK_RAW.into(), 0, 0, 0, 0]),
        (libc::SYS_prctl, [libc::PR_SET_SECCOMP.into(), 0, 0, 0, 0, 0]),
        (libc::SYS_ioctl, [0, 0x5412, 0, 0, 0, 0]),
        (libc::SYS_tgkill, [1, 1, 0, 0, 0, 0]),
    ];
    for (number, [a, b, c, d, e, f]) in raw {
        // SAFETY: refused, or it fails; it would change nothing but the child itself.
        let (status, text) = in_child(|| unsafe { libc::syscall(number, a, b, c, d, e, f) } == -1);
        assert!(
            libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSYS,
            "{number}: {status:x} {text}"
        );
    }
}

#[test]
fn threads_files_and_sockets_work_and_newer_calls_are_not_there() {
    let (status, text) = in_child(|| {
        let thread = std::thread::Builder::new().name("one".to_owned()).spawn(|| 7);
        let number = thread.ok().and_then(|thread| thread.join().ok());
        let path = std::env::temp_dir().join(format!("brolga-filter-{}", std::process::id()));
        let file =
            std::fs::write(&path, b"x").and_then(|()| std::fs::copy(&path, path.with_extension("copy")));
        let removed =
            std::fs::remove_file(&path).and_then(|()| std::fs::remove_file(path.with_extension("copy")));
        let socket =
            std::net::TcpListener::bind(("127.0.0.1", 0)).and_then(|socket| socket.set_nonblocking(true));
        // SAFETY: a call that no kernel has.
        let newer = unsafe { libc::syscall(100_000) } == -1;
        let absent = newer && std::io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS);
        number == Some(7) && file.is_ok() && removed.is_ok() && socket.is_ok() && absent
    });
    assert_eq!(status, 0, "{text}");
}

#[test]
fn numbers_are_written_as_they_are() {
    for number in [0, 7, 10, 59, 100_000, u64::MAX] {
        let mut line = Line::default();
        line.add_number(number);
        assert_eq!(&line.bytes[..line.len], number.to_string().as_bytes());
    }
}

/// `BROLGA_BLESS=1` rewrites the list.
#[test]
fn the_golden_list_in_the_documentation_is_that_of_the_filter() {
    const FROM: &str = "<!-- allowed calls -->\n";
    const TO: &str = "<!-- end of allowed calls -->\n";
    let mut names: Vec<String> = calls()
        .map(|call| match call.text {
            "" => call.name.to_owned(),
            text => format!("{} ({text})", call.name),
        })
        .collect();
    names.sort();
    let mut list = String::from("\n   ");
    let mut width = 3;
    for (at, name) in names.iter().enumerate() {
        let comma = if at + 1 < names.len() { "," } else { "" };
        if width + name.len() + 2 > 130 {
            list.push_str("\n   ");
            width = 3;
        }
        list.push_str(&format!(" {name}{comma}"));
        width += name.len() + 2;
    }
    list.push_str("\n\n");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/security.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(FROM).expect("the list's beginning");
    let (found, after) = rest.split_once(TO).expect("the list's end");
    if std::env::var_os("BROLGA_BLESS").is_some() && found != list {
        std::fs::write(&path, format!("{before}{FROM}{list}{TO}{after}")).unwrap();
        return;
    }
    assert!(found == list, "the list in docs/security.md is out of date: run this test with BROLGA_BLESS=1");
}
