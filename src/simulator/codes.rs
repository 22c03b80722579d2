//! WeChat's error codes and the texts that come with them. The client must go by the code alone; the texts are
//! here so that logs and screens of a drill look like those of a real day.

/// A wrong secret (classic call) or a token that is not the latest.
pub const TOKEN_NOT_LATEST: i64 = 40001;
/// A grant_type that does not exist.
pub const BAD_GRANT_TYPE: i64 = 40002;
/// A media_id that cannot be fetched.
pub const BAD_MEDIA_ID: i64 = 40007;
/// An appid that does not exist.
pub const BAD_APP_ID: i64 = 40013;
/// A token that never was one.
pub const BAD_TOKEN: i64 = 40014;
/// A wrong secret (stable call).
pub const BAD_SECRET: i64 = 40125;
/// The caller's address is not on the list.
pub const IP_NOT_LISTED: i64 = 40164;
/// access_token is missing.
pub const NO_TOKEN: i64 = 41001;
/// appid is missing.
pub const NO_APP_ID: i64 = 41002;
/// secret is missing.
pub const NO_SECRET: i64 = 41004;
/// media_id is missing.
pub const NO_MEDIA_ID: i64 = 41006;
/// The token's time is over.
pub const TOKEN_EXPIRED: i64 = 42001;
/// The call has to be a POST.
pub const NEEDS_POST: i64 = 43002;
/// The day's quota is used up.
pub const DAY_QUOTA: i64 = 45009;
/// Too many calls in this minute.
pub const MINUTE_QUOTA: i64 = 45011;

/// The text that stands before the `rid`. `ip` is the address that WeChat sees.
pub fn stem(code: i64, ip: &str) -> String {
    if code == IP_NOT_LISTED {
        return format!("invalid ip {ip} ipv6 ::ffff:{ip}, not in whitelist");
    }
    let text = match code {
        -1 => "system error",
        40001 => {
            "invalid credential, access_token is invalid or not latest, could get access_token by \
             getStableAccessToken, more details at https://mmbizurl.cn/s/JtxxFh33r"
        }
        40002 => "invalid grant_type",
        40007 => "invalid media_id",
        40013 => "invalid appid",
        40014 => "invalid access_token",
        40029 => "invalid code",
        40048 => "invalid url domain",
        40125 => "invalid appsecret",
        40163 => "code been used",
        40243 => "AppSecret has been frozen",
        41001 => "access_token missing",
        41002 => "appid missing",
        41004 => "appsecret missing",
        41006 => "media_id missing",
        42001 => "access_token expired",
        43002 => "require POST method",
        45009 => "reach max api daily quota limit",
        45011 => "api minute-quota reach limit, must slower, retry next minute",
        48001 => "api unauthorized",
        48004 => "api forbidden for irregularities",
        48006 => "forbid to clear quota because of reaching the limit",
        50002 => "user limited",
        50004 => "user forbidden to use access_token",
        61004 => "access clientip is not registered",
        63002 => "invalid signature",
        89501 | 89502 | 89504 | 89505 => "this ip is waiting for confirmation by the admin",
        89503 => "this ip needs confirmation by the admin",
        89506 => "this ip was refused by the admin, retry after 24 hours",
        89507 => "this ip was refused by the admin, retry after 1 hour",
        _ => "unspecified error",
    };
    text.to_owned()
}
