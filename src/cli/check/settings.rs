//! What the settings say by themselves: whether they hang together, who may read the secret, whose
//! X-Forwarded-For is believed.

use super::finding::{Both, Finding, both, same};
use crate::config::{self, Config, ConfigError, Environment};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// WeChat deletes a picture so long after its upload.
const PICTURE_LIFE: Duration = Duration::from_secs(72 * 3600);

/// One finding for each problem that keeps the settings from being used.
pub(super) fn unusable(error: &ConfigError) -> Vec<Finding> {
    let problems = match error {
        ConfigError::File(text) => {
            let remedy =
                both("修正该文件，或用 --config 指定", "mend that file, or name another with --config");
            return vec![Finding::fault("settings", same(text.as_str()), remedy)];
        }
        ConfigError::Problems(problems) => problems,
    };
    let finding = |problem: &config::Problem| {
        let value = if problem.value.is_empty() { String::new() } else { format!(" = {}", problem.value) };
        let detail = format!("{}{value} {}", problem.key, problem.what);
        let remedy = same(problem.remedy.as_str());
        Finding::fault("settings", same(detail.as_str()), remedy)
    };
    problems.iter().map(finding).collect()
}

pub(super) fn look(config: &Config, file: Option<&Path>, environment: &Environment) -> Vec<Finding> {
    vec![settings(config, file, environment), secret(config, file, environment), trusted_proxies(config)]
}

fn settings(config: &Config, file: Option<&Path>, environment: &Environment) -> Finding {
    if config.limits.open_submit {
        let detail = both(
            "limits.open_submit = true：任何人都可以提交，不必打开页面",
            "limits.open_submit = true: anybody may submit without opening the page",
        );
        let remedy = both("除非用于脚本或测试，否则删除这一项", "remove it, unless scripts or tests need it");
        return Finding::warning("settings", detail, remedy);
    }
    if config.drain.deadline > PICTURE_LIFE {
        let detail = both(
            "drain.deadline 超过 72 小时，而微信在 72 小时后删除图片",
            "drain.deadline is more than 72 hours, and WeChat deletes pictures after 72",
        );
        return Finding::warning("settings", detail, both("设为 72h 或更短", "set it to 72h or less"));
    }
    let from = settings_file(file);
    let variables = environment.iter().filter(|(key, _)| key.starts_with("TUBOX_")).count();
    let detail = match from {
        Some(path) => both(
            format!("读取自 {} 和 {variables} 个环境变量", path.display()),
            format!("read from {} and {variables} environment variables", path.display()),
        ),
        None => both(
            format!("读取自 {variables} 个环境变量"),
            format!("read from {variables} environment variables"),
        ),
    };
    Finding::ok("settings", detail)
}

/// The settings file that was read, if there is one.
fn settings_file(named: Option<&Path>) -> Option<PathBuf> {
    let path = named.unwrap_or(Path::new(config::DEFAULT_FILE));
    path.exists().then(|| path.to_owned())
}

fn secret(config: &Config, file: Option<&Path>, environment: &Environment) -> Finding {
    let in_environment = config::variable(environment, "TUBOX_WECHAT_APP_SECRET").is_some();
    let (place, path) = match (&config.wechat.app_secret_file, in_environment) {
        (Some(path), _) => (same(path.display().to_string()), Some(path.clone())),
        (None, true) => {
            (both("环境变量 TUBOX_WECHAT_APP_SECRET", "the variable TUBOX_WECHAT_APP_SECRET"), None)
        }
        (None, false) => {
            let path = settings_file(file);
            let text = path.as_ref().map_or_else(String::new, |path| path.display().to_string());
            (same(text.as_str()), path)
        }
    };
    let mode = path.as_ref().and_then(|path| path.metadata().ok()).map(|metadata| metadata.mode() & 0o7777);
    match (mode, path) {
        (Some(mode), Some(path)) if mode & 0o007 != 0 => {
            let path = path.display();
            let detail = both(
                format!("已提供（不显示），但本机任何用户都能读写 {path}（权限 {mode:04o}）"),
                format!(
                    "present (not shown), but everybody on this machine may use {path} (mode {mode:04o})"
                ),
            );
            let remedy = format!("chmod o-rwx {path}");
            Finding::warning("secret", detail, same(remedy.as_str()))
        }
        _ => Finding::ok(
            "secret",
            both(
                format!("已提供（不显示），位于 {}", place.zh),
                format!("present (not shown), in {}", place.en),
            ),
        ),
    }
}

/// Without a look at the proxy itself only what cannot be right is seen.
fn trusted_proxies(config: &Config) -> Finding {
    let trusted = &config.limits.trusted_proxies;
    let list = trusted.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
    let warn = |detail: Both, remedy: Both| Finding::warning("trusted_proxies", detail, remedy);
    if let Some(wide) = trusted.iter().find(|address| address.is_unspecified()) {
        return warn(
            both(
                format!("{wide} 不是任何代理的地址，不会匹配"),
                format!("{wide} is no proxy's address and matches nobody"),
            ),
            both("填写代理的 IP 地址", "give the proxy's own IP address"),
        );
    }
    let reached_by_loopback = config.listen.ip().is_loopback();
    if reached_by_loopback && !trusted.iter().any(IpAddr::is_loopback) {
        return warn(
            both(
                format!(
                    "图盒只在本机 {} 监听，所有访问都来自本机的代理，但列表（{list}）里没有 127.0.0.1 或 ::1：所有访客会被当成同一个人限速",
                    config.listen
                ),
                format!(
                    "the box listens on {} only, so everybody comes through a proxy on this machine, but the list ({list}) \
                     holds neither 127.0.0.1 nor ::1: all visitors count as one",
                    config.listen
                ),
            ),
            both(
                "在 limits.trusted_proxies 中加入 127.0.0.1 和 ::1",
                "add 127.0.0.1 and ::1 to limits.trusted_proxies",
            ),
        );
    }
    if let Some(foreign) = trusted.iter().find(|address| is_public(address)) {
        return warn(
            both(
                format!("{foreign} 是公网地址：从那里来的访问可以冒充任何访客"),
                format!("{foreign} is a public address: whoever comes from there can pass for any visitor"),
            ),
            both("确认那是您自己的代理，否则删除", "make sure that it is your own proxy, or remove it"),
        );
    }
    let detail = match list.is_empty() {
        true => both("没有：访客地址取自连接本身", "none: visitors are told apart by their connections"),
        false => both(
            format!("相信来自 {list} 的 X-Forwarded-For"),
            format!("X-Forwarded-For is believed from {list}"),
        ),
    };
    Finding::ok("trusted_proxies", detail)
}

/// Whether an address is one of the open internet.
fn is_public(address: &IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let is_shared = address.octets()[0] == 100 && address.octets()[1] & 0xc0 == 64;
            !(address.is_private() || address.is_loopback() || address.is_link_local() || is_shared)
        }
        IpAddr::V6(address) => {
            !(address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses_are_told_from_those_of_a_house() {
        for house in
            ["127.0.0.1", "10.1.2.3", "192.168.0.1", "100.64.0.1", "169.254.1.1", "::1", "fd00::1", "fe80::1"]
        {
            assert!(!is_public(&house.parse().unwrap()), "{house}");
        }
        for public in ["203.0.113.7", "100.128.0.1", "2001:db8::1", "::ffff:8.8.8.8"] {
            assert!(is_public(&public.parse().unwrap()), "{public}");
        }
    }
}
