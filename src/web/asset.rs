//! The page's files, built into the binary. Scripts and style are served under a name that holds a hash of
//! their content; the page itself is filled in for every visit.

use crate::door::outbound::Origin;
use crate::ground::hex::hex;
use crate::ground::language::Language;
use crate::ground::packed::Packed;
use anyhow::{Context, Result};
use rust_embed::RustEmbed;
use std::collections::HashMap;

#[derive(RustEmbed)]
#[folder = "$OUT_DIR/assets/page"]
struct PageFiles;

/// A file of the page.
#[derive(Clone)]
pub struct Asset {
    pub file: Packed,
    pub content_type: &'static str,
}

/// The page's files, ready to serve.
pub struct PageAssets {
    page: Vec<Piece>,
    by_name: HashMap<String, Asset>,
    policy: String,
}

/// A part of the page: it is taken apart once, so that a visit only puts it together.
enum Piece {
    Text(String),
    LanguageTag,
    Config,
    Settings,
}

/// What is filled in for every visit.
const FILLED_IN: [(&str, Piece); 3] = [
    ("{{lang}}", Piece::LanguageTag),
    ("{{jssdk_config}}", Piece::Config),
    ("{{settings}}", Piece::Settings),
];

/// Files and the placeholder in the template that their address takes.
const LINKED: [(&str, &str); 4] = [
    ("style.css", "{{style_url}}"),
    ("words.js", "{{words_url}}"),
    ("core.js", "{{core_url}}"),
    ("page.js", "{{script_url}}"),
];

impl PageAssets {
    /// Loads the files; `jssdk_urls` are the only foreign addresses that the page may talk to.
    pub fn load(jssdk_urls: &[String]) -> Result<PageAssets> {
        let template = file("page.html")?;
        let mut template = String::from_utf8(template.file.unpacked()).context("page.html is not UTF-8")?;
        let mut by_name = HashMap::new();
        for (name, placeholder) in LINKED {
            let (asset, hashed) = (file(name)?, hashed_name::<PageFiles>(name)?);
            template = template.replace(placeholder, &format!("/assets/{hashed}"));
            by_name.insert(hashed, asset);
        }
        Ok(PageAssets { page: pieces(&template), by_name, policy: policy(jssdk_urls) })
    }

    /// A linked file by the name that the page uses.
    pub fn get(&self, name: &str) -> Option<Asset> {
        self.by_name.get(name).cloned()
    }

    /// The page for one visit. Both JSON texts must be fit for a script element.
    pub fn page(&self, language: Language, config_json: &str, settings_json: &str) -> String {
        let texts = self.page.iter().map(|piece| match piece {
            Piece::Text(text) => text.as_str(),
            Piece::LanguageTag => language.tag(),
            Piece::Config => config_json,
            Piece::Settings => settings_json,
        });
        let mut page = String::with_capacity(texts.clone().map(str::len).sum());
        page.extend(texts);
        page
    }

    /// The page's Content-Security-Policy.
    pub fn policy(&self) -> &str {
        &self.policy
    }
}

/// A text that only looks like a placeholder stays as it is.
fn pieces(template: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = template;
    let next = |rest: &str| {
        let places =
            FILLED_IN.into_iter().filter_map(|(text, piece)| Some((rest.find(text)?, text.len(), piece)));
        places.min_by_key(|(at, _, _)| *at)
    };
    while let Some((at, length, piece)) = next(rest) {
        pieces.extend([Piece::Text(rest[..at].to_owned()), piece]);
        rest = &rest[at + length..];
    }
    pieces.push(Piece::Text(rest.to_owned()));
    pieces
}

fn file(name: &str) -> Result<Asset> {
    let embedded = PageFiles::get(name).with_context(|| format!("{name} is not built in"))?;
    let content_type = match name.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        _ => "text/html; charset=utf-8",
    };
    Ok(Asset { file: Packed(embedded.data), content_type })
}

/// The name under which a file is served: it changes with its content.
pub(super) fn hashed_name<Files: RustEmbed>(name: &str) -> Result<String> {
    let file = Files::get(name).with_context(|| format!("{name} is not built in"))?;
    let hash = hex(&file.metadata.sha256_hash()[..6]);
    let (stem, extension) = name.rsplit_once('.').context("a page file without extension")?;
    Ok(format!("{stem}.{hash}.{extension}"))
}

/// Own files and WeChat's script only. Thumbnails come as data and as WeChat's local ids. The bridge that WeChat's
/// client puts into pages calls it by opening hidden frames (`weixin://dispatch_message/`), some versions with two
/// schemes more while it starts. That no page may forbid them is *inferred*: without them nothing would reach `wx`.
fn policy(jssdk_urls: &[String]) -> String {
    let mut foreign: Vec<String> = jssdk_urls.iter().filter_map(|url| origin_of(url)).collect();
    foreign.dedup();
    let foreign_scripts = foreign.join(" ");
    // The simulator's script talks to the simulator; WeChat's talks to the client it runs in.
    let loopback: Vec<&str> =
        foreign.iter().filter(|url| url.starts_with("http://")).map(String::as_str).collect();
    format!(
        "default-src 'none'; script-src 'self' {foreign_scripts}; style-src 'self'; \
         img-src 'self' data: blob: weixin: wxlocalresource:; connect-src 'self' {}; \
         frame-src weixin: weixinping: weixinpreinject:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        loopback.join(" ")
    )
}

fn origin_of(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let origin = format!("{scheme}://{}", rest.split('/').next()?);
    Origin::parse(&origin).ok().map(|_| origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_known_files_are_built_in_and_linked() {
        let mut names: Vec<_> = PageFiles::iter().collect();
        names.sort();
        assert_eq!(names, ["core.js", "page.html", "page.js", "style.css", "words.js"]);
        let assets = PageAssets::load(&["https://res.wx.qq.com/open/js/x.js".into()]).unwrap();
        let page = assets.page(Language::English, "{\"a\":\"{{settings}}\"}", "{}");
        assert!(!page.replace("\"{{settings}}\"", "").contains("{{"), "an unfilled placeholder");
        assert!(page.contains("{\"a\":\"{{settings}}\"}"), "filled-in text was filled in again");
        for name in assets.by_name.keys() {
            assert!(page.contains(&format!("\"/assets/{name}\"")));
        }
        assert!(assets.policy().contains("script-src 'self' https://res.wx.qq.com;"));
        assert!(assets.policy().contains("frame-src weixin: weixinping: weixinpreinject:;"));
        assert!(!assets.policy().contains("unsafe"));
    }

    #[test]
    fn all_files_together_stay_small() {
        let files = || PageFiles::iter().filter_map(|name| PageFiles::get(&name));
        let bytes: usize = files().map(|file| Packed(file.data).unpacked().len()).sum();
        assert!((1..40 * 1024).contains(&bytes), "the page weighs {bytes} bytes");
        let packed: usize = files().map(|file| file.data.len()).sum();
        assert!(packed < 17 * 1024, "the page's way takes {packed} bytes");
    }
}
