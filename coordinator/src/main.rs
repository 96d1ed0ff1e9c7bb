//! The `brolga` executable.

fn main() {
    // Init must be single-threaded and must not print usage: it is looked for before anything else.
    if std::env::args_os().nth(1).is_some_and(|first| first == coordinator::container::INIT_COMMAND) {
        std::process::exit(coordinator::container::init_main());
    }
    std::process::exit(coordinator::cli::main());
}
