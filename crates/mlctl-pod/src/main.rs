//! `mlctl-exec` as a program of its own.

fn main() -> std::process::ExitCode {
    mlctl_pod::main(std::env::args_os().skip(1))
}
