//! The two languages that people read. Texts live beside the thing they speak of; this says only which one a
//! person prefers.

/// A language that the box speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// 简体中文, the default.
    Chinese,
    /// English.
    English,
}

/// One text in both languages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    /// 中文
    pub zh: &'static str,
    /// English
    pub en: &'static str,
}

impl Words {
    /// The text in `language`.
    pub fn pick(&self, language: Language) -> &'static str {
        match language {
            Language::Chinese => self.zh,
            Language::English => self.en,
        }
    }
}

impl Language {
    /// By an Accept-Language header: Chinese unless English is wanted more (RFC 9110 §12.5.4).
    pub fn from_accept_language(header: &str) -> Language {
        let english = weight_of(header, "en");
        let chinese = weight_of(header, "zh");
        if english > chinese { Language::English } else { Language::Chinese }
    }

    /// The BCP 47 tag for an HTML page.
    pub fn tag(self) -> &'static str {
        match self {
            Language::Chinese => "zh-CN",
            Language::English => "en",
        }
    }
}

/// The highest weight that a header gives to a language, in thousandths; earlier entries win ties by a hair.
fn weight_of(header: &str, language: &str) -> u32 {
    let mut best = 0;
    for (position, entry) in header.split(',').take(32).enumerate() {
        let mut parts = entry.trim().split(';');
        let tag = parts.next().unwrap_or_default().trim();
        let primary = tag.split('-').next().unwrap_or_default();
        if !primary.eq_ignore_ascii_case(language) {
            continue;
        }
        let quality =
            parts.find_map(|part| part.trim().strip_prefix("q=")).and_then(|q| q.parse::<f32>().ok());
        let thousandths = (quality.unwrap_or(1.0).clamp(0.0, 1.0) * 1000.0) as u32;
        if thousandths > 0 {
            best = best.max(thousandths * 100 - position as u32);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn english_must_be_preferred() {
        let cases = [
            ("", Language::Chinese),
            ("en", Language::English),
            ("zh-CN,zh;q=0.9,en;q=0.8", Language::Chinese),
            ("en-US,en;q=0.9,zh;q=0.8", Language::English),
            ("fr,de", Language::Chinese),
            ("fr,en;q=0.1", Language::English),
            ("en;q=0", Language::Chinese),
            ("zh;q=0.2,en;q=0.7", Language::English),
            (";;q=,,,", Language::Chinese),
        ];
        for (header, expected) in cases {
            assert_eq!(Language::from_accept_language(header), expected, "{header:?}");
        }
    }
}
