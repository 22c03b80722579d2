//! Where a passage may lead: scheme, host and port, read strictly. A text that two programs could read in two
//! ways (a path, user information, `127.1`, a bare IPv6 address) is refused instead of guessed at.
//!
//! Plain http is for this machine only, so that no token ever crosses a network unencrypted.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use thiserror::Error;

const HOST_LENGTH_MAX: usize = 253;
const LABEL_LENGTH_MAX: usize = 63;

/// How an origin is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain, and only to this machine.
    Http,
    /// TLS.
    Https,
}

/// A host as a name or as an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name in lower case, to be looked up.
    Name(String),
    /// An address, written out.
    Address(IpAddr),
}

/// Scheme, host and port of a server that requests may go to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    scheme: Scheme,
    host: Host,
    port: u16,
}

/// An HTTP proxy that is asked to CONNECT.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProxyAddress {
    host: Host,
    port: u16,
}

/// Why a text is no origin and no proxy address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OriginError {
    /// It does not start with a known scheme.
    #[error("does not start with {expected}")]
    Scheme {
        /// The schemes that are taken here.
        expected: &'static str,
    },
    /// It holds more than scheme, host and port.
    #[error("holds {part}; give only scheme, host and port, as in https://api.weixin.qq.com")]
    TooMuch {
        /// What is too much.
        part: &'static str,
    },
    /// The host is neither a name nor an address.
    #[error("has no valid host: {why}")]
    Host {
        /// What is wrong with it.
        why: &'static str,
    },
    /// The port is no number from 1 to 65535.
    #[error("has no valid port: it must be a number from 1 to 65535")]
    Port,
    /// A proxy address without a port.
    #[error("names no port; write http://host:port")]
    PortMissing,
    /// Plain http to another machine.
    #[error(
        "is plain http to another machine; http:// is for 127.0.0.0/8, [::1] and localhost only, use https://"
    )]
    PlainToOtherMachine,
}

impl Origin {
    /// Reads `https://host`, `https://host:port`, or the same with `http://` for this machine.
    pub fn parse(text: &str) -> Result<Origin, OriginError> {
        let (scheme, rest) = match scheme_and_rest(text) {
            Some(("https", rest)) => (Scheme::Https, rest),
            Some(("http", rest)) => (Scheme::Http, rest),
            _ => return Err(OriginError::Scheme { expected: "https:// or http://" }),
        };
        let (host, port) = parse_authority(rest)?;
        if scheme == Scheme::Http && !host.is_this_machine() {
            return Err(OriginError::PlainToOtherMachine);
        }
        Ok(Origin { scheme, host, port: port.unwrap_or(scheme.default_port()) })
    }

    /// How it is spoken to.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port, also where the text named none.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Host and port as the `Host` header has them: the scheme's own port is left out.
    pub fn authority(&self) -> String {
        if self.port == self.scheme.default_port() { self.host.to_string() } else { self.host_and_port() }
    }

    /// Host and port as a CONNECT request has them: the port is always there.
    pub fn host_and_port(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl ProxyAddress {
    /// Reads `http://host:port`.
    pub fn parse(text: &str) -> Result<ProxyAddress, OriginError> {
        let Some(("http", rest)) = scheme_and_rest(text) else {
            return Err(OriginError::Scheme { expected: "http://" });
        };
        let (host, port) = parse_authority(rest)?;
        Ok(ProxyAddress { host, port: port.ok_or(OriginError::PortMissing)? })
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Scheme {
    fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Scheme::Http => "http://",
            Scheme::Https => "https://",
        }
    }
}

impl Host {
    fn is_this_machine(&self) -> bool {
        match self {
            Host::Name(name) => name == "localhost",
            Host::Address(address) => address.is_loopback(),
        }
    }
}

fn scheme_and_rest(text: &str) -> Option<(&'static str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    ["https", "http"].into_iter().find(|known| scheme.eq_ignore_ascii_case(known)).map(|known| (known, rest))
}

fn parse_authority(rest: &str) -> Result<(Host, Option<u16>), OriginError> {
    if let Some(part) = first_surplus(rest) {
        return Err(OriginError::TooMuch { part });
    }
    let (host, port) = match rest.strip_prefix('[') {
        Some(literal) => {
            let (address, after) =
                literal.split_once(']').ok_or(OriginError::Host { why: "']' is missing" })?;
            let port =
                (!after.is_empty()).then(|| after.strip_prefix(':').ok_or(OriginError::Port)).transpose()?;
            (parse_ipv6(address)?, port)
        }
        None => match rest.split_once(':') {
            Some((host, port)) => (parse_name_or_ipv4(host)?, Some(port)),
            None => (parse_name_or_ipv4(rest)?, None),
        },
    };
    Ok((host, port.map(parse_port).transpose()?))
}

fn first_surplus(rest: &str) -> Option<&'static str> {
    rest.chars().find_map(|character| match character {
        '/' | '\\' => Some("a path"),
        '?' => Some("a query"),
        '#' => Some("a fragment"),
        '@' => Some("a user name"),
        _ => None,
    })
}

fn parse_port(digits: &str) -> Result<u16, OriginError> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse() {
        Ok(port) if plain && port > 0 => Ok(port),
        _ => Err(OriginError::Port),
    }
}

