//! WeChat asked step by step, for `tubox check`: a token, a ticket, and whether pictures may be fetched at all.
//! Each step gives the fault as it came. Nothing is cached, kept on disk or tried again, so a box that runs at
//! the same time does not notice; only with [`TokenKind::Classic`] a new token ends the one before, and the
//! caller has to know whether somebody uses that.

use super::api::{Api, Call};
use super::credentials::{Credentials, CredentialsOptions, TokenKind};
use super::fault::Fault;
use super::signature::{self, PageSignature};
use crate::door::outbound::{Origin, OutboundDoor};
use crate::ground::clock::SharedClock;
use crate::ground::media_id::MediaId;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// What a probe needs to know.
pub struct ProbeOptions {
    /// The account.
    pub app_id: String,
    /// The account's secret; never shown.
    pub app_secret: String,
    /// The API's hosts, in the order in which they are tried.
    pub origins: Vec<Origin>,
    /// Which call gives the access_token.
    pub token_kind: TokenKind,
    /// The way out.
    pub door: Arc<OutboundDoor>,
    /// Time.
    pub clock: SharedClock,
}

/// Asks WeChat, one step at a time.
pub struct Probe {
    api: Arc<Api>,
    credentials: Credentials,
    app_secret: String,
}

/// An access_token that cannot be printed.
pub struct ProbedToken(String);

/// A jsapi_ticket that cannot be printed.
pub struct ProbedTicket(String);

impl Probe {
    /// A probe; makes no call.
    pub fn new(options: ProbeOptions) -> Probe {
        let api = Arc::new(Api::new(options.door, options.origins, options.clock.clone()));
        let credentials = Credentials::open(CredentialsOptions {
            app_id: options.app_id,
            app_secret: options.app_secret.clone(),
            token_kind: options.token_kind,
            // Never written: only the bare fetches are used, which keep nothing.
            file: PathBuf::new(),
            api: api.clone(),
            clock: options.clock,
        });
        Probe { api, credentials, app_secret: options.app_secret }
    }

    /// Fetches an access_token, without force.
    pub fn token(&self) -> Result<ProbedToken, Fault> {
        let fetched = self.credentials.fetch_token(false).map_err(|fault| self.without_secrets(fault, ""))?;
        Ok(ProbedToken(fetched.0))
    }

    /// Fetches the jsapi_ticket.
    pub fn ticket(&self, token: &ProbedToken) -> Result<ProbedTicket, Fault> {
        let fetched = self.credentials.fetch_ticket(&token.0);
        fetched.map(ProbedTicket).map_err(|fault| self.without_secrets(fault, &token.0))
    }

    /// Asks for a picture that nobody has uploaded. "No such picture" (40007) means that pictures may be fetched.
    pub fn may_fetch(&self, token: &ProbedToken, unknown: &MediaId) -> Result<(), Fault> {
        let target = format!("/cgi-bin/media/get?access_token={}&media_id={unknown}", token.0);
        match self.api.call_for_reply(&Call { target: &target, json: None, is_repeatable: true }) {
            Ok(_) => Ok(()),
            Err(fault) if fault.code == "40007" => Ok(()),
            Err(fault) => Err(self.without_secrets(fault, &token.0)),
        }
    }

    /// WeChat's clock minus ours, from the last answer.
    pub fn clock_offset_ms(&self) -> Option<i64> {
        self.api.clock_offset_ms()
    }

    /// What a server says is shown to people, so it must not hold what was sent to it.
    fn without_secrets(&self, mut fault: Fault, token: &str) -> Fault {
        for secret in [self.app_secret.as_str(), token] {
            if !secret.is_empty() && fault.detail.contains(secret) {
                fault.detail = fault.detail.replace(secret, "(hidden)");
            }
        }
        fault
    }
}

impl ProbedTicket {
    /// Whether a page's signature was made with this ticket.
    pub fn has_made(&self, page: &PageSignature) -> bool {
        signature::sign(&self.0, &page.nonce_str, page.timestamp, &page.url) == page.signature
    }
}

/// The address that WeChat saw a call come from; it is told only when the call is refused for it (40164: `invalid
/// ip 203.0.113.7 ipv6 ::ffff:203.0.113.7, not in whitelist`, *reported*).
pub fn address_seen(fault: &Fault) -> Option<IpAddr> {
    let words = fault.detail.split([' ', ',', ';', '[', ']']);
    words.filter_map(|word| word.parse::<IpAddr>().ok()).map(|address| address.to_canonical()).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_stands_in_the_text_of_the_refusal() {
        let seen = |text: &str| address_seen(&Fault::from_errcode(40164, text)).map(|ip| ip.to_string());
        let now = "invalid ip 203.0.113.7 ipv6 ::ffff:203.0.113.7, not in whitelist rid: 64e5d2d0-1-2";
        assert_eq!(seen(now).as_deref(), Some("203.0.113.7"));
        let before = "invalid ip 198.51.100.9, not in whitelist hint: [Xy12]";
        assert_eq!(seen(before).as_deref(), Some("198.51.100.9"));
        assert_eq!(seen("ipv6 ::ffff:203.0.113.7, not in whitelist").as_deref(), Some("203.0.113.7"));
        assert_eq!(seen("access clientip is not registered"), None);
    }
}
