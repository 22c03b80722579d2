//! Settings: a TOML file, beaten by environment variables, checked as a whole before anything starts. The only
//! room that reads the environment or a file of settings.
//!
//! Every problem is reported at once, each with its key, its value and what to do; a secret's value is never
//! shown. What a key means stands in the table of the README; what is allowed stands in [`Config::read`].

mod reader;

pub use reader::Problem;

use crate::door::outbound::{Origin, ProxyAddress};
use crate::wechat::TokenKind;
use reader::Reader;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the settings are looked for when no file is named.
pub const DEFAULT_FILE: &str = "/etc/tubox/tubox.toml";

/// Where the secret is looked for when nothing names it: there the package has it, and the service gets it as a
/// credential, which a command typed by a person has not.
const SECRET_FILE: &str = "/etc/tubox/app_secret";

/// Where everything is kept when no folder is named.
const DATA_DIR: &str = "/var/lib/tubox";

/// WeChat's script for pages; the second host stands in when the first cannot be reached.
const JSSDK_URLS: [&str; 2] =
    ["https://res.wx.qq.com/open/js/jweixin-1.6.0.js", "https://res2.wx.qq.com/open/js/jweixin-1.6.0.js"];

/// All settings, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the box listens.
    pub listen: SocketAddr,
    /// The origin that phones see: scheme, host and port, nothing behind.
    pub public_url: String,
    /// Journal, queue and credentials.
    pub data_dir: PathBuf,
    /// The album.
    pub pictures_dir: PathBuf,
    /// Where the script for sticks says how a copy goes: systemd's RUNTIME_DIRECTORY, or its usual place.
    pub runtime_dir: PathBuf,
    /// The account.
    pub wechat: WeChatConfig,
    /// How pictures are brought home.
    pub drain: DrainConfig,
    /// What strangers may cost.
    pub limits: LimitsConfig,
    /// Who is called when a person is needed.
    pub alerts: AlertsConfig,
}

/// The account and the way to it.
#[derive(Clone)]
pub struct WeChatConfig {
    /// AppID.
    pub app_id: String,
    /// AppSecret; never shown.
    pub app_secret: String,
    /// The file that holds it; `None`: it stands in the settings themselves.
    pub app_secret_file: Option<PathBuf>,
    /// The API's hosts, in the order in which they are tried.
    pub api_urls: Vec<Origin>,
    /// Which call gives the access_token.
    pub token: TokenKind,
    /// Holds `MP_verify_*.txt`.
    pub verify_dir: PathBuf,
    /// Extra root certificates, PEM.
    pub ca_pem: Option<Vec<u8>>,
    /// An HTTP proxy on the way out.
    pub proxy: Option<ProxyAddress>,
    /// Whether IPv6 is left out on the way out.
    pub force_ipv4: bool,
    /// Where the page gets WeChat's script.
    pub jssdk_urls: Vec<String>,
}

/// How pictures are brought home.
#[derive(Clone, Debug)]
pub struct DrainConfig {
    /// Pictures at a time.
    pub downloads: usize,
    /// Larger ones are refused.
    pub picture_bytes_max: u64,
    /// The first wait after a failed attempt.
    pub retry_min: Duration,
    /// The longest wait.
    pub retry_max: Duration,
    /// No byte for so long ends an attempt.
    pub stall_timeout: Duration,
    /// From submission until WeChat deletes the picture.
    pub deadline: Duration,
}

/// Who is called when a person is needed.
#[derive(Clone)]
pub struct AlertsConfig {
    /// Run with the kind as its argument and the text on its standard input.
    pub command: Option<PathBuf>,
    /// Origin, and path with query, of an address that gets a POST. It may hold a key.
    pub webhook: Option<(Origin, String)>,
}

/// What strangers may cost.
#[derive(Clone, Debug)]
pub struct LimitsConfig {
    /// Ids in one submission.
    pub ids_per_submission: usize,
    /// Whether submissions need not come from the page.
    pub open_submit: bool,
    /// Submissions a minute from one address; 0: no limit.
    pub rate: u32,
    /// Whose X-Forwarded-For is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// Ids that may wait.
    pub queue: u64,
    /// Below it nothing is downloaded.
    pub free_bytes_min: u64,
}

