//! What was typed. Parsing touches nothing; every command has its help here.

use crate::ground::clock;
use lexopt::prelude::{Long, Short, Value};
use std::net::SocketAddr;
use std::path::PathBuf;

pub(super) const HELP: &str = "\
tubox (图盒): collects pictures through WeChat and brings every one home to its own disk

Usage: tubox COMMAND [OPTIONS]

  demo      try the whole box against a simulated WeChat: no account, no settings
  serve     run the box
  check     look at everything that can be wrong before it goes wrong
  status    ask the running box: waiting, saved, failed, and what to mend
  retry     put failed pictures back into the queue
  admin-url print the address of the operator's page, its key included
  export    copy pictures to another folder or a stick, verified
  verify    re-hash all pictures and report what is missing, changed or unlisted
  simulate  run the WeChat simulator by itself

  tubox COMMAND --help tells more.  tubox --version prints the version.

Exit codes: 0 fine, 1 the work found problems, 2 usage or settings, 3 environment (port, disk, lock)";

const DEMO_HELP: &str = "\
Usage: tubox demo [--listen ADDR] [--data-dir DIR]

Runs the whole box against a simulated WeChat on this machine, sends a first batch of sample
pictures through it, and prints the address of the page. Open it in any browser; Ctrl-C stops.
A second demo on the same folder goes on where the first ended.

  --listen ADDR    where the page is (default 127.0.0.1:8080; port 0 takes any free port)
  --data-dir DIR   where everything is kept (default ./tubox-demo)
  --samples N      sample pictures to send at the start (default 8)
  --once           stop as soon as the samples are home";

const SERVE_HELP: &str = "\
Usage: tubox serve [--config FILE]

Runs the box. Settings come from FILE (default /etc/tubox/tubox.toml); each key can also be
given as an environment variable: TUBOX_ + section + key, such as TUBOX_WECHAT_APP_ID.";

const CHECK_HELP: &str = "\
Usage: tubox check [--config FILE] [--json]

Looks at settings, secret, port, folders, disk, clock, the way to WeChat, the account and the public
address, and says how to mend what is wrong. Works before and beside a running box. Exit code 1 when
there is a fault, 2 when the settings cannot be used.

  --config FILE  the settings (default /etc/tubox/tubox.toml)
  --json         one JSON object instead of text";

const STATUS_HELP: &str = "\
Usage: tubox status [--config FILE] [--json] [--watch]

Asks the running box. Exit code 1 when something needs a person: a pause or failed pictures.

  --json    one JSON object instead of text
  --watch   ask again every two seconds, until Ctrl-C";

const RETRY_HELP: &str = "\
Usage: tubox retry ID… [--config FILE]
       tubox retry --all [--config FILE]

Puts failed pictures back into the queue, by their ids (tubox status lists them) or all of them.";

const ADMIN_URL_HELP: &str = "\
Usage: tubox admin-url [--config FILE]

Prints the address of the operator's page. Its part behind # is the key: treat it as a password.";

const EXPORT_HELP: &str = "\
Usage: tubox export [--from PICTURES_DIR] DEST [--since DATE] [--until DATE] [--team NAME] [--json]
       tubox export [--from PICTURES_DIR] --zip FILE.zip [the same]

Copies pictures to the folder DEST, such as a stick, or into one zip. Everything is read back from
there and compared with the manifest; run it again after an interruption, and it copies what is
missing. It says \"safe to pull\" only when that is true. Works beside a running box, and with --from
on a pulled card on any Linux computer, without box and settings.

  --from DIR     the pictures folder (default: that of the settings)
  --since DATE   first day, such as 2026-11-22
  --until DATE   last day
  --team NAME    only pictures of this team
  --zip          DEST is one zip file
  --config FILE  the settings to take the pictures folder from
  --json         one JSON object instead of text:
                 copied, already_there, bytes, problems (file, reason), safe_to_pull, destination

Exit codes: 0 safe to pull, 1 some pictures could not be copied, 2 wrong command line,
3 no room, stick pulled out, read-only, or the like";

const VERIFY_HELP: &str = "\
Usage: tubox verify [PICTURES_DIR] [--json]

Re-reads every picture that the manifests list and says whether the set is complete: missing,
changed, unlisted, half, unreadable, damaged (a manifest), contradicted (two lists differ).
Takes a pictures folder, a copy made by tubox export, or one day's folder. Exit code 1 when there
is anything to report.

  --config FILE  the settings to take the pictures folder from when none is named
  --json         one JSON object instead of text: good, bytes, findings (file, flaw), complete";

const SIMULATE_HELP: &str = "\
Usage: tubox simulate [--listen ADDR]

Runs the WeChat simulator by itself, on loopback only. It prints the settings that make a box
talk to it.

  --listen ADDR  where it listens (default 127.0.0.1:8081)";

