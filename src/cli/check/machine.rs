//! The machine itself: how many files may be open, memory where it is scarce, the time zone.

use super::finding::{Finding, both};
use crate::config::{self, Environment};
use rustix::process::{Resource, getrlimit};

/// As many as the box asks for at its start; each client costs up to four.
const DESCRIPTORS_WANTED: u64 = 4096;
/// Below these a box that drains may be pushed out.
const MEMORY_TINY_BYTES: u64 = 200 << 20;
const AVAILABLE_TINY_BYTES: u64 = 48 << 20;

pub(super) fn look(environment: &Environment) -> Vec<Finding> {
    let mut findings = vec![descriptors(getrlimit(Resource::Nofile).maximum)];
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    findings.extend(tiny_memory(&memory));
    findings.push(time_zone(environment));
    findings
}

/// The box raises its own limit as far as the hard one allows; `None`: there is none.
fn descriptors(maximum: Option<u64>) -> Finding {
    match maximum {
        Some(maximum) if maximum < DESCRIPTORS_WANTED => Finding::warning(
            "descriptors",
            both(
                format!("最多 {maximum} 个，约可同时服务 {} 部手机", maximum / 4),
                format!("{maximum} at most, enough for about {} phones at a time", maximum / 4),
            ),
            both(
                format!("在 systemd 单元中设置 LimitNOFILE={DESCRIPTORS_WANTED}，或用 ulimit -Hn"),
                format!("set LimitNOFILE={DESCRIPTORS_WANTED} in the systemd unit, or use ulimit -Hn"),
            ),
        ),
        _ => Finding::ok("descriptors", both("足够", "enough")),
    }
}

/// Nothing to say where there is enough.
fn tiny_memory(meminfo: &str) -> Option<Finding> {
    let bytes = |key: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
    };
    let (total, available) = (bytes("MemTotal")?, bytes("MemAvailable")?);
    if total >= MEMORY_TINY_BYTES && available >= AVAILABLE_TINY_BYTES {
        return None;
    }
    let swap = bytes("SwapTotal").unwrap_or(0) >> 20;
    let (total, available) = (total >> 20, available >> 20);
    Some(Finding::warning(
        "memory",
        both(
            format!("共 {total} MiB，可用 {available} MiB，交换空间 {swap} MiB"),
            format!("{total} MiB in all, {available} MiB available, {swap} MiB of swap"),
        ),
        both("停止其他程序；图盒需要约 16 MiB", "stop other programs; the box needs about 16 MiB"),
    ))
}

/// Only a note: names, days and stamps are UTC whatever the zone.
fn time_zone(environment: &Environment) -> Finding {
    let linked = std::fs::read_link("/etc/localtime").ok();
    let linked = linked.as_ref().and_then(|path| path.to_str()?.split("zoneinfo/").nth(1));
    let zone = config::variable(environment, "TZ").or(linked).unwrap_or("UTC");
    Finding::ok(
        "time_zone",
        both(
            format!("{zone}；文件名、日期和清单一律用 UTC"),
            format!("{zone}; file names, days and manifests are in UTC all the same"),
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn only_scarce_memory_is_worth_a_line() {
        let meminfo = |total: u64, available: u64| {
            format!(
                "MemTotal:  {} kB\nMemFree: 1 kB\nMemAvailable: {} kB\nSwapTotal: 102400 kB\n",
                total << 10,
                available << 10
            )
        };
        assert!(tiny_memory(&meminfo(512, 300)).is_none());
        let tiny = tiny_memory(&meminfo(128, 90)).unwrap();
        assert_eq!(tiny.detail.en, "128 MiB in all, 90 MiB available, 100 MiB of swap");
        assert!(tiny_memory(&meminfo(512, 20)).is_some());
        assert!(tiny_memory("").is_none());
    }

    #[test]
    fn few_descriptors_are_told() {
        assert_eq!(descriptors(None).state, State::Ok);
        assert_eq!(descriptors(Some(4096)).state, State::Ok);
        assert_eq!(descriptors(Some(1024)).state, State::Warning);
    }
}
