//! The operator's two pages (the page itself and the contact sheet), built into the binary. They hold no data
//! and no secret, so they are open: whoever has no token sees a place to type it.

use super::super::answer::Answer;
use super::super::asset::hashed_name;
use super::super::visit::Visit;
use crate::ground::packed::Packed;
use anyhow::{Context, Result};
use rust_embed::RustEmbed;
use std::collections::HashMap;

#[derive(RustEmbed)]
#[folder = "$OUT_DIR/assets/admin"]
struct AdminFiles;

/// Everything from this box, nothing from elsewhere. `data:` is the empty icon, which saves a request.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// The pages, by the name in the address below `/admin/`.
const PAGES: [(&str, &str); 2] = [("", "admin.html"), ("sheet", "sheet.html")];

/// Files and the placeholder in the pages that their address takes.
const LINKED: [(&str, &str, &str); 5] = [
    ("style.css", "{{style_url}}", "text/css; charset=utf-8"),
    ("words.js", "{{words_url}}", "text/javascript; charset=utf-8"),
    ("core.js", "{{core_url}}", "text/javascript; charset=utf-8"),
    ("admin.js", "{{admin_url}}", "text/javascript; charset=utf-8"),
    ("sheet.js", "{{sheet_url}}", "text/javascript; charset=utf-8"),
];

const LANGUAGE: &str = "{{lang}}";

/// The pages, ready to serve.
pub(super) struct Pages {
    templates: HashMap<&'static str, String>,
    /// By the hashed name: the file's own name and its type.
    linked: HashMap<String, (&'static str, &'static str)>,
}

impl Pages {
    pub(super) fn load() -> Result<Pages> {
        let mut linked = HashMap::new();
        let mut addresses = Vec::new();
        for (name, placeholder, content_type) in LINKED {
            let hashed = hashed_name::<AdminFiles>(name)?;
            addresses.push((placeholder, format!("/admin/assets/{hashed}")));
            linked.insert(hashed, (name, content_type));
        }
        let mut templates = HashMap::new();
        for (address, name) in PAGES {
            let file = AdminFiles::get(name).with_context(|| format!("{name} is not built in"))?;
            let mut template = String::from_utf8(Packed(file.data).unpacked())
                .with_context(|| format!("{name} is not UTF-8"))?;
            for (placeholder, to) in &addresses {
                template = template.replace(placeholder, to);
            }
            templates.insert(address, template);
        }
        Ok(Pages { templates, linked })
    }

    /// What is open to everybody: a page or a file of it, by its name below `/admin/`.
    pub(super) fn answer(&self, name: &str, visit: &Visit) -> Option<Answer> {
        if let Some(template) = self.templates.get(name) {
            return Some(Answer::page(template.replace(LANGUAGE, visit.language.tag()), POLICY));
        }
        let (file, content_type) = self.linked.get(name.strip_prefix("assets/")?)?;
        Some(Answer::asset(Packed(AdminFiles::get(file)?.data), content_type, visit.takes_deflate))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::visit::Method;
    use super::*;

    #[test]
    fn only_the_known_files_are_built_in_and_all_are_linked() {
        let mut names: Vec<String> = AdminFiles::iter().map(|name| name.into_owned()).collect();
        names.sort();
        let mut known: Vec<&str> =
            LINKED.iter().map(|file| file.0).chain(PAGES.iter().map(|page| page.1)).collect();
        known.sort_unstable();
        assert_eq!(names, known);
        let (pages, visit) = (Pages::load().unwrap(), Visit::new(Method::Get, "/"));
        let all: String = pages.templates.values().cloned().collect();
        for name in pages.linked.keys() {
            assert!(all.contains(&format!("\"/admin/assets/{name}\"")), "{name} is not linked");
            assert!(pages.answer(&format!("assets/{name}"), &visit).is_some());
        }
        assert!(!all.replace(LANGUAGE, "").contains("{{"), "an unfilled placeholder");
        assert!(!POLICY.contains("unsafe") && pages.answer("assets/admin.html", &visit).is_none());
    }

    #[test]
    fn the_pages_stay_small() {
        let files = AdminFiles::iter().filter_map(|name| AdminFiles::get(&name));
        let bytes: usize = files.map(|file| Packed(file.data).unpacked().len()).sum();
        assert!((1..64 * 1024).contains(&bytes), "the operator's pages weigh {bytes} bytes");
    }
}
