//! `GET /cgi-bin/media/get` (*documented*). Errors come with status 200 and under any content type
//! (*documented* and *reported*), so the body's first bytes decide, never a header.

use super::api::{Answer, Api, Call, unexpected_text};
use super::credentials::Credentials;
use super::fault::{Fault, Outcome};
use super::reply::{REPLY_BYTES_MAX, Reply};
use crate::ground::media_id::MediaId;

/// The developer tools give this id to every upload (*reported* by several repositories).
const DEVELOPER_TOOLS_ID: &str = "1237378768e7q8e7r8qwesafdasdfasdfaxss111";

/// Bytes that are looked at before a body counts as a picture's.
const PEEK_BYTES: usize = 512;

/// A picture's body. Its first bytes were no error text; whether it is a picture is for the album to see.
pub struct Media {
    peeked: Vec<u8>,
    peeked_given: usize,
    answer: Answer,
}

impl Media {
    /// How long the whole will be, if the answer said so.
    pub fn announced_bytes(&self) -> Option<u64> {
        self.answer.content_length()
    }

    /// The next bytes; 0 at the end of a whole body. A transfer that ends early is a fault.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Fault> {
        let left = &self.peeked[self.peeked_given..];
        if left.is_empty() {
            return self.answer.read(buffer);
        }
        let count = left.len().min(buffer.len());
        buffer[..count].copy_from_slice(&left[..count]);
        self.peeked_given += count;
        Ok(count)
    }
}

/// Asks for a picture. A dead token is renewed once and the call repeated once; whatever is wrong then is the
/// answer.
pub(super) fn fetch(api: &Api, credentials: &Credentials, media_id: &MediaId) -> Result<Media, Fault> {
    if media_id.as_str() == DEVELOPER_TOOLS_ID {
        return Err(Fault::new("fake-id", ""));
    }
    credentials.with_token(|token| fetch_with(api, token, media_id))
}

fn fetch_with(api: &Api, token: &str, media_id: &MediaId) -> Result<Media, Fault> {
    let target = format!("/cgi-bin/media/get?access_token={token}&media_id={media_id}");
    let mut answer = api.call(&Call { target: &target, json: None, is_repeatable: true })?;
    let peeked = answer.read_up_to(PEEK_BYTES)?;
    match judge(answer.status, is_encoded(&answer), &peeked) {
        Beginning::Picture => Ok(Media { peeked, peeked_given: 0, answer }),
        Beginning::Wrong(fault) => Err(fault),
        Beginning::Json => {
            let mut body = peeked;
            if body.len() == PEEK_BYTES {
                body.extend(answer.read_up_to(REPLY_BYTES_MAX)?);
            }
            Err(json_fault(&body))
        }
    }
}

/// What an answer is, by its beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// No error text; whether it is a picture is for the album to see.
    Picture,
    /// A JSON text, which has to be read whole.
    Json,
    /// Nothing of use.
    Wrong(Fault),
}

/// Tells what an answer is by its status, whether its body is encoded, and the body's first bytes.
pub fn judge(status: u16, is_encoded: bool, first_bytes: &[u8]) -> Beginning {
    match first_visible(first_bytes) {
        Some(b'{') => Beginning::Json,
        _ if status != 200 => Beginning::Wrong(Fault::new("http-status", format!("status {status}"))),
        None | Some(b'<') => Beginning::Wrong(unexpected_text(first_bytes)),
        Some(_) if is_encoded => {
            Beginning::Wrong(Fault::new("garbage", "the body is compressed, which was not asked for"))
        }
        Some(_) => Beginning::Picture,
    }
}

/// What a JSON text that came instead of a picture means.
pub fn json_fault(body: &[u8]) -> Fault {
    let Some(reply) = Reply::parse(body) else {
        return Fault::new("garbage", "text that looks like JSON and is none");
    };
    match reply.fault() {
        Some(fault) => fault,
        None if reply.has("video_url") => Fault::new("not-a-picture", "a video"),
        None => Fault::new("garbage", "JSON without an errcode"),
    }
}

fn is_encoded(answer: &Answer) -> bool {
    answer.header("content-encoding").is_some_and(|coding| !coding.trim().eq_ignore_ascii_case("identity"))
}

/// The first byte that is neither white space nor part of a byte order mark.
fn first_visible(bytes: &[u8]) -> Option<u8> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    bytes.iter().copied().find(|byte| !byte.is_ascii_whitespace())
}

/// Whether a fault says that the token is dead.
pub(super) fn is_token_fault(fault: &Fault) -> bool {
    fault.outcome() == Outcome::RenewCredential
}
