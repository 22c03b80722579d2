//! The command line: what was typed, the command that was meant, and the exit code that says how it went.
//!
//! Exit codes: 0 fine, 1 the work found problems, 2 usage or settings, 3 environment (port, disk, lock).

mod args;
mod ask;
mod check;
mod demo;
mod notify;
mod operate;
mod pictures;
mod serve;
mod simulate;

use crate::appliance::StartError;
use crate::config::{self, ConfigError};
use crate::ground::clock::SharedClock;
use crate::ground::language::Language;
use crate::ground::logging::{self, LineStyle};
use args::{Command, UsageError};
use std::io::Write;
use std::process::ExitCode;

/// How a command ended, other than well.
#[derive(Debug)]
enum Ended {
    /// The work found problems; they have been told.
    WithProblems,
    /// The command line or the settings are wrong.
    Misused(String),
    /// Port, disk, lock, network.
    Environment(anyhow::Error),
}

impl From<ConfigError> for Ended {
    fn from(error: ConfigError) -> Ended {
        Ended::Misused(error.to_string())
    }
}

impl From<StartError> for Ended {
    fn from(error: StartError) -> Ended {
        Ended::Environment(error.0)
    }
}

impl From<anyhow::Error> for Ended {
    fn from(error: anyhow::Error) -> Ended {
        Ended::Environment(error)
    }
}

/// Runs the command of the process's arguments.
pub fn main() -> ExitCode {
    let command = match args::parse(lexopt::Parser::from_env()) {
        Ok(command) => command,
        Err(UsageError(text)) => {
            say_error(&format!("{text}\nTry: tubox --help"));
            return ExitCode::from(2);
        }
    };
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Ended::WithProblems) => ExitCode::from(1),
        Err(Ended::Misused(text)) => {
            say_error(&text);
            ExitCode::from(2)
        }
        Err(Ended::Environment(error)) => {
            say_error(&format!("{error:#}"));
            ExitCode::from(3)
        }
    }
}

fn run(command: Command) -> Result<(), Ended> {
    match command {
        Command::Help(topic) => {
            say(args::help(topic));
            Ok(())
        }
        Command::Version => {
            say(concat!("tubox ", env!("CARGO_PKG_VERSION")));
            Ok(())
        }
        Command::Serve(options) => serve::run(&options),
        Command::Check(options) => check::run(&options),
        Command::Demo(options) => demo::run(&options),
        Command::Simulate(options) => simulate::run(&options),
        Command::Status(options) => operate::status(&options),
        Command::Retry(options) => operate::retry(&options),
        Command::AdminUrl(config) => operate::admin_url(config.as_deref()),
        Command::Verify(options) => pictures::verify(&options),
        Command::Export(options) => pictures::export(&options),
    }
}

/// Turns the log on: plain in the systemd journal, with times elsewhere.
fn start_log(clock: &SharedClock) {
    let environment = config::process_environment();
    let in_journal = config::variable(&environment, "JOURNAL_STREAM").is_some();
    let style = if in_journal { LineStyle::Journal } else { LineStyle::Terminal };
    logging::start(style, log::LevelFilter::Info, clock.clone());
}

/// The language of the person at the terminal, by the locale (POSIX: the first of these that is set).
fn speaks(environment: &config::Environment) -> Language {
    let locale = ["LC_ALL", "LC_MESSAGES", "LANG"]
        .iter()
        .find_map(|name| config::variable(environment, name).filter(|value| !value.is_empty()));
    if locale.is_some_and(|locale| locale.starts_with("zh")) { Language::Chinese } else { Language::English }
}

/// A line for people or scripts. A reader that has left is no reason to fail.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

fn say_error(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "tubox: {text}");
}

/// Calls `stop` on SIGINT, SIGTERM and SIGHUP; a second signal ends the process at once.
fn on_signal(stop: crate::ground::stop::Stop) -> Result<(), Ended> {
    let handle = move || {
        if stop.asked() {
            // Nothing that was promised is lost by this: it is what a power cut does.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
        stop.ask();
    };
    ctrlc::set_handler(handle)
        .map_err(|error| Ended::Environment(anyhow::anyhow!("could not listen to signals: {error}")))
}
