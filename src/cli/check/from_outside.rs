//! The box as phones see it: the public address, WeChat's domain file, and whether the page that arrives there is
//! signed for exactly the address that was asked for. A proxy that drops the query, answers by itself or adds a
//! line end is seen here and nowhere else.

use super::finding::{Both, Finding, both, same};
use super::http::{Reply, get_through};
use super::neighbour::Neighbour;
use crate::config::Config;
use crate::door::outbound::{Host, Origin, OutboundDoor, PassageFault, Scheme};
use crate::ground::clock::Deadline;
use crate::ground::escape::for_log;
use crate::ground::random::{READABLE, SharedRandom};
use crate::wechat::probe::ProbedTicket;
use crate::wechat::signature::PageSignature;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A longer one is no domain file; the box does not serve it.
const DOMAIN_FILE_BYTES_MAX: u64 = 4096;
/// Domain files that are fetched; there is rarely more than one.
const DOMAIN_FILES_MAX: usize = 2;
/// All fetches together.
const FETCHES_WITHIN: Duration = Duration::from_secs(14);
/// Where the page's signature stands.
const SIGNATURE_ELEMENT: &str = "<script type=\"application/json\" id=\"jssdk-config\">";

/// What came back from the public address, before it is judged with what WeChat said.
pub(super) struct Fetched {
    files: Vec<DomainFile>,
    unfit: Vec<String>,
    place: Result<Place, Finding>,
}

struct DomainFile {
    name: String,
    bytes: std::io::Result<Vec<u8>>,
    public: Option<Result<Reply, PassageFault>>,
}

struct Place {
    origin: Origin,
    /// The address that was asked for, as the page has to be signed for.
    url: String,
    page: Result<Reply, PassageFault>,
}

/// Fetches page and domain files. Judges nothing that depends on others.
pub(super) fn fetch(config: &Config, door: Option<&OutboundDoor>, random: &SharedRandom) -> Fetched {
    let (mut files, unfit) = domain_files(&config.wechat.verify_dir);
    let origin = public_origin(&config.public_url);
    let place = match (origin, door) {
        (Ok(origin), Some(door)) => {
            // Characters that a proxy may be tempted to decode or to sort.
            let target = format!("/uploadImgDemo?z=a%2Fb&check={}&a=%E5%9B%BE+1", random.text(8, READABLE));
            let deadline = Deadline::after(FETCHES_WITHIN);
            let page = get_through(door, &origin, &target, FETCHES_WITHIN);
            for file in files.iter_mut().take(if page.is_ok() { DOMAIN_FILES_MAX } else { 0 }) {
                let Some(within) = deadline.remaining() else { break };
                file.public = Some(get_through(door, &origin, &format!("/{}", file.name), within));
            }
            Ok(Place { origin, url: format!("{}{target}", config.public_url), page })
        }
        (Err(finding), _) => Err(finding),
        (Ok(_), None) => Err(Finding::not_tried("public_url", both("程序错误", "of an internal error"))),
    };
    Fetched { files, unfit, place }
}

/// The public address as an origin; plain http to another machine is not spoken here.
pub(super) fn public_origin(public_url: &str) -> Result<Origin, Finding> {
    Origin::parse(public_url).map_err(|why| {
        Finding::warning(
            "public_url",
            both(
                format!("{public_url} 没有检查：明文 http 或不是完整的来源"),
                format!("{public_url} was not tried: it {why}"),
            ),
            both(
                "正式使用需要 https 的域名：在前面放一个带证书的代理（如 Caddy）",
                "real use needs a domain with https: put a proxy with a certificate (such as Caddy) in front",
            ),
        )
    })
}

