//! The page's signature: SHA-1 over the ticket, a nonce, a time and the page's address (JS-SDK documentation,
//! appendix 1). Joined as raw text: no percent-encoding, no normalising of the address.

use crate::ground::hex::hex;
use serde::Serialize;
use sha1_smol::Sha1;

/// What `wx.config` needs, under the names that it uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PageSignature {
    /// The account's app id.
    pub app_id: String,
    /// Seconds since the epoch.
    pub timestamp: i64,
    /// 16 letters and digits.
    pub nonce_str: String,
    /// Lower-case hex.
    pub signature: String,
    /// The address that was signed: the page's own, without its fragment.
    pub url: String,
}

/// The signature over `url` for a ticket, a nonce and a time in seconds.
pub fn sign(jsapi_ticket: &str, nonce: &str, timestamp_s: i64, url: &str) -> String {
    let timestamp = timestamp_s.to_string();
    let mut hash = Sha1::new();
    for part in ["jsapi_ticket=", jsapi_ticket, "&noncestr=", nonce, "&timestamp=", &timestamp, "&url=", url]
    {
        hash.update(part.as_bytes());
    }
    hex(&hash.digest().bytes())
}

#[cfg(test)]
mod tests {
    /// The vector of the official documentation.
    #[test]
    fn the_official_vector_holds() {
        let ticket = "sM4AOVdWfPE4DxkXGEs8VMCPGGVi4C3VM0P37wVUCFvkVAy_90u5h9nbSlYy3-Sl-HhTdfl2fzFy1AOcHKP7qg";
        let url = "http://mp.weixin.qq.com?params=value";
        let signature = super::sign(ticket, "Wm3WZYTPz0wzccnW", 1_414_587_457, url);
        assert_eq!(signature, "0f9de62fce790f9a083d5c99e95740ceb90c27ed");
    }
}