impl std::fmt::Debug for WeChatConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WeChatConfig").field("app_id", &self.app_id).finish_non_exhaustive()
    }
}

/// Why there are no settings to work with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read or is no TOML.
    #[error("{0}")]
    File(String),
    /// Everything that is wrong with the settings.
    #[error("{}", list(.0))]
    Problems(Vec<Problem>),
}

fn list(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(|problem| format!("  {problem}")).collect();
    format!("could not use the settings, {} to mend:\n{}", problems.len(), lines.join("\n"))
}

/// The environment as pairs; handed in by tests.
pub type Environment = Vec<(String, String)>;

/// The process's environment. Variables that are not UTF-8 are none of ours.
#[allow(clippy::disallowed_methods)] // the one place that reads it
pub fn process_environment() -> Environment {
    let utf8 = |(key, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((key.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(utf8).collect()
}

/// A variable of `environment`.
pub fn variable<'a>(environment: &'a Environment, name: &str) -> Option<&'a str> {
    environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// Settings from `file` (`None`: the default file, which may be missing) and `environment`.
pub fn load(file: Option<&Path>, environment: &Environment) -> Result<Config, ConfigError> {
    checked(read_table(file)?, environment)
}

/// Settings from the `text` of a file; `path` is only named in errors. Files that the settings name are read.
pub fn from_text(text: &str, path: &Path, environment: &Environment) -> Result<Config, ConfigError> {
    checked(parse_table(text, path)?, environment)
}

fn checked(table: toml::Table, environment: &Environment) -> Result<Config, ConfigError> {
    let mut reader = Reader::new(table, environment);
    let config = Config::read(&mut reader, environment);
    match (config, reader.finish()) {
        (Some(config), problems) if problems.is_empty() => Ok(config),
        (_, problems) => Err(ConfigError::Problems(problems)),
    }
}

/// Where the pictures are, by the same settings as [`load`] but asking for nothing else of them: whoever copies
/// pictures off needs neither an account nor leave to read its secret.
pub fn load_pictures_dir(file: Option<&Path>, environment: &Environment) -> Result<PathBuf, ConfigError> {
    let mut reader = Reader::new(read_table(file)?, environment);
    let data_dir = reader.path("data_dir", DATA_DIR);
    let pictures_dir = reader.optional_path("pictures_dir").or_else(|| Some(data_dir?.join("pictures")));
    match (pictures_dir, reader.complaints()) {
        (Some(pictures_dir), complaints) if complaints.is_empty() => Ok(pictures_dir),
        (_, complaints) => Err(ConfigError::Problems(complaints)),
    }
}

fn read_table(file: Option<&Path>) -> Result<toml::Table, ConfigError> {
    let path = file.unwrap_or(Path::new(DEFAULT_FILE));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            return Err(ConfigError::File(format!(
                "could not read the settings {}: {error}",
                path.display()
            )));
        }
    };
    parse_table(&text, path)
}

fn parse_table(text: &str, path: &Path) -> Result<toml::Table, ConfigError> {
    let parsed = text.parse();
    parsed.map_err(|error| {
        ConfigError::File(format!("could not read the settings {}: {error}", path.display()))
    })
}

impl Config {
    /// Reads and checks every key. `None` when a key without default is missing or bad; the problems are with
    /// the reader.
    fn read(reader: &mut Reader, environment: &Environment) -> Option<Config> {
        let listen = reader.parsed(
            "listen",
            "127.0.0.1:8080",
            "give an address and a port, such as 127.0.0.1:8080",
            |text| text.parse::<SocketAddr>().ok(),
        );
        let public_url = reader.required(
            "public_url",
            "give the origin that phones see, such as https://pics.example.org",
            public_origin,
        );
        let data_dir = reader.path("data_dir", DATA_DIR);
        let pictures_dir =
            reader.optional_path("pictures_dir").or_else(|| Some(data_dir.as_ref()?.join("pictures")));
        let wechat = WeChatConfig::read(reader, environment);
        let drain = DrainConfig::read(reader);
        let limits = LimitsConfig::read(reader);
        let alerts = AlertsConfig::read(reader);
        Some(Config {
            listen: listen?,
            public_url: public_url?,
            data_dir: data_dir?,
            pictures_dir: pictures_dir?,
            runtime_dir: variable(environment, "RUNTIME_DIRECTORY").unwrap_or("/run/tubox").into(),
            wechat: wechat?,
            drain: drain?,
            limits: limits?,
            alerts: alerts?,
        })
    }
}

