//! The routes that the simulator answers.

/// A route, for counts, quotas and faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Route {
    /// `POST /cgi-bin/stable_token`
    StableToken,
    /// `GET /cgi-bin/token`
    Token,
    /// `GET /cgi-bin/ticket/getticket`
    GetTicket,
    /// `GET /cgi-bin/media/get`
    MediaGet,
    /// `POST /cgi-bin/openapi/quota/get`
    QuotaGet,
    /// `GET /open/js/jweixin-*.js`
    Script,
    /// `POST /sim/check-signature`: what WeChat's app does when a page calls `wx.config`
    CheckSignature,
    /// `POST /sim/upload`: what the phone does when a page calls `wx.uploadImage`
    Upload,
    /// Any other `/sim/…`: the drill's own controls.
    Control,
    /// Nothing that WeChat has.
    Unknown,
}

impl Route {
    /// All of them.
    pub const ALL: [Route; 10] = [
        Route::StableToken,
        Route::Token,
        Route::GetTicket,
        Route::MediaGet,
        Route::QuotaGet,
        Route::Script,
        Route::CheckSignature,
        Route::Upload,
        Route::Control,
        Route::Unknown,
    ];

    /// The route that `path` belongs to.
    pub fn of(path: &str) -> Route {
        match path {
            "/cgi-bin/stable_token" => Route::StableToken,
            "/cgi-bin/token" => Route::Token,
            "/cgi-bin/ticket/getticket" => Route::GetTicket,
            "/cgi-bin/media/get" => Route::MediaGet,
            "/cgi-bin/openapi/quota/get" => Route::QuotaGet,
            "/sim/check-signature" => Route::CheckSignature,
            "/sim/upload" => Route::Upload,
            _ if path.starts_with("/sim/") => Route::Control,
            _ if is_script(path) => Route::Script,
            _ => Route::Unknown,
        }
    }

    /// The name in JSON and in violations.
    pub fn name(self) -> &'static str {
        match self {
            Route::StableToken => "stable_token",
            Route::Token => "token",
            Route::GetTicket => "getticket",
            Route::MediaGet => "media_get",
            Route::QuotaGet => "quota_get",
            Route::Script => "script",
            Route::CheckSignature => "check_signature",
            Route::Upload => "upload",
            Route::Control => "control",
            Route::Unknown => "unknown",
        }
    }

    /// The route with this name.
    pub fn named(name: &str) -> Option<Route> {
        Route::ALL.into_iter().find(|route| route.name() == name)
    }

    /// Whether it is part of WeChat's server API, which strictness, quotas and outages are about.
    pub fn is_api(self) -> bool {
        matches!(
            self,
            Route::StableToken | Route::Token | Route::GetTicket | Route::MediaGet | Route::QuotaGet
        )
    }

    /// Whether it is for scripts in pages of other origins.
    pub fn is_for_pages(self) -> bool {
        matches!(self, Route::Script | Route::CheckSignature | Route::Upload | Route::Control)
    }
}

fn is_script(path: &str) -> bool {
    let version = path.strip_prefix("/open/js/jweixin-").and_then(|rest| rest.strip_suffix(".js"));
    version.is_some_and(|version| {
        !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit() || b == b'.')
    })
}