/// Judges all of it.
pub(super) fn judge(
    config: &Config,
    neighbour: &Neighbour,
    ticket: Option<&ProbedTicket>,
    fetched: Fetched,
) -> Vec<Finding> {
    let Fetched { files, unfit, place } = fetched;
    let mut findings = vec![domain_file(&config.wechat.verify_dir, &files, &unfit)];
    let Place { origin, url, page } = match place {
        Ok(place) => place,
        Err(finding) => {
            findings.push(finding);
            findings.extend(not_reached());
            return findings;
        }
    };
    let page = match page {
        Ok(page) => page,
        Err(fault) => {
            findings.push(unreachable(&config.public_url, &fault, neighbour.is_a_box()));
            findings.extend(not_reached());
            return findings;
        }
    };
    let signature = signature_in(&page);
    let answers = match &signature {
        Some(_) => shape(&config.public_url, &origin),
        None => not_our_page(config, &page, neighbour.is_a_box()),
    };
    findings.push(answers);
    findings.extend(domain_file_public(&files, signature.is_some()));
    findings.push(match signature {
        Some(signature) => page_signature(config, &url, &signature, ticket),
        None => Finding::not_tried("page", no_page()),
    });
    findings
}

fn not_reached() -> [Finding; 2] {
    let because = || both("没有连接到公网地址", "the public address was not reached");
    ["domain_file_public", "page"].map(|id| Finding::not_tried(id, because()))
}

fn no_page() -> Both {
    both("公网地址上不是图盒的页面", "the public address does not show the box's page")
}

