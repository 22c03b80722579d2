//! What the door says when it lets somebody not in: a status, a cause for the maintainer, and the short answer
//! that goes out. Pure; it knows nothing of sockets.

/// What every answer of the box carries, from whichever room.
const HARMLESS: &str = "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n\
                        X-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\n\
                        Referrer-Policy: no-referrer\r\nCache-Control: no-store\r\n";

/// Why a request goes no further than the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status of the answer.
    pub status: u16,
    /// The cause, in English; never holds anything that the client sent.
    pub cause: &'static str,
}

impl Refusal {
    /// 400 for `cause`.
    pub const fn malformed(cause: &'static str) -> Refusal {
        Refusal { status: 400, cause }
    }

    /// A TLS client on the plain port.
    pub const TLS: Refusal = Refusal::malformed("this port speaks plain HTTP, not TLS");
    /// A method that HTTP knows and this box does not serve.
    pub const METHOD: Refusal = Refusal { status: 405, cause: "method not allowed" };
    /// The head or the body came too slowly.
    pub const SLOW: Refusal = Refusal { status: 408, cause: "request came too slowly" };
    /// A POST that does not say how long it is.
    pub const LENGTH: Refusal = Refusal { status: 411, cause: "POST needs a Content-Length" };
    /// A body beyond the limit.
    pub const TOO_LARGE: Refusal = Refusal { status: 413, cause: "body too large" };
    /// A target beyond the limit.
    pub const TARGET: Refusal = Refusal { status: 414, cause: "target too long" };
    /// An expectation other than `100-continue`.
    pub const EXPECTATION: Refusal = Refusal { status: 417, cause: "unknown expectation" };
    /// A head beyond the limit, in bytes or in lines.
    pub const HEAD: Refusal = Refusal { status: 431, cause: "head too large" };
    /// A method nobody knows.
    pub const UNKNOWN_METHOD: Refusal = Refusal { status: 501, cause: "unknown method" };
    /// A transfer encoding other than `chunked`.
    pub const ENCODING: Refusal = Refusal { status: 501, cause: "unknown Transfer-Encoding" };
    /// The web room answered nonsense or broke off.
    pub const BAD_ANSWER: Refusal = Refusal { status: 502, cause: "no usable answer from inside" };
    /// Every place is taken by a connection with work in hand.
    pub const FULL: Refusal = Refusal { status: 503, cause: "too many connections" };
    /// The web room cannot be reached.
    pub const UNREACHABLE: Refusal = Refusal { status: 503, cause: "nobody inside to answer" };
    /// The web room did not answer in time.
    pub const NO_ANSWER: Refusal = Refusal { status: 504, cause: "no answer from inside in time" };
    /// A version other than HTTP/1.0 and HTTP/1.1.
    pub const VERSION: Refusal = Refusal { status: 505, cause: "only HTTP/1.0 and HTTP/1.1 are spoken here" };

    /// The whole answer. `head_only` answers a HEAD request: all but the body.
    pub fn render(&self, head_only: bool) -> Vec<u8> {
        let (reason, chinese) = self.texts();
        let body = format!("{{\"rc\":1,\"msg\":\"{chinese} / {}\"}}", self.cause);
        let allow = if self.status == 405 { "Allow: GET, HEAD, POST, OPTIONS\r\n" } else { "" };
        let head = format!(
            "HTTP/1.1 {} {reason}\r\nConnection: close\r\nContent-Type: application/json; charset=utf-8\r\n\
             {HARMLESS}{allow}Content-Length: {}\r\n\r\n",
            self.status,
            body.len()
        );
        let shown = if head_only { "" } else { body.as_str() };
        [head.as_bytes(), shown.as_bytes()].concat()
    }

    fn texts(&self) -> (&'static str, &'static str) {
        match self.status {
            405 => ("Method Not Allowed", "不支持这种请求方法"),
            408 => ("Request Timeout", "请求太慢，请检查网络后重试"),
            411 => ("Length Required", "请求缺少长度"),
            413 => ("Content Too Large", "提交的内容太大"),
            414 => ("URI Too Long", "网址太长"),
            417 => ("Expectation Failed", "不支持的 Expect"),
            431 => ("Request Header Fields Too Large", "请求头太大"),
            501 => ("Not Implemented", "不支持的请求"),
            502 => ("Bad Gateway", "服务内部出错，请稍后重试"),
            503 => ("Service Unavailable", "服务繁忙，请稍后重试"),
            504 => ("Gateway Timeout", "服务响应超时，请稍后重试"),
            505 => ("HTTP Version Not Supported", "不支持的 HTTP 版本"),
            _ => ("Bad Request", "请求格式不正确"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_framed_and_its_body_is_json() {
        for refusal in
            [Refusal::malformed("x"), Refusal::METHOD, Refusal::SLOW, Refusal::FULL, Refusal::VERSION]
        {
            let text = String::from_utf8(refusal.render(false)).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {} ", refusal.status)), "{head}");
            assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
            let json: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(json["rc"], 1);
            assert!(json["msg"].as_str().unwrap().ends_with(refusal.cause));
            assert_eq!(head.contains("Allow: "), refusal.status == 405);
            assert_eq!(refusal.render(true), [head.as_bytes(), b"\r\n\r\n"].concat());
        }
    }
}