fn parse_ipv6(literal: &str) -> Result<Host, OriginError> {
    let address = Ipv6Addr::from_str(literal)
        .map_err(|_| OriginError::Host { why: "no IPv6 address between [ and ]" })?;
    Ok(Host::Address(IpAddr::V6(address)))
}

fn parse_name_or_ipv4(host: &str) -> Result<Host, OriginError> {
    if let Ok(address) = Ipv4Addr::from_str(host) {
        return Ok(Host::Address(IpAddr::V4(address)));
    }
    let refuse = |why| Err(OriginError::Host { why });
    if host.is_empty() {
        return refuse("it is empty");
    }
    if host.len() > HOST_LENGTH_MAX {
        return refuse("it is longer than 253 characters");
    }
    if !host.is_ascii() {
        return refuse("write names in other scripts as punycode (xn--…)");
    }
    let labels: Vec<&str> = host.split('.').collect();
    if !labels.iter().all(|label| is_label(label)) {
        return refuse("a name is letters, digits and '-' between single dots");
    }
    // The C library would read 127.1 or 0x7f.0.0.1 as an address; nobody who writes it here means a name.
    if labels.last().is_some_and(|last| reads_as_number(last)) {
        return refuse("an IPv4 address is four numbers from 0 to 255");
    }
    Ok(Host::Name(host.to_ascii_lowercase()))
}

fn reads_as_number(label: &str) -> bool {
    label.bytes().all(|byte| byte.is_ascii_digit()) || label.starts_with("0x") || label.starts_with("0X")
}

fn is_label(label: &str) -> bool {
    (1..=LABEL_LENGTH_MAX).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Address(IpAddr::V4(address)) => address.fmt(f),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.scheme.prefix(), self.authority())
    }
}

impl fmt::Display for ProxyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_come_back_as_they_were_written() {
        for text in [
            "https://api.weixin.qq.com",
            "https://api2.weixin.qq.com:8443",
            "http://127.0.0.1:1234",
            "http://127.9.8.7",
            "http://localhost",
            "http://[::1]:8080",
            "https://[2001:db8::1]",
            "https://192.0.2.7:444",
        ] {
            assert_eq!(Origin::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn case_and_the_scheme_s_own_port_do_not_matter() {
        let plain = Origin::parse("https://api.weixin.qq.com").unwrap();
        assert_eq!(Origin::parse("HTTPS://API.Weixin.qq.com:443").unwrap(), plain);
        assert_eq!(plain.authority(), "api.weixin.qq.com");
        assert_eq!(plain.host_and_port(), "api.weixin.qq.com:443");
    }

    #[test]
    fn whatever_is_more_or_less_than_an_origin_is_refused() {
        let too_much = |part| OriginError::TooMuch { part };
        for (text, why) in [
            ("https://a.example/", too_much("a path")),
            ("https://a.example/x", too_much("a path")),
            ("https://a.example?x", too_much("a query")),
            ("https://a.example#x", too_much("a fragment")),
            ("https://me:pw@a.example", too_much("a user name")),
            ("https://a.example:0", OriginError::Port),
            ("https://a.example:65616", OriginError::Port),
            ("https://a.example:+80", OriginError::Port),
            ("https://a.example:", OriginError::Port),
            ("https://[::1]x", OriginError::Port),
            ("http://api.weixin.qq.com", OriginError::PlainToOtherMachine),
            ("http://192.0.2.7", OriginError::PlainToOtherMachine),
            ("http://localhost.example", OriginError::PlainToOtherMachine),
        ] {
            assert_eq!(Origin::parse(text), Err(why), "{text}");
        }
        for text in [
            "https://",
            "https://a..b",
            "https://-a",
            "https://127.1",
            "https://0x7f.1",
            "https://a.",
            "https://::1",
            "https://[::1",
            "https://[fe80::1%25eth0]",
            "https://微信.example",
            "https://a b",
            "https://a\r\nb",
        ] {
            assert!(matches!(Origin::parse(text), Err(OriginError::Host { .. })), "{text}");
        }
        for text in ["", "api.weixin.qq.com", "ftp://a.example", "https:/a.example"] {
            assert!(matches!(Origin::parse(text), Err(OriginError::Scheme { .. })), "{text}");
        }
    }

    #[test]
    fn a_proxy_address_names_its_port() {
        assert_eq!(
            ProxyAddress::parse("http://proxy.lan:3128").unwrap().to_string(),
            "http://proxy.lan:3128"
        );
        assert_eq!(ProxyAddress::parse("http://proxy.lan"), Err(OriginError::PortMissing));
        assert!(matches!(ProxyAddress::parse("https://proxy.lan:1"), Err(OriginError::Scheme { .. })));
        assert!(matches!(ProxyAddress::parse("http://me@proxy.lan:1"), Err(OriginError::TooMuch { .. })));
    }
}