/// The files that the box would serve, and the names of those that it would not.
fn domain_files(verify_dir: &Path) -> (Vec<DomainFile>, Vec<String>) {
    let (mut files, mut unfit) = (Vec::new(), Vec::new());
    let entries: Vec<PathBuf> =
        std::fs::read_dir(verify_dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    for path in entries {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let Some(rest) = name.strip_prefix("MP_verify_") else { continue };
        let code = rest.strip_suffix(".txt").unwrap_or_default();
        let is_name = (1..=64).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let length = path.metadata().map_or(0, |metadata| metadata.len());
        if is_name && length <= DOMAIN_FILE_BYTES_MAX {
            files.push(DomainFile { name: name.to_owned(), bytes: std::fs::read(&path), public: None });
        } else {
            unfit.push(for_log(name, 80));
        }
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    unfit.sort();
    (files, unfit)
}

fn domain_file(verify_dir: &Path, files: &[DomainFile], unfit: &[String]) -> Finding {
    let shown = verify_dir.display();
    let unreadable = files.iter().find_map(|file| Some((&file.name, file.bytes.as_ref().err()?)));
    if let Some((name, error)) = unreadable {
        let detail = both(
            format!("无法读取 {shown} 中的 {name}：{error}"),
            format!("could not read {name} in {shown}: {error}"),
        );
        return Finding::fault(
            "domain_file",
            detail,
            both("让图盒的用户可以读取它", "let the box's user read it"),
        );
    }
    if let Some(name) = unfit.first() {
        let detail = both(
            format!("{shown} 中的 {name} 不会被提供：文件名被改过，或文件太大"),
            format!("{name} in {shown} is not served: its name was changed, or it is too long"),
        );
        let remedy = both("重新下载，保持原来的文件名", "download it again and keep its name");
        return Finding::warning("domain_file", detail, remedy);
    }
    match files {
        [] => Finding::warning(
            "domain_file",
            both(
                format!("{shown} 中没有 MP_verify_*.txt"),
                format!("there is no MP_verify_*.txt in {shown}"),
            ),
            both(
                "在公众平台设置 JS接口安全域名 时下载该文件，放到 wechat.verify_dir",
                "download it where the WeChat console asks for the JS interface domain (JS接口安全域名), and put it into wechat.verify_dir",
            ),
        ),
        files => {
            let names = files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>().join(", ");
            Finding::ok("domain_file", same(names.as_str()))
        }
    }
}

/// `None` when there is no file to compare with. A proxy may have the file without a box behind it, but must not.
fn domain_file_public(files: &[DomainFile], box_answers: bool) -> Option<Finding> {
    let mut compared = None;
    for file in files {
        let (Ok(own), Some(public)) = (&file.bytes, &file.public) else { continue };
        let why = match public {
            Ok(reply) if reply.status == 200 && reply.body == *own => {
                compared = Some(&file.name);
                continue;
            }
            Ok(reply) if reply.status == 200 => difference(own, &reply.body),
            Ok(reply) => both(format!("状态 {}", reply.status), format!("status {}", reply.status)),
            Err(fault) => same(fault.to_string()),
        };
        if !box_answers {
            return Some(Finding::not_tried("domain_file_public", no_page()));
        }
        let detail = both(
            format!("/{} 到达时与文件不同：{}", file.name, why.zh),
            format!("/{} does not arrive as it is: {}", file.name, why.en),
        );
        let remedy = both(
            "让代理把 /MP_verify_ 开头的地址原样转发给图盒；图盒须使用同一个 wechat.verify_dir",
            "let the proxy hand addresses that begin with /MP_verify_ to the box unchanged; the box must have the same wechat.verify_dir",
        );
        return Some(Finding::fault("domain_file_public", detail, remedy));
    }
    let name = compared?;
    let detail = both(format!("/{name} 逐字节一致"), format!("/{name} arrives byte for byte"));
    Some(Finding::ok("domain_file_public", detail))
}

fn difference(own: &[u8], arrived: &[u8]) -> Both {
    match arrived {
        _ if arrived.trim_ascii() == own.trim_ascii() => {
            both("开头或结尾的空白不同", "white space at its start or end differs")
        }
        _ if arrived.trim_ascii_start().starts_with(b"<") => both("返回了网页", "a web page came instead"),
        _ => both("内容不同", "other content came"),
    }
}

/// Nothing answers, or not in a way that a phone would take.
fn unreachable(public_url: &str, fault: &PassageFault, box_runs: bool) -> Finding {
    let kind = fault.kind();
    let cause = fault.to_string();
    let detail =
        both(format!("{public_url} 无法访问：{cause}"), format!("{public_url} does not answer: {cause}"));
    let wrong_certificate =
        kind.starts_with("tls_") && !["tls_time_limit", "tls_cut", "tls_broke"].contains(&kind);
    let remedy = match kind {
        "tls_not_yet_valid" => both("先校准时钟", "set the clock first"),
        _ if wrong_certificate => both(
            "检查代理的证书：域名、有效期、完整的证书链；自签证书手机不会接受",
            "look at the proxy's certificate: its name, its dates, its whole chain; phones refuse one that you signed yourself",
        ),
        "resolve_no_such_name" => both(
            "在域名服务商处为它添加解析记录，或改正 public_url",
            "add a DNS record for it, or correct public_url",
        ),
        _ if !box_runs => {
            both("图盒还没有运行：启动后再检查", "the box does not run yet: start it, then check again")
        }
        _ => both(
            "检查代理、隧道和端口转发（80、443）；有些路由器不让内网访问自己的公网地址，此时用手机流量打开试试",
            "look at proxy, tunnel and port forwarding (80, 443); some routers do not let a machine reach its own public \
             address: then try it on a phone without Wi-Fi",
        ),
    };
    if box_runs || wrong_certificate || kind == "resolve_no_such_name" {
        return Finding::fault("public_url", detail, remedy);
    }
    Finding::warning("public_url", detail, remedy)
}

fn not_our_page(config: &Config, page: &Reply, box_runs: bool) -> Finding {
    let (public_url, listen, status) = (&config.public_url, config.listen, page.status);
    let forward = || {
        both(
            format!("让代理把整个域名转发到 http://{listen}"),
            format!("let the proxy hand the whole domain to http://{listen}"),
        )
    };
    match status {
        300..400 => {
            let to = for_log(page.header("location").unwrap_or_default(), 200);
            Finding::fault(
                "public_url",
                both(format!("{public_url} 转到了 {to}"), format!("{public_url} sends visitors on to {to}")),
                both(
                    "把 public_url 设为手机最终看到的地址，或去掉代理的跳转",
                    "set public_url to the address that phones end up at, or take the redirect out of the proxy",
                ),
            )
        }
        502..=504 if !box_runs => Finding::warning(
            "public_url",
            both(
                format!("{public_url} 的代理有回答（{status}），后面没有图盒"),
                format!("the proxy of {public_url} answers ({status}), and there is no box behind it"),
            ),
            both("图盒还没有运行：启动后再检查", "the box does not run yet: start it, then check again"),
        ),
        502..=504 => Finding::fault(
            "public_url",
            both(
                format!("{public_url} 的代理（{status}）连接不到图盒"),
                format!("the proxy of {public_url} does not reach the box ({status})"),
            ),
            forward(),
        ),
        _ => Finding::fault(
            "public_url",
            both(
                format!("{public_url} 上是别的网站（状态 {status}）"),
                format!("{public_url} shows something else than the box's page (status {status})"),
            ),
            forward(),
        ),
    }
}

/// It answers; now whether phones and WeChat's console can use such an address.
fn shape(public_url: &str, origin: &Origin) -> Finding {
    let for_trials = both(
        "仅供试用；正式使用需要 https 的域名",
        "good for trials only; real use needs a domain with https",
    );
    let says = |zh: &str, en: &str| {
        both(format!("{public_url} 有回答，但{zh}"), format!("{public_url} answers, but {en}"))
    };
    let is_loopback = match origin.host() {
        Host::Name(name) => name == "localhost",
        Host::Address(address) => address.is_loopback(),
    };
    if is_loopback {
        let detail = says("只有本机能访问", "this machine alone can reach it");
        return Finding::warning("public_url", detail, for_trials);
    }
    if matches!(origin.host(), Host::Address(_)) {
        let detail = says(
            "微信的 JS接口安全域名 不接受 IP 地址",
            "WeChat takes no IP address for a JS interface domain",
        );
        return Finding::warning("public_url", detail, for_trials);
    }
    if origin.scheme() == Scheme::Https && origin.port() != 443 {
        let detail = says(
            "微信的 JS接口安全域名 可能不接受 443 以外的端口",
            "WeChat may take no other port than 443 for a JS interface domain",
        );
        return Finding::warning("public_url", detail, both("改用 443 端口", "use port 443"));
    }
    Finding::ok("public_url", both(format!("{public_url} 有回答"), format!("{public_url} answers")))
}

/// The signature that the page holds; an empty object while the box has no ticket.
fn signature_in(page: &Reply) -> Option<Value> {
    let html = std::str::from_utf8(&page.body).ok().filter(|_| page.status == 200)?;
    let (_, rest) = html.split_once(SIGNATURE_ELEMENT)?;
    let (json, _) = rest.split_once("</script>")?;
    serde_json::from_str(json).ok()
}

fn page_signature(config: &Config, url: &str, signature: &Value, ticket: Option<&ProbedTicket>) -> Finding {
    let text = |key: &str| signature[key].as_str().unwrap_or_default();
    if text("signature").is_empty() {
        return Finding::warning(
            "page",
            both(
                "页面还没有签名：图盒还没有 jsapi_ticket",
                "the page has no signature: the box has no jsapi_ticket yet",
            ),
            both(
                "等一分钟再检查；如果一直如此，看 tubox status",
                "check again in a minute; if it stays, see tubox status",
            ),
        );
    }
    if text("url") != url {
        return wrong_address(config, url, text("url"));
    }
    if text("appId") != config.wechat.app_id {
        let other = for_log(text("appId"), 64);
        return Finding::fault(
            "page",
            both(format!("签名属于另一个账号 {other}"), format!("it is signed for another account, {other}")),
            both("用现在的设置重启图盒", "start the box again with these settings"),
        );
    }
    let signed = PageSignature {
        app_id: text("appId").to_owned(),
        timestamp: signature["timestamp"].as_i64().unwrap_or(0),
        nonce_str: text("nonceStr").to_owned(),
        signature: text("signature").to_owned(),
        url: url.to_owned(),
    };
    match ticket.map(|ticket| ticket.has_made(&signed)) {
        Some(false) => Finding::warning(
            "page",
            both(
                "地址正确，但签名用的不是微信现在给出的 jsapi_ticket",
                "the address is right, but the signature was made with another jsapi_ticket than the one that WeChat gives now",
            ),
            both(
                "三分钟后再检查；如果一直如此，重启图盒",
                "check again in three minutes; if it stays, start the box again",
            ),
        ),
        _ => Finding::ok(
            "page",
            both(
                "恰好为所访问的地址签名，含查询参数",
                "made for exactly the address that was asked for, its query included",
            ),
        ),
    }
}

/// A page that is signed for another address than the phone's is refused by WeChat ("invalid signature").
fn wrong_address(config: &Config, url: &str, signed: &str) -> Finding {
    let shown = for_log(signed, 200);
    let detail = both(
        format!("访问的是 {url}，签名却是为 {shown}"),
        format!("{url} was asked for, and the page is signed for {shown}"),
    );
    let path = |text: &str| text.strip_prefix(&config.public_url).map(str::to_owned);
    let remedy = match (path(url), path(signed)) {
        (Some(_), None) => both(
            "运行中的图盒使用另一个 public_url：用现在的设置重启它",
            "the running box has another public_url: start it again with these settings",
        ),
        (Some(asked), Some(signed)) if asked.split('?').next() == signed.split('?').next() => both(
            "代理改动或丢弃了查询参数：让它原样转发",
            "the proxy changes or drops the query: let it hand the address on unchanged",
        ),
        _ => both(
            "代理改动了路径：让它原样转发（不要去掉或添加前缀）",
            "the proxy changes the path: let it hand the address on unchanged (no prefix added or taken away)",
        ),
    };
    Finding::fault("page", detail, remedy)
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;
    use crate::door::outbound::{ConnectFault, ResolveFault, TlsFault};

    #[test]
    fn silence_is_a_fault_only_when_somebody_should_answer() {
        let connect =
            PassageFault::Connect { target: "a:443".into(), why: ConnectFault::Refused, tried: Vec::new() };
        let name = PassageFault::Resolve { host: "a".into(), why: ResolveFault::NoSuchName };
        let certificate = PassageFault::Tls { host: "a".into(), why: TlsFault::WrongName };
        let state = |fault, runs| unreachable("https://a", fault, runs).state;
        assert_eq!((state(&connect, false), state(&connect, true)), (State::Warning, State::Fault));
        assert_eq!((state(&name, false), state(&name, true)), (State::Fault, State::Fault));
        assert_eq!((state(&certificate, false), state(&certificate, true)), (State::Fault, State::Fault));
    }

    #[test]
    fn addresses_that_wechat_does_not_take_are_told() {
        let state = |url: &str| shape(url, &Origin::parse(url).unwrap()).state;
        assert_eq!(state("https://pics.example.org"), State::Ok);
        for odd in [
            "https://pics.example.org:8443",
            "https://203.0.113.5",
            "http://127.0.0.1:8080",
            "https://localhost",
        ] {
            assert_eq!(state(odd), State::Warning, "{odd}");
        }
        assert_eq!(public_origin("http://192.168.1.5").unwrap_err().state, State::Warning);
    }

    #[test]
    fn what_is_wrong_with_a_domain_file_is_named() {
        assert_eq!(difference(b"abc", b"abc\n").en, "white space at its start or end differs");
        assert_eq!(difference(b"abc", b" <!doctype html>").en, "a web page came instead");
        assert_eq!(difference(b"abc", b"xyz").en, "other content came");
    }
}