impl WeChatConfig {
    fn read(reader: &mut Reader, environment: &Environment) -> Option<WeChatConfig> {
        let app_id = reader.required(
            "wechat.app_id",
            "give the account's AppID: wx and 16 letters and digits",
            |text| {
                let is_app_id =
                    (3..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
                is_app_id.then(|| text.to_owned())
            },
        );
        let secret = read_secret(reader, environment);
        let api_urls = reader.list(
            "wechat.api_urls",
            &["https://api.weixin.qq.com", "https://api2.weixin.qq.com"],
            "give origins such as https://api.weixin.qq.com; http:// only for this machine itself",
            |text| Origin::parse(text).ok(),
        );
        let token = reader.parsed("wechat.token", "stable", "give stable or classic", |text| match text {
            "stable" => Some(TokenKind::Stable),
            "classic" => Some(TokenKind::Classic),
            _ => None,
        });
        let verify_dir = reader.path("wechat.verify_dir", "/etc/tubox/verify");
        let ca_pem = reader.file("wechat.ca_file");
        let proxy =
            reader.optional("wechat.proxy", "give http://host:port", |text| ProxyAddress::parse(text).ok());
        let force_ipv4 = reader.flag("wechat.force_ipv4", false);
        let jssdk_urls = reader.list(
            "wechat.jssdk_urls",
            &JSSDK_URLS,
            "give addresses of WeChat's script; http:// only for this machine itself",
            script_url,
        );
        let (app_secret, app_secret_file) = secret?;
        Some(WeChatConfig {
            app_id: app_id?,
            app_secret,
            app_secret_file,
            api_urls: api_urls.filter(|urls| !urls.is_empty())?,
            token: token?,
            verify_dir: verify_dir?,
            ca_pem: ca_pem?,
            proxy: proxy?,
            force_ipv4: force_ipv4?,
            jssdk_urls: jssdk_urls?,
        })
    }
}

impl DrainConfig {
    fn read(reader: &mut Reader) -> Option<DrainConfig> {
        let downloads = reader.number("drain.downloads", 4, 1..=64);
        let picture_bytes_max = reader.number("drain.max_picture_bytes", 64 << 20, 1024..=4 << 30);
        let second = Duration::from_secs(1);
        let retry_min =
            reader.duration("drain.retry_min", 2 * second, Duration::from_millis(10)..=3600 * second);
        let retry_max =
            reader.duration("drain.retry_max", 900 * second, Duration::from_millis(10)..=86_400 * second);
        if let (Some(min), Some(max)) = (retry_min, retry_max)
            && min > max
        {
            reader.complain("drain.retry_max", "", "is shorter than drain.retry_min", "make it longer");
        }
        let stall_timeout =
            reader.duration("drain.stall_timeout", 30 * second, Duration::from_millis(50)..=600 * second);
        let deadline = reader.duration("drain.deadline", 72 * 3600 * second, second..=30 * 86_400 * second);
        Some(DrainConfig {
            downloads: usize::try_from(downloads?).ok()?,
            picture_bytes_max: picture_bytes_max?,
            retry_min: retry_min?,
            retry_max: retry_max?,
            stall_timeout: stall_timeout?,
            deadline: deadline?,
        })
    }
}

impl AlertsConfig {
    fn read(reader: &mut Reader) -> Option<AlertsConfig> {
        let command = reader.optional_path("alerts.command");
        let remedy =
            "give an address such as https://ntfy.example.org/topic; http:// only for this machine itself";
        let webhook = reader.secret("alerts.webhook").map(|text| {
            let parsed = split_url(&text);
            if parsed.is_none() {
                reader.complain("alerts.webhook", "(not shown)", "is not allowed", remedy);
            }
            parsed
        });
        match webhook {
            Some(None) => None,
            webhook => Some(AlertsConfig { command, webhook: webhook.flatten() }),
        }
    }
}

/// Origin, and path with query.
fn split_url(text: &str) -> Option<(Origin, String)> {
    let (scheme, rest) = text.split_once("://")?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    let path = if path.is_empty() { "/" } else { path };
    is_plain.then_some((Origin::parse(&format!("{scheme}://{host}")).ok()?, path.to_owned()))
}

impl std::fmt::Debug for AlertsConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AlertsConfig").field("command", &self.command).finish_non_exhaustive()
    }
}