/// A command with everything that was typed for it.
#[derive(Debug, PartialEq)]
pub(super) enum Command {
    Help(Topic),
    Version,
    Demo(DemoArgs),
    Serve(ServeArgs),
    Check(CheckArgs),
    Simulate(SimulateArgs),
    Status(StatusArgs),
    Retry(RetryArgs),
    AdminUrl(Option<PathBuf>),
    Verify(VerifyArgs),
    Export(ExportArgs),
}

/// What help is wanted on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Topic {
    All,
    Demo,
    Serve,
    Check,
    Status,
    Retry,
    AdminUrl,
    Export,
    Verify,
    Simulate,
}

#[derive(Debug, PartialEq)]
pub(super) struct DemoArgs {
    pub listen: SocketAddr,
    pub data_dir: PathBuf,
    pub samples: u32,
    pub once: bool,
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct ServeArgs {
    pub config: Option<PathBuf>,
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct CheckArgs {
    pub config: Option<PathBuf>,
    pub json: bool,
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct StatusArgs {
    pub config: Option<PathBuf>,
    pub json: bool,
    pub watch: bool,
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct RetryArgs {
    pub ids: Vec<String>,
    pub all: bool,
    pub config: Option<PathBuf>,
}

#[derive(Debug, PartialEq)]
pub(super) struct SimulateArgs {
    pub listen: SocketAddr,
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct VerifyArgs {
    pub pictures_dir: Option<PathBuf>,
    pub config: Option<PathBuf>,
    pub json: bool,
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct ExportArgs {
    pub from: Option<PathBuf>,
    pub destination: PathBuf,
    pub since: Option<String>,
    pub until: Option<String>,
    pub team: Option<String>,
    pub zip: bool,
    pub config: Option<PathBuf>,
    pub json: bool,
}

/// What is wrong with the command line.
#[derive(Debug)]
pub(super) struct UsageError(pub String);

impl From<lexopt::Error> for UsageError {
    fn from(error: lexopt::Error) -> UsageError {
        UsageError(error.to_string())
    }
}

/// The help on a topic.
pub(super) fn help(topic: Topic) -> &'static str {
    match topic {
        Topic::All => HELP,
        Topic::Demo => DEMO_HELP,
        Topic::Serve => SERVE_HELP,
        Topic::Check => CHECK_HELP,
        Topic::Status => STATUS_HELP,
        Topic::Retry => RETRY_HELP,
        Topic::AdminUrl => ADMIN_URL_HELP,
        Topic::Export => EXPORT_HELP,
        Topic::Verify => VERIFY_HELP,
        Topic::Simulate => SIMULATE_HELP,
    }
}

/// Reads the command line.
pub(super) fn parse(mut parser: lexopt::Parser) -> Result<Command, UsageError> {
    match parser.next()? {
        None | Some(Long("help") | Short('h')) => Ok(Command::Help(Topic::All)),
        Some(Long("version") | Short('V')) => Ok(Command::Version),
        Some(Value(name)) => match name.to_string_lossy().as_ref() {
            "demo" => parse_demo(parser),
            "serve" => parse_serve(parser),
            "check" => parse_check(parser),
            "status" => parse_status(parser),
            "retry" => parse_retry(parser),
            "admin-url" => parse_admin_url(parser),
            "export" => parse_export(parser),
            "verify" => parse_verify(parser),
            "simulate" => parse_simulate(parser),
            "help" => Ok(Command::Help(Topic::All)),
            other => Err(UsageError(format!("there is no command {other:?}"))),
        },
        Some(other) => Err(other.unexpected().into()),
    }
}

fn parse_demo(mut parser: lexopt::Parser) -> Result<Command, UsageError> {
    let mut args = DemoArgs {
        listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
        data_dir: PathBuf::from("tubox-demo"),
        samples: 8,
        once: false,
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") | Short('h') => return Ok(Command::Help(Topic::Demo)),
            Long("listen") => {
                args.listen = parse_value(&mut parser, "--listen", "an address such as 127.0.0.1:8080")?
            }
            Long("data-dir") => args.data_dir = parser.value()?.into(),
            Long("samples") => args.samples = parse_value(&mut parser, "--samples", "a number")?,
            Long("once") => args.once = true,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Demo(args))
}

fn parse_serve(mut parser: lexopt::Parser) -> Result<Command, UsageError> {
    let mut args = ServeArgs::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") | Short('h') => return Ok(Command::Help(Topic::Serve)),
            Long("config") => args.config = Some(parser.value()?.into()),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Serve(args))
}

fn parse_check(mut parser: lexopt::Parser) -> Result<Command, UsageError> {
    let mut args = CheckArgs::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") | Short('h') => return Ok(Command::Help(Topic::Check)),
            Long("config") => args.config = Some(parser.value()?.into()),
            Long("json") => args.json = true,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Check(args))
}

fn parse_status(mut parser: lexopt::Parser) -> Result<Command, UsageError> {
    let mut args = StatusArgs::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") | Short('h') => return Ok(Command::Help(Topic::Status)),
            Long("config") => args.config = Some(parser.value()?.into()),
            Long("json") => args.json = true,
            Long("watch") => args.watch = true,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Status(args))
}

fn parse_retry(mut parser: lexopt::Parser) -> Result<Command, UsageError> {
    let mut args = RetryArgs::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") | Short('h') => return Ok(Command::Help(Topic::Retry)),
            Long("config") => args.config = Some(parser.value()?.into()),
            Long("all") => args.all = true,
            Value(id) => args.ids.push(id.to_string_lossy().into_owned()),
            other => return Err(other.unexpected().into()),
        }
    }
    if args.all != args.ids.is_empty() {
        return Err(UsageError("retry needs ids or --all, not both".to_owned()));
    }
    Ok(Command::Retry(args))
}

