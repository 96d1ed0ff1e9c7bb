//! The `brolga` executable.

use coordinator::process_name;

fn main() {
    // Init must be single-threaded and must not print usage: it is looked for before anything else.
    if std::env::args_os().nth(1).is_some_and(|first| first == coordinator::container::INIT_COMMAND) {
        process_name::set(process_name::INIT);
        std::process::exit(coordinator::container::init_main());
    }
    if std::env::args_os().nth(1).is_some_and(|first| first == coordinator::container::criu::CRIU_COMMAND) {
        process_name::set(process_name::CRIU);
        let arguments: Vec<_> = std::env::args_os().skip(2).collect();
        std::process::exit(coordinator::container::criu::main(&arguments));
    }
    std::process::exit(coordinator::cli::main());
}
