//! Settings from texts and pairs.

use super::*;

const GOOD: &str = r#"
public_url = "https://pics.example.org"
[wechat]
app_id = "wx0123456789abcdef"
app_secret = "0123456789abcdef0123456789abcdef"
"#;

fn load_text(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tubox.toml");
    std::fs::write(&path, text).unwrap();
    load(Some(&path), &environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
}

fn problems(text: &str, environment: &[(&str, &str)]) -> Vec<Problem> {
    match load_text(text, environment) {
        Err(ConfigError::Problems(problems)) => problems,
        other => panic!("expected problems, got {other:?}"),
    }
}

#[test]
fn what_is_not_given_has_the_documented_default() {
    let config = load_text(GOOD, &[]).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.pictures_dir, Path::new("/var/lib/tubox/pictures"));
    assert_eq!(config.wechat.api_urls.len(), 2);
    assert_eq!((config.drain.downloads, config.drain.deadline.as_secs()), (4, 72 * 3600));
    assert_eq!((config.limits.ids_per_submission, config.limits.queue), (100, 1_000_000));
    assert!(!config.limits.open_submit);
    assert_eq!(config.wechat.token, TokenKind::Stable);
}

#[test]
fn the_environment_beats_the_file() {
    let environment = [
        ("TUBOX_LISTEN", "127.0.0.1:9"),
        ("TUBOX_DRAIN_DOWNLOADS", "9"),
        ("TUBOX_WECHAT_API_URLS", "http://127.0.0.1:1, https://x.example"),
        ("TUBOX_LIMITS_OPEN_SUBMIT", "true"),
        ("TUBOX_DRAIN_RETRY_MIN", "500ms"),
        ("UNRELATED", "x"),
    ];
    let config = load_text(GOOD, &environment).unwrap();
    assert_eq!((config.listen.port(), config.drain.downloads), (9, 9));
    assert_eq!(config.wechat.api_urls[0].to_string(), "http://127.0.0.1:1");
    assert!(config.limits.open_submit);
    assert_eq!(config.drain.retry_min, Duration::from_millis(500));
}

#[test]
fn every_problem_is_named_at_once_with_key_value_and_remedy() {
    let text = r#"
listen = "everywhere"
public_url = "pics.example.org/path"
data_dir = "relative"
lisen = "typo"
[wechat]
app_id = "wx 1"
token = "forever"
api_urls = ["http://api.weixin.qq.com"]
[drain]
downloads = 0
retry_min = "2 parsecs"
[limits]
open_submit = "maybe"
trusted_proxies = ["me"]
rate = [1]
"#;
    let problems = problems(text, &[("TUBOX_DRAIN_DOWNLOAD", "3")]);
    let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    for key in [
        "listen",
        "public_url",
        "data_dir",
        "lisen",
        "wechat.app_id",
        "wechat.token",
        "wechat.api_urls",
        "wechat.app_secret_file",
        "drain.downloads",
        "drain.retry_min",
        "limits.open_submit",
        "limits.trusted_proxies",
        "limits.rate",
        "drain.download",
    ] {
        assert_eq!(keys.iter().filter(|found| **found == key).count(), 1, "{key} in {keys:?}");
    }
    assert!(problems.iter().all(|problem| !problem.remedy.is_empty()));
    let typo = problems.iter().find(|problem| problem.key == "lisen").unwrap();
    assert!(typo.remedy.contains("did you mean listen?"));
    let bad = problems.iter().find(|problem| problem.key == "drain.retry_min").unwrap();
    assert_eq!(bad.value, "\"2 parsecs\"");
}

#[test]
fn a_secret_is_read_from_three_places_and_shown_in_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app_secret");
    std::fs::write(&path, "  fedcba9876543210fedcba9876543210\n").unwrap();
    let without = GOOD.replace("app_secret =", "# app_secret =");
    let by_file = load_text(&without, &[("TUBOX_WECHAT_APP_SECRET_FILE", path.to_str().unwrap())]).unwrap();
    assert_eq!(by_file.wechat.app_secret, "fedcba9876543210fedcba9876543210");
    let by_credential =
        load_text(&without, &[("CREDENTIALS_DIRECTORY", folder.path().to_str().unwrap())]).unwrap();
    assert_eq!(by_credential.wechat.app_secret, by_file.wechat.app_secret);
    assert!(!format!("{by_file:?}").contains("fedcba"));

    std::fs::write(&path, "too-short-or-odd!").unwrap();
    let problems = problems(&without, &[("TUBOX_WECHAT_APP_SECRET_FILE", path.to_str().unwrap())]);
    assert!(!problems[0].to_string().contains("too-short"));
}

#[test]
fn a_broken_file_is_named_with_its_place() {
    let error = load_text("listen = [", &[]).unwrap_err().to_string();
    assert!(error.contains("tubox.toml") && error.contains("line 1"), "{error}");
    let error = load(Some(Path::new("/nonexistent/tubox.toml")), &Vec::new()).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/tubox.toml"));
}

#[test]
fn the_pictures_are_found_without_an_account() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tubox.toml");
    let found = |text: &str| {
        std::fs::write(&path, text).unwrap();
        load_pictures_dir(Some(&path), &Vec::new())
    };
    assert_eq!(found("").unwrap(), Path::new("/var/lib/tubox/pictures"));
    assert_eq!(found("data_dir = \"/x\"\nunknown = 1").unwrap(), Path::new("/x/pictures"));
    assert_eq!(found("data_dir = \"/x\"\npictures_dir = \"/y\"").unwrap(), Path::new("/y"));
    let ConfigError::Problems(problems) = found("pictures_dir = \"y\"").unwrap_err() else { panic!() };
    assert_eq!(problems[0].key, "pictures_dir");
}
