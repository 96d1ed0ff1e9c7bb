//! A replay under gdb: attached before the server's first instruction, and told which signals are Brolga's own.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use dmt::bounds::ARENA_ADDRESS;
use dmt::context::{Context, Kept, TABLE};
use dmt::control::Control;
use dmt::process::table::FIRST_PROCESS;

use super::ReplayError;
use super::maps::processes;
use crate::container::SERVER_PID;

/// How long gdb has to attach itself.
const ATTACH_PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks whether it has.
const LOOK: Duration = Duration::from_millis(20);

/// Commands for gdb: system calls that the filter catches, trapped instructions and preemptions are signals of Brolga's.
fn commands() -> String {
    let tick = ARENA_ADDRESS + std::mem::offset_of!(Control, tick);
    let applied = ARENA_ADDRESS + std::mem::offset_of!(Control, applied);
    format!(
        "handle SIGSYS SIGSEGV SIG64 nostop noprint pass\n\
         define tick\n\
         with language c -- printf \"logical time %lu, entry %lu\\n\", *(unsigned long *){tick:#x}, *(unsigned long *){applied:#x} - 1\n\
         end\n\
         document tick\n\
         Prints the logical time and the entry of the replay.\n\
         end\n\
         {}",
        parked()
    )
}

/// gdb knows the thread that runs; the command `parked` shows the others, whose registers it takes from their stacks.
fn parked() -> String {
    let turn = ARENA_ADDRESS + std::mem::offset_of!(Control, turn);
    let (stack, base) = (std::mem::offset_of!(Context, stack), std::mem::offset_of!(Context, base));
    let registers: String = [
        ("r15", std::mem::offset_of!(Kept, r15)),
        ("r14", std::mem::offset_of!(Kept, r14)),
        ("r13", std::mem::offset_of!(Kept, r13)),
        ("r12", std::mem::offset_of!(Kept, r12)),
        ("rbx", std::mem::offset_of!(Kept, rbx)),
        ("rbp", std::mem::offset_of!(Kept, rbp)),
        ("rip", std::mem::offset_of!(Kept, rip)),
    ]
    .iter()
    .map(|(name, offset)| format!("'{name}': {offset}, "))
    .collect();
    format!(
        "python\n\
class Parked(gdb.Command):\n    \
    \"\"\"Prints the stacks of the server's threads that do not run: one thread of the kernel carries all of a process.\"\"\"\n    \
    def __init__(self):\n        \
        super().__init__('parked', gdb.COMMAND_STACK)\n    \
    def invoke(self, argument, from_tty):\n        \
        memory = gdb.selected_inferior()\n        \
        word = lambda at, size: int.from_bytes(memory.read_memory(at, size).tobytes(), 'little')\n        \
        registers = {{{registers}}}\n        \
        own = {{name: int(gdb.parse_and_eval('(long)$' + name)) for name in [*registers, 'rsp', 'fs_base']}}\n        \
        def show(tid, stack, base):\n            \
            gdb.write('thread %d\\n' % tid)\n            \
            for name, offset in registers.items():\n                \
                gdb.execute('set var $%s = %d' % (name, word(stack + offset, 8)))\n            \
            gdb.execute('set var $rsp = %d' % (stack + {size}))\n            \
            gdb.execute('set var $fs_base = %d' % base)\n            \
            gdb.execute('backtrace')\n        \
        try:\n            \
            for number in range(1, {count} + 1):\n                \
                slot = {first} + (number - 1) * {stride}\n                \
                stack, base = word(slot + {stack}, 8), word(slot + {base}, 8)\n                \
                is_live = word(slot + {state}, 1) in (1, 2) and word(slot + {process}, 2) == {FIRST_PROCESS}\n                \
                if is_live and stack and number != word({turn}, 4):\n                    \
                    show(word(slot + {tid}, 4), stack, base)\n        \
        finally:\n            \
            for name, value in own.items():\n                \
                gdb.execute('set var $%s = %d' % (name, value))\n\
Parked()\n\
end\n",
        size = size_of::<Kept>(),
        count = TABLE.count,
        first = TABLE.first,
        stride = TABLE.stride,
        stack = TABLE.context + stack,
        base = TABLE.context + base,
        state = TABLE.state,
        process = TABLE.process,
        tid = TABLE.tid,
    )
}

/// Starts gdb on the server in the container around `init`; returns when it has attached itself.
pub fn attach(init: i32, scratch: &Path, arguments: &[OsString]) -> Result<Child, ReplayError> {
    let server = processes(init).into_iter().find(|&(_, inside)| inside == SERVER_PID);
    let Some((pid, _)) = server else {
        return Err(ReplayError::Refused("the server has ended before gdb could attach itself".to_owned()));
    };
    let file = scratch.join("gdb-commands");
    fs::write(&file, commands()).map_err(ReplayError::system("write gdb's commands"))?;
    let mut command = Command::new("gdb");
    command.arg("-q").arg("-p").arg(pid.to_string()).arg("-x").arg(&file).args(arguments);
    let mut gdb = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            ReplayError::Refused("gdb is not installed (`apt install gdb`)".to_owned())
        }
        _ => ReplayError::system("start gdb")(error),
    })?;
    // Ctrl-C is gdb's.
    // SAFETY: ignoring a signal needs no handler.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
    let end = Instant::now() + ATTACH_PATIENCE;
    while !is_traced(pid) {
        if Instant::now() > end || gdb.try_wait().map_err(ReplayError::system("wait for gdb"))?.is_some() {
            let _ = gdb.kill();
            let _ = gdb.wait();
            return Err(ReplayError::Refused(
                "gdb did not attach itself; it needs the right to trace processes (CAP_SYS_PTRACE, or \
                 kernel.yama.ptrace_scope=0)"
                    .to_owned(),
            ));
        }
        std::thread::sleep(LOOK);
    }
    Ok(gdb)
}

fn is_traced(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_some_and(|pid| pid.trim() != "0")
}
