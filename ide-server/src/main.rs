//! The `mirrord-ide` command; everything is in the library, where tests reach it.

fn main() -> std::process::ExitCode {
    ide_server::cli::main()
}