impl LimitsConfig {
    fn read(reader: &mut Reader) -> Option<LimitsConfig> {
        let ids_per_submission = reader.number("limits.ids_per_submission", 100, 1..=500);
        let open_submit = reader.flag("limits.open_submit", false);
        let rate = reader.number("limits.rate", 60, 0..=1_000_000);
        let trusted_proxies = reader.list(
            "limits.trusted_proxies",
            &["127.0.0.1", "::1"],
            "give IP addresses such as 127.0.0.1",
            |text| text.parse::<IpAddr>().ok(),
        );
        let queue = reader.number("limits.queue", 1_000_000, 1..=100_000_000);
        let free_bytes_min = reader.number("limits.min_free_bytes", 256 << 20, 0..=1 << 50);
        Some(LimitsConfig {
            ids_per_submission: usize::try_from(ids_per_submission?).ok()?,
            open_submit: open_submit?,
            rate: u32::try_from(rate?).ok()?,
            trusted_proxies: trusted_proxies?,
            queue: queue?,
            free_bytes_min: free_bytes_min?,
        })
    }
}

/// The secret: from the settings, from a file, from the systemd credential `app_secret`, or from where the package
/// has it; with the file that it came from.
fn read_secret(reader: &mut Reader, environment: &Environment) -> Option<(String, Option<PathBuf>)> {
    const REMEDY: &str =
        "give wechat.app_secret_file with the path of a file that holds the account's AppSecret";
    let inline = reader.secret("wechat.app_secret");
    let file = reader.optional_path("wechat.app_secret_file");
    let credential =
        variable(environment, "CREDENTIALS_DIRECTORY").map(|folder| Path::new(folder).join("app_secret"));
    let found = credential.into_iter().chain([PathBuf::from(SECRET_FILE)]).find(|path| path.exists());
    let (key, text, from) = match (inline, file, found) {
        (Some(_), Some(_), _) => {
            reader.complain(
                "wechat.app_secret",
                "",
                "stands beside wechat.app_secret_file",
                "give only one of them",
            );
            return None;
        }
        (Some(text), None, _) => ("wechat.app_secret", text, None),
        (None, Some(path), _) | (None, None, Some(path)) => match std::fs::read_to_string(&path) {
            Ok(text) => ("wechat.app_secret_file", text, Some(path)),
            Err(error) => {
                reader.complain(
                    "wechat.app_secret_file",
                    &path.display().to_string(),
                    &format!("cannot be read: {error}"),
                    REMEDY,
                );
                return None;
            }
        },
        (None, None, None) => {
            reader.complain("wechat.app_secret_file", "", "is missing", REMEDY);
            return None;
        }
    };
    let secret = text.trim();
    let is_plausible =
        (8..=128).contains(&secret.len()) && secret.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !is_plausible {
        reader.complain(key, "(not shown)", "is no AppSecret: 32 letters and digits are expected", REMEDY);
        return None;
    }
    Some((secret.to_owned(), from))
}

/// An origin as the phone sees it. Plain http is allowed: demo and LAN tests have no certificate.
fn public_origin(text: &str) -> Option<String> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    (!host.is_empty() && host.bytes().all(allowed) && !host.starts_with(['.', '-', ':']))
        .then(|| text.to_owned())
}

fn script_url(text: &str) -> Option<String> {
    let (origin, path) =
        text.split_at_checked(text.find("://")? + 3 + text.split("://").nth(1)?.find('/')?)?;
    let is_plain = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/.-_?=&".contains(&byte));
    (Origin::parse(origin).is_ok() && is_plain).then(|| text.to_owned())
}

#[cfg(test)]
mod tests;
