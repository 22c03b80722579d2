//! WeChat's API as the box uses it: the page's signature, the two cached credentials behind it, the download of
//! a picture, and what each error code means. The only room that names minreq.
//!
//! Facts about WeChat are marked where they stand with their source: *documented* (official pages), *reported*
//! (several independent reports or SDK sources), *inferred*. The room leaves the house only through the outbound
//! door. It knows nothing of queues, files of pictures, or people; it does not decide when to try again, it only
//! says what happened ([`fault`]).
//!
//! Nothing here is called while a visitor waits: [`WeChat::sign`] works from the cached ticket, and a keeper
//! thread calls [`WeChat::keep`] to renew both credentials ahead of time.

mod api;
mod credentials;
pub mod fault;
mod media;
pub mod probe;
mod reply;
pub mod signature;
#[cfg(test)]
mod tests;

pub use api::HEAD_BYTES_MAX as ANSWER_HEAD_BYTES_MAX;
pub use credentials::{CredentialAges, TokenKind};
pub use fault::Fault;
pub use media::{Beginning, Media, json_fault, judge};

use crate::door::outbound::{Origin, OutboundDoor};
use crate::ground::bell::Bell;
use crate::ground::clock::SharedClock;
use crate::ground::media_id::MediaId;
use crate::ground::random::{ALPHANUMERIC, SharedRandom};
use api::Api;
use credentials::Credentials;
use signature::PageSignature;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Characters in a nonce. Documented nowhere; 16 letters and digits work in every SDK that was read.
const NONCE_LENGTH: usize = 16;

/// What the room needs to know.
pub struct WeChatOptions {
    /// The account.
    pub app_id: String,
    /// The account's secret; never shown.
    pub app_secret: String,
    /// The API's hosts, in the order in which they are tried.
    pub origins: Vec<Origin>,
    /// Which call gives the access_token.
    pub token_kind: TokenKind,
    /// Where the credentials outlive a restart; mode 0600.
    pub credentials_file: PathBuf,
    /// The way out.
    pub door: Arc<OutboundDoor>,
    /// Time.
    pub clock: SharedClock,
    /// Chance.
    pub random: SharedRandom,
}

/// The client of WeChat's API.
pub struct WeChat {
    app_id: String,
    api: Arc<Api>,
    credentials: Credentials,
    clock: SharedClock,
    random: SharedRandom,
}

impl WeChat {
    /// A client with whatever credentials an earlier run has left; makes no call.
    pub fn open(options: WeChatOptions) -> WeChat {
        let api = Arc::new(Api::new(options.door, options.origins, options.clock.clone()));
        let credentials = Credentials::open(credentials::CredentialsOptions {
            app_id: options.app_id.clone(),
            app_secret: options.app_secret,
            token_kind: options.token_kind,
            file: options.credentials_file,
            api: api.clone(),
            clock: options.clock.clone(),
        });
        WeChat { app_id: options.app_id, api, credentials, clock: options.clock, random: options.random }
    }

    /// The signature for a page at `url` (as the phone sees it, without fragment); `None` while there is no
    /// ticket. Makes no call.
    pub fn sign(&self, url: impl Into<String>) -> Option<PageSignature> {
        let url = url.into();
        let ticket = self.credentials.ticket()?;
        let nonce = self.random.text(NONCE_LENGTH, ALPHANUMERIC);
        let timestamp = self.clock.wall_ms() / 1000;
        let signature = signature::sign(&ticket, &nonce, timestamp, &url);
        Some(PageSignature { app_id: self.app_id.clone(), timestamp, nonce_str: nonce, signature, url })
    }

    /// Renews what is due; returns how long nothing will be. One thread calls this in a loop and waits at
    /// [`WeChat::keeper_bell`] between calls.
    pub fn keep(&self) -> Duration {
        self.credentials.keep()
    }

    /// Rung when the keeper should look at once.
    pub fn keeper_bell(&self) -> &Bell {
        self.credentials.bell()
    }

    /// A page says that its signature was refused: the ticket is fetched again soon, at most once a minute.
    pub fn doubt_ticket(&self) {
        self.credentials.doubt_ticket();
    }

    /// Asks for a picture. On success its first bytes have come and are no error text.
    pub fn fetch(&self, media_id: &MediaId) -> Result<Media, Fault> {
        media::fetch(&self.api, &self.credentials, media_id)
    }

    /// WeChat's clock minus the machine's, from the last answer that came over a trusted connection.
    pub fn clock_offset_ms(&self) -> Option<i64> {
        self.api.clock_offset_ms()
    }

    /// How old the credentials are and what is wrong with them.
    pub fn credential_ages(&self) -> CredentialAges {
        self.credentials.ages()
    }
}
