//! Bytes as hexadecimal digits.

/// `bytes` in lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// The bytes of which `text` is the hex; `None` when it is none, or in upper case.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks();
    let mut bytes = Vec::with_capacity(pairs.len());
    for [high, low] in pairs {
        bytes.push(digit(*high)? << 4 | digit(*low)?);
    }
    rest.is_empty().then_some(bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_byte_is_two_digits() {
        assert_eq!(super::hex(&[]), "");
        assert_eq!(super::hex(&[0, 0x1f, 0xa0, 0xff]), "001fa0ff");
        assert_eq!(super::unhex("001fa0ff"), Some(vec![0, 0x1f, 0xa0, 0xff]));
        assert_eq!(super::unhex(""), Some(Vec::new()));
        for none in ["0", "0g", "FF", "é"] {
            assert_eq!(super::unhex(none), None, "{none}");
        }
    }
}
