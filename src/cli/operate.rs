//! `tubox status`, `tubox retry`, `tubox admin-url`: the running box, asked and told.

use super::args::{RetryArgs, StatusArgs};
use super::ask::{admin_token, ask_admin};
use super::{Ended, on_signal, say, speaks};
use crate::config;
use crate::ground::language::Language;
use crate::ground::stop::Stop;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// How often `--watch` asks.
const WATCH_EVERY: Duration = Duration::from_secs(2);

pub(super) fn status(args: &StatusArgs) -> Result<(), Ended> {
    let environment = config::process_environment();
    let config = config::load(args.config.as_deref(), &environment)?;
    let language = speaks(&environment);
    let stop = Stop::new();
    if args.watch {
        on_signal(stop.clone())?;
    }
    loop {
        let status = ask_admin(&config, "/admin/status", language.tag(), None)?;
        match args.json {
            true => say(&status.to_string()),
            false if args.watch => say(&format!("\x1b[H\x1b[2J{}", in_words(&status, language))),
            false => say(&in_words(&status, language)),
        }
        if !args.watch {
            let needs_a_person =
                !status["paused"].is_null() || status["failed_count"].as_u64().unwrap_or(0) > 0;
            return if needs_a_person { Err(Ended::WithProblems) } else { Ok(()) };
        }
        if stop.wait(WATCH_EVERY) {
            return Ok(());
        }
    }
}

pub(super) fn retry(args: &RetryArgs) -> Result<(), Ended> {
    let environment = config::process_environment();
    let config = config::load(args.config.as_deref(), &environment)?;
    let body = if args.all { json!({"all": true}) } else { json!({"ids": args.ids}) };
    let answer = ask_admin(&config, "/admin/retry", speaks(&environment).tag(), Some(&body))?;
    let retried = answer["retried"].as_u64().unwrap_or(0);
    let put_back = match speaks(&environment) {
        Language::Chinese => format!("已将 {retried} 张失败的图片放回队列"),
        Language::English => format!("put {retried} failed pictures back into the queue"),
    };
    say(&put_back);
    if !args.all && retried < args.ids.len() as u64 { Err(Ended::WithProblems) } else { Ok(()) }
}

/// The token stands behind `#`: browsers keep that part to themselves.
pub(super) fn admin_url(config_file: Option<&Path>) -> Result<(), Ended> {
    let config = config::load(config_file, &config::process_environment())?;
    say(&format!("{}/admin/#{}", config.public_url, admin_token(&config)?));
    Ok(())
}

fn in_words(status: &Value, language: Language) -> String {
    let zh = language == Language::Chinese;
    let pick = |chinese: &'static str, english: &'static str| if zh { chinese } else { english };
    let number = |key: &str| status[key].as_u64().unwrap_or(0);
    let mut lines = vec![
        format!("{:22}{}", pick("已保存", "saved"), number("saved")),
        format!("{:22}{}", pick("今天已保存", "saved today"), number("saved_today")),
        format!("{:22}{}", pick("等待", "waiting"), number("waiting")),
        format!("{:22}{}", pick("下载中", "downloading"), number("downloading")),
        format!("{:22}{}", pick("失败", "failed"), number("failed_count")),
    ];
    if let Some(seconds) = status["next_due_seconds"].as_i64() {
        lines.push(format!("{:22}{}", pick("下一次下载", "next download in"), span(seconds)));
    }
    if let Some(seconds) = status["oldest_deadline_seconds"].as_i64() {
        lines.push(format!("{:22}{}", pick("最早截止", "oldest deadline in"), span(seconds)));
    }
    if let Some(free) = status["disk_free_bytes"].as_u64() {
        lines.push(format!("{:22}{:.1} GB", pick("磁盘剩余", "disk free"), free as f64 / 1e9));
    }
    if let Some(last) = status["last_saved_at"].as_str() {
        lines.push(format!("{:22}{last}", pick("最近保存", "last picture")));
    }
    if let Some(ends) = status["credentials"]["token_ends_in_seconds"].as_i64() {
        lines.push(format!("{:22}{}", pick("access_token 剩余", "access_token ends in"), span(ends)));
    }
    if let Some(age) = status["credentials"]["ticket_age_seconds"].as_i64() {
        lines.push(format!("{:22}{}", pick("jsapi_ticket 已有", "jsapi_ticket age"), span(age)));
    }
    lines.extend(stick_in_words(&status["stick"], language));
    let paused = &status["paused"];
    if !paused.is_null() {
        let text = |key: &str| paused[key].as_str().unwrap_or_default().to_owned();
        lines.push(format!(
            "\n{}: {} ({})",
            pick("全部暂停", "everything waits"),
            text("reason"),
            text("code")
        ));
        if !text("detail").is_empty() {
            lines.push(format!("  {}", text("detail")));
        }
        lines.push(format!("  {}: {}", pick("处理方法", "what to do"), text("remedy")));
        lines.push(format!("  {}: {}", pick("下次尝试", "next try"), text("until")));
    }
    for failed in status["failed"].as_array().unwrap_or(&Vec::new()) {
        let text = |key: &str| failed[key].as_str().unwrap_or_default().to_owned();
        lines.push(format!("\n{} {} ({})", text("media_id"), text("reason"), text("code")));
        lines.push(format!("  {}: {}", pick("处理方法", "what to do"), text("remedy")));
    }
    lines.join("\n")
}

/// What the last stick that was plugged in got.
fn stick_in_words(stick: &Value, language: Language) -> Option<String> {
    let zh = language == Language::Chinese;
    let reason = stick["reason"].as_str().unwrap_or_default();
    let state = match (stick["state"].as_str()?, stick["safe_to_pull"].as_bool()) {
        ("working", _) => if zh { "正在复制，请勿拔出" } else { "copying, leave it in" }.to_owned(),
        ("done", Some(true)) => if zh { "已完整复制，可以拔出" } else { "complete, safe to pull" }.to_owned(),
        ("gone", _) => if zh { "已拔出" } else { "pulled out" }.to_owned(),
        _ => format!("{}: {reason}", if zh { "复制不完整" } else { "not complete" }),
    };
    let since = stick["since"].as_str().unwrap_or_default();
    Some(format!("{:22}{state} ({since})", if zh { "U盘" } else { "stick" }))
}

fn span(seconds: i64) -> String {
    match seconds {
        -59..60 => format!("{seconds} s"),
        _ => format!("{} h {:02} min", seconds / 3600, (seconds % 3600).abs() / 60),
    }
}
