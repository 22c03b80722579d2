//! The page's cookie: only clients that were given the page may submit. Signed with a key of this box, good for
//! some hours, the same for every client: it proves a visit, it identifies nobody.

use crate::ground::clock::SharedClock;
use crate::ground::durable;
use crate::ground::hex::{hex, unhex};
use crate::ground::random::SharedRandom;
use anyhow::{Context, Result};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt::Write;
use std::path::Path;

/// The visitors' cookie.
const COOKIE: &str = "tubox_pass";
/// The operator's cookie. It is signed with its name, so that one cannot stand in for the other.
const ADMIN_COOKIE: &str = "tubox_admin";
/// How long a pass is good. A page that was open for longer fetches a new one by itself.
const LIFE_SECONDS: i64 = 12 * 3600;
const KEY_BYTES: usize = 32;
/// Room for a Set-Cookie value.
const COOKIE_BYTES_USUAL: usize = 192;

pub(super) struct Passes {
    /// Has read the key already; each signature begins with a copy.
    keyed: Hmac<Sha256>,
    is_secure: bool,
    clock: SharedClock,
    random: SharedRandom,
}

impl Passes {
    /// With the key in `data_dir/pass_key`, made where it is missing, so that a restart cuts nobody off.
    pub(super) fn open(
        data_dir: &Path,
        is_secure: bool,
        clock: SharedClock,
        random: SharedRandom,
    ) -> Result<Passes> {
        let path = data_dir.join("pass_key");
        let kept = std::fs::read(&path).ok().filter(|key| key.len() == KEY_BYTES);
        let key = match kept {
            Some(key) => key,
            None => {
                let mut key = vec![0; KEY_BYTES];
                random.fill(&mut key);
                durable::replace_private(&path, &key)
                    .with_context(|| format!("could not keep the cookie key in {}", path.display()))?;
                key
            }
        };
        let keyed = Hmac::new_from_slice(&key).context("could not use the cookie key")?;
        Ok(Passes { keyed, is_secure, clock, random })
    }

    /// A Set-Cookie value with a fresh pass.
    pub(super) fn issue(&self) -> String {
        let mut cookie = self.signed(COOKIE);
        cookie.push_str("; Path=/; HttpOnly; SameSite=Lax");
        cookie.push_str(self.secure());
        cookie
    }

    /// Whether a Cookie header holds a pass that is still good.
    pub(super) fn holds(&self, cookie: Option<&str>) -> bool {
        self.holds_named(COOKIE, cookie)
    }

    /// A Set-Cookie value for an operator who has shown the token.
    pub(super) fn issue_admin(&self) -> String {
        format!("{}; Path=/admin; HttpOnly; SameSite=Strict{}", self.signed(ADMIN_COOKIE), self.secure())
    }

    /// A Set-Cookie value that takes an operator's cookie back.
    pub(super) fn end_admin(&self) -> String {
        format!("{ADMIN_COOKIE}=; Max-Age=0; Path=/admin; HttpOnly; SameSite=Strict{}", self.secure())
    }

    /// Whether a Cookie header is an operator's.
    pub(super) fn holds_admin(&self, cookie: Option<&str>) -> bool {
        self.holds_named(ADMIN_COOKIE, cookie)
    }

    fn signed(&self, name: &str) -> String {
        let ends = self.clock.wall_ms() / 1000 + LIFE_SECONDS;
        let mut cookie = String::with_capacity(COOKIE_BYTES_USUAL);
        // Writing to a String cannot fail.
        let _ = write!(cookie, "{name}={ends:x}.{:016x}", self.random.u64());
        let mac = hex(&self.mac(&[&cookie]).finalize().into_bytes());
        let _ = write!(cookie, ".{mac}; Max-Age={LIFE_SECONDS}");
        cookie
    }

    fn secure(&self) -> &'static str {
        if self.is_secure { "; Secure" } else { "" }
    }

    fn holds_named(&self, name: &str, cookie: Option<&str>) -> bool {
        let cookies = cookie.unwrap_or_default().split(';');
        let values = cookies.filter_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='));
        values.take(4).any(|value| self.is_good(name, value))
    }

    fn is_good(&self, name: &str, value: &str) -> bool {
        let Some((signed, mac)) = value.rsplit_once('.') else { return false };
        let Some(mac) = unhex(mac) else { return false };
        if self.mac(&[name, "=", signed]).verify_slice(&mac).is_err() {
            return false;
        }
        let ends = signed.split('.').next().and_then(|ends| i64::from_str_radix(ends, 16).ok());
        ends.is_some_and(|ends| self.clock.wall_ms() / 1000 < ends)
    }

    fn mac(&self, parts: &[&str]) -> Hmac<Sha256> {
        let mut mac = self.keyed.clone();
        for part in parts {
            mac.update(part.as_bytes());
        }
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::clock::TestClock;
    use crate::ground::random::SeededRandom;
    use std::time::Duration;

    #[test]
    fn a_pass_holds_over_a_restart_until_it_ends_and_cannot_be_forged() {
        let folder = tempfile::tempdir().unwrap();
        let clock = TestClock::at(1_795_280_466_123);
        let open =
            |seed| Passes::open(folder.path(), true, clock.clone(), SeededRandom::shared(seed)).unwrap();
        let cookie = open(1).issue();
        assert!(cookie.ends_with("; HttpOnly; SameSite=Lax; Secure"));
        let pass = cookie.split(';').next().unwrap().to_owned();
        let passes = open(2);
        assert!(passes.holds(Some(&format!("a=b; {pass}; c=d"))));
        assert!(
            !passes.holds(None)
                && !passes.holds(Some("tubox_pass="))
                && !passes.holds(Some("tubox_pass=1.2.3"))
        );
        let (name, value) = pass.split_at(COOKIE.len() + 1);
        let forged = format!("{name}f{value}");
        assert!(!passes.holds(Some(&forged)));
        // A visitor's pass under the operator's name opens nothing.
        assert!(!passes.holds_admin(Some(&pass.replace(COOKIE, ADMIN_COOKIE))));
        let admin = passes.issue_admin();
        assert!(passes.holds_admin(admin.split(';').next()));
        clock.advance(Duration::from_secs(LIFE_SECONDS as u64 + 1));
        assert!(!passes.holds(Some(&pass)));
    }
}