fn parse_admin_url(mut parser: lexopt::Parser) -> Result<Command, UsageError> {
    let mut config = None;
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") | Short('h') => return Ok(Command::Help(Topic::AdminUrl)),
            Long("config") => config = Some(parser.value()?.into()),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::AdminUrl(config))
}

fn parse_simulate(mut parser: lexopt::Parser) -> Result<Command, UsageError> {
    let mut args = SimulateArgs { listen: SocketAddr::from(([127, 0, 0, 1], 8081)) };
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") | Short('h') => return Ok(Command::Help(Topic::Simulate)),
            Long("listen") => {
                args.listen = parse_value(&mut parser, "--listen", "an address such as 127.0.0.1:8081")?
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Simulate(args))
}

fn parse_verify(mut parser: lexopt::Parser) -> Result<Command, UsageError> {
    let mut args = VerifyArgs::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") | Short('h') => return Ok(Command::Help(Topic::Verify)),
            Long("config") => args.config = Some(parser.value()?.into()),
            Long("json") => args.json = true,
            Value(folder) if args.pictures_dir.is_none() => args.pictures_dir = Some(folder.into()),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Verify(args))
}

fn parse_export(mut parser: lexopt::Parser) -> Result<Command, UsageError> {
    let mut args = ExportArgs::default();
    let mut destination = None;
    while let Some(arg) = parser.next()? {
        match arg {
            Long("help") | Short('h') => return Ok(Command::Help(Topic::Export)),
            Long("from") => args.from = Some(parser.value()?.into()),
            Long("config") => args.config = Some(parser.value()?.into()),
            Long("since") => args.since = Some(parse_day(&mut parser, "--since")?),
            Long("until") => args.until = Some(parse_day(&mut parser, "--until")?),
            Long("team") => args.team = Some(parse_value(&mut parser, "--team", "the name of a team")?),
            Long("zip") => args.zip = true,
            Long("json") => args.json = true,
            Value(folder) if destination.is_none() => destination = Some(PathBuf::from(folder)),
            other => return Err(other.unexpected().into()),
        }
    }
    args.destination =
        destination.ok_or_else(|| UsageError("export needs a destination folder".to_owned()))?;
    if let (Some(since), Some(until)) = (&args.since, &args.until)
        && since > until
    {
        return Err(UsageError(format!("--since {since} is after --until {until}")));
    }
    Ok(Command::Export(args))
}

/// A day that exists, as it is written everywhere.
struct Day(String);

impl std::str::FromStr for Day {
    type Err = ();

    fn from_str(text: &str) -> Result<Day, ()> {
        clock::parse_day(text).map(|day| Day(clock::day_text(day))).ok_or(())
    }
}

fn parse_day(parser: &mut lexopt::Parser, option: &str) -> Result<String, UsageError> {
    let day: Day = parse_value(parser, option, "a day such as 2026-11-22")?;
    Ok(day.0)
}

fn parse_value<T: std::str::FromStr>(
    parser: &mut lexopt::Parser,
    option: &str,
    what: &str,
) -> Result<T, UsageError> {
    let value = parser.value()?;
    let text = value.to_string_lossy();
    text.parse().map_err(|_| UsageError(format!("{option} {text:?} is not allowed: give {what}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(words: &[&str]) -> Result<Command, UsageError> {
        parse(lexopt::Parser::from_args(words))
    }

    #[test]
    fn commands_take_their_options_and_nothing_else() {
        assert_eq!(typed(&[]).unwrap(), Command::Help(Topic::All));
        assert_eq!(typed(&["verify", "-h"]).unwrap(), Command::Help(Topic::Verify));
        let Command::Export(args) = typed(&["export", "--since", "2026-11-01", "/x", "--json"]).unwrap()
        else {
            panic!()
        };
        assert_eq!((args.since.as_deref(), args.json), (Some("2026-11-01"), true));
        for wrong in [
            &["fly"][..],
            &["serve", "x"],
            &["export"],
            &["export", "a", "b"],
            &["export", "x", "--since", "soon"],
            &["demo", "--listen", "here"],
            &["--what"],
            &["verify", "--json=yes"],
            &["export", "x", "--since", "2026-02-30"],
            &["export", "x", "--since", "2026-02-02", "--until", "2026-02-01"],
            &["export", "--zip"],
        ] {
            assert!(typed(wrong).is_err(), "{wrong:?}");
        }
    }
}
