//! Text from strangers, made fit for a log line and for HTML.

use std::borrow::Cow;
use std::fmt::Write;

/// `text` on one line without control characters, cut to `length_max` characters: fit for a log line. No
/// terminal escape and no forged second line survives.
pub fn for_log(text: &str, length_max: usize) -> String {
    let mut clean = String::with_capacity(text.len().min(4 * length_max));
    // Writing to a String cannot fail.
    let _ = OneLine::new(&mut clean, length_max).write_str(text);
    clean
}

/// What is written to it goes to `out` as [`for_log`] would have it.
pub struct OneLine<'o> {
    out: &'o mut String,
    /// Characters that are still taken; `None` behind the `…`.
    left: Option<usize>,
}

impl<'o> OneLine<'o> {
    /// Takes `length_max` characters; the rest is one `…`.
    pub fn new(out: &'o mut String, length_max: usize) -> OneLine<'o> {
        OneLine { out, left: Some(length_max) }
    }
}

impl Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for character in text.chars() {
            let Some(left) = self.left else { break };
            self.left = left.checked_sub(1);
            if self.left.is_none() {
                self.out.push('…');
                break;
            }
            if character.is_control() || is_direction_mark(character) {
                write!(self.out, "\\u{{{:x}}}", u32::from(character))?;
            } else {
                self.out.push(character);
            }
        }
        Ok(())
    }
}

/// `json` as the content of a `<script type="application/json">` element: nothing in it can end the element.
pub fn json_for_html(json: &str) -> Cow<'_, str> {
    const ENDS: [(char, &str); 3] = [('<', "\\u003c"), ('\u{2028}', "\\u2028"), ('\u{2029}', "\\u2029")];
    let mut clean = Cow::Borrowed(json);
    for (end, escaped) in ENDS {
        if clean.contains(end) {
            clean = Cow::Owned(clean.replace(end, escaped));
        }
    }
    clean
}

/// Characters that turn the direction of what follows and can make a line read as something else.
fn is_direction_mark(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_text_stays_on_its_line() {
        assert_eq!(for_log("a\nb\x1b[31m", 99), "a\\u{a}b\\u{1b}[31m");
        assert_eq!(for_log("abcdef", 3), "abc…");
        let mut pieces = String::from("> ");
        let mut line = OneLine::new(&mut pieces, 5);
        for piece in ["ab", "\n", "cde", "fg"] {
            line.write_str(piece).unwrap();
        }
        assert_eq!(pieces, "> ab\\u{a}cd…");
    }

    #[test]
    fn json_cannot_leave_its_element() {
        let json = serde_json::json!({"a": "</script><script>"}).to_string();
        let embedded = json_for_html(&json);
        assert!(!embedded.contains('<'));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&embedded).unwrap()["a"], "</script><script>");
    }
}
