//! The head parser against everything that clients may send.

use super::*;

fn status(bytes: &[u8]) -> Result<Option<ParsedHead>, u16> {
    parse_head(bytes, &InboundLimits::default()).map_err(|refusal| refusal.status)
}

fn parsed(text: &str) -> ParsedHead {
    status(text.as_bytes()).unwrap_or_else(|status| panic!("{status}: {text:?}")).expect(text)
}

fn rendered(head: &ParsedHead, body_bytes: usize) -> String {
    let mut bytes = Vec::new();
    head.render("192.0.2.1".parse().unwrap(), body_bytes, true, &mut bytes);
    String::from_utf8(bytes).unwrap()
}

#[test]
fn only_what_is_read_inside_goes_inside() {
    let limits = InboundLimits { names_inside: Some(&["Cookie"]), ..InboundLimits::default() };
    let text = "GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: y\r\ncookie: a=b\r\nCookies: c\r\n\r\n";
    let head = parse_head(text.as_bytes(), &limits).unwrap().unwrap();
    assert_eq!(head.fields, b"\tcookie: a=b");
    let inside = "GET / HTTP/1.1\r\nConnection: close\r\nX-Tubox-Head: 192.0.2.1\tcookie: a=b\r\n\r\n";
    assert_eq!(rendered(&head, 0), inside);
}

#[test]
fn a_clean_head_is_written_anew() {
    let head = parsed(
        "POST /a?b={1} HTTP/1.1\r\nHost: x:8080\r\nContent-Length: 007\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\
         Expect: 100-Continue\r\nTE: trailers\r\nProxy-Authorization: x\r\nProxy: x\r\nX-Tubox-Head: 6.6.6.6\r\n\
         X-Forwarded-For: 1.1.1.1\r\nx-forwarded-for: 2.2.2.2\r\nCookie:a=\u{e4};\tHost: y\r\n\
         Empty:\r\n\r\nbody...",
    );
    assert_eq!((head.method, head.body), (Method::Post, RequestBody::Length(7)));
    assert!(head.keep_alive && head.expects_continue && !head.http_1_0);
    assert_eq!(head.forwarded_for, "1.1.1.1,2.2.2.2");
    assert_eq!(
        rendered(&head, 7),
        "POST /a?b={1} HTTP/1.1\r\nConnection: close\r\nX-Tubox-Head: 192.0.2.1\tHost: x:8080\tX-Tubox-Head: 6.6.6.6\t\
         X-Forwarded-For: 1.1.1.1\tx-forwarded-for: 2.2.2.2\tCookie: a=??; Host: y\tEmpty: \r\nContent-Length: 7\r\n\r\n"
    );
}

#[test]
fn what_went_inside_is_taken_apart_there() {
    let head = parsed(
        "GET / HTTP/1.1\r\nHost: x:8080\r\nX-Tubox-Head: 6.6.6.6\r\nCookie: a: b\tc: d\r\ncookie: e\r\n\
         Accept:\r\n\r\n",
    );
    let text = rendered(&head, 0);
    // As tiny_http hands it on: without blanks around it.
    let line = text.lines().find_map(|line| line.strip_prefix("X-Tubox-Head:")).unwrap().trim();
    let inside = FieldsInside::parse(line);
    assert_eq!(inside.client, "192.0.2.1");
    assert_eq!(inside.get("host"), Some("x:8080"));
    assert_eq!(inside.get("COOKIE"), Some("a: b c: d"));
    assert_eq!(inside.get("Accept"), Some(""));
    assert_eq!((inside.get("c"), inside.get("Origin")), (None, None));
    assert_eq!(FieldsInside::parse("192.0.2.1").get("Host"), None);
}

#[test]
fn where_the_head_ends_is_told() {
    let text = "\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(parsed(&format!("{text}GET /next\0\n")).head_bytes, text.len());
    for cut in 0..text.len() {
        assert_eq!(status(&text.as_bytes()[..cut]), Ok(None), "{cut}");
    }
}

#[test]
fn keep_alive_follows_version_and_connection() {
    for (version, connection, keep) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: x , CLOSE\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let head = parsed(&format!("GET / HTTP/{version}\r\nHost: x\r\n{connection}\r\n"));
        assert_eq!(head.keep_alive, keep, "{version} {connection}");
    }
    assert!(parsed("GET / HTTP/1.0\r\n\r\n").http_1_0);
}

#[test]
fn bodies_are_framed_in_one_way_only() {
    for (method, fields, expected) in [
        ("GET", "", Ok(RequestBody::None)),
        ("POST", "Content-Length: 0\r\n", Ok(RequestBody::None)),
        ("POST", "Content-Length: 262144\r\n", Ok(RequestBody::Length(262_144))),
        ("POST", "Transfer-Encoding: chunked\r\n", Ok(RequestBody::Chunked)),
        ("POST", "transfer-encoding:\t Chunked \r\n", Ok(RequestBody::Chunked)),
        ("POST", "", Err(411)),
        ("POST", "Content-Length: 262145\r\n", Err(413)),
        ("GET", "Content-Length: 100000000000\r\n", Err(413)),
        ("POST", "Content-Length: 99999999999999999999999999\r\n", Err(413)),
        // CL.TE and TE.CL
        ("POST", "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", Err(400)),
        ("POST", "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", Err(400)),
        // TE.TE
        ("POST", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", Err(400)),
        ("POST", "Transfer-Encoding: chunked\r\nTransfer-encoding: chunked\r\n", Err(400)),
        ("POST", "Transfer-Encoding: xchunked\r\n", Err(501)),
        ("POST", "Transfer-Encoding: gzip, chunked\r\n", Err(501)),
        ("POST", "Transfer-Encoding: chunked, identity\r\n", Err(501)),
        ("POST", "Transfer-Encoding: \"chunked\"\r\n", Err(501)),
        ("POST", "Transfer-Encoding: chunked\u{b2}\r\n", Err(501)),
        ("POST", "Transfer-Encoding:\r\n", Err(501)),
        ("POST", "Transfer-Encoding: \x0bchunked\r\n", Err(400)),
        ("POST", "Transfer-Encoding : chunked\r\n", Err(400)),
        ("POST", "X: y\r\n Transfer-Encoding: chunked\r\n", Err(400)),
        ("POST", "X: y\rTransfer-Encoding: chunked\r\n", Err(400)),
        ("POST", "X: y\nTransfer-Encoding: chunked\r\n", Err(400)),
        // two lengths
        ("POST", "Content-Length: 4\r\nContent-Length: 4\r\n", Err(400)),
        ("POST", "Content-Length: 4\r\ncontent-length: 5\r\n", Err(400)),
        ("POST", "Content-Length: 4, 4\r\n", Err(400)),
        ("POST", "Content-Length: +4\r\n", Err(400)),
        ("POST", "Content-Length: -4\r\n", Err(400)),
        ("POST", "Content-Length: 4 4\r\n", Err(400)),
        ("POST", "Content-Length: 0x4\r\n", Err(400)),
        ("POST", "Content-Length: 4.0\r\n", Err(400)),
        ("POST", "Content-Length:\r\n", Err(400)),
        ("POST", "Content-Length: \u{664}\r\n", Err(400)),
        ("POST", "Content-Length : 4\r\n", Err(400)),
        ("POST", "Content-Length: 4\r\nExpect: tea\r\n", Err(417)),
        ("POST", "Content-Length: 4\r\nExpect: 100-continue\r\nExpect: 100-continue\r\n", Err(417)),
    ] {
        let text = format!("{method} / HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        let found = status(text.as_bytes()).map(|head| head.expect("whole").body);
        assert_eq!(found, expected, "{fields:?}");
    }
    assert_eq!(status(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), Err(400));
}

#[test]
fn request_lines_that_go_no_further() {
    for (line, expected) in [
        ("TRACE / HTTP/1.1", 405),
        ("CONNECT example.org:443 HTTP/1.1", 405),
        ("BREW / HTTP/1.1", 501),
        ("get / HTTP/1.1", 501),
        ("PRI * HTTP/2.0", 505),
        ("GET / HTTP/2.0", 505),
        ("GET / HTTP/0.9", 505),
        ("GET / HTTP/1.2", 505),
        ("GET /", 505),
        ("GET / HTTP/1.10", 400),
        ("GET / http/1.1", 400),
        ("GET / HTTP/1.1 ", 400),
        ("GET  / HTTP/1.1", 400),
        (" GET / HTTP/1.1", 400),
        ("GET\t/ HTTP/1.1", 400),
        ("GET / x HTTP/1.1", 400),
        ("GET", 400),
        ("G{T / HTTP/1.1", 400),
        ("GET http://x/ HTTP/1.1", 400),
        ("GET x HTTP/1.1", 400),
        ("OPTIONS * HTTP/1.1", 400),
        ("GET /# HTTP/1.1", 400),
        ("GET /\u{e4} HTTP/1.1", 400),
        ("GET /\u{7f} HTTP/1.1", 400),
        ("GET /\0 HTTP/1.1", 400),
        ("GET /\t HTTP/1.1", 400),
    ] {
        let text = format!("{line}\r\nHost: x\r\n\r\n");
        assert_eq!(status(text.as_bytes()), Err(expected), "{line:?}");
        // Told as soon as the line is there, without waiting for the rest.
        assert_eq!(status(format!("{line}\r\n").as_bytes()), Err(expected), "{line:?}");
    }
    let invalid_utf8 = b"GET /\xe4 HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(status(invalid_utf8), Err(400));
    assert_eq!(status(b"\x16\x03\x01\x02\x00\x01\x00"), Err(400));
    assert_eq!(status(b"\r\n\r\nGET / HTTP/1.1\r\n"), Err(400));
}

#[test]
fn header_lines_that_go_no_further() {
    for fields in [
        "",
        "Host: x\r\nHost: x\r\n",
        "Host: x\r\nhost: y\r\n",
        "Host:\r\n",
        "Host: a b\r\n",
        "Host: a/b\r\n",
        "Host: a@b\r\n",
        "Host: a,b\r\n",
        "Host: \u{e4}\r\n",
        "Host : x\r\n",
        " Host: x\r\n",
        "Host: x\r\nno colon\r\n",
        "Host: x\r\n: no name\r\n",
        "Host: x\r\nN\u{e4}me: x\r\n",
        "Host: x\r\nNa me: x\r\n",
        "Host: x\r\nNa(me: x\r\n",
        "Host: x\r\nName\0: x\r\n",
        "Host: x\r\nName: \0\r\n",
        "Host: x\r\nName: \x1b[31m\r\n",
        "Host: x\r\nName: \x7f\r\n",
        "Host: x\r\nName: a\r\n\tb\r\n",
        "Host: x\r\nName: a\r\r\n",
        "Host: x\nName: a\r\n",
    ] {
        let text = format!("GET / HTTP/1.1\r\n{fields}\r\n");
        assert_eq!(status(text.as_bytes()), Err(400), "{fields:?}");
    }
    assert_eq!(status(b"GET / HTTP/1.1\nHost: x\n\n"), Err(400));
    assert_eq!(status(b"GET / HTTP/1.0\r\nHost: x\r\nHost: x\r\n\r\n"), Err(400));
}

#[test]
fn sizes_are_bounded_before_the_head_is_whole() {
    let target = |bytes: usize| format!("/{}", "x".repeat(bytes - 1));
    let with_target = |bytes| format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", target(bytes));
    parsed(&with_target(8192));
    assert_eq!(status(with_target(8193).as_bytes()), Err(414));
    assert_eq!(status(format!("GET {}", target(9000)).as_bytes()), Err(414));
    let value = |bytes: usize| format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}", "x".repeat(bytes));
    assert_eq!(status(value(16_000).as_bytes()), Ok(None));
    assert_eq!(status(value(16_384).as_bytes()), Err(431));
    assert_eq!(status(format!("{}\r\n\r\n", value(16_384)).as_bytes()), Err(431));
    let lines = |count: usize| format!("GET / HTTP/1.1\r\nHost: x\r\n{}", "a:b\r\n".repeat(count));
    parsed(&format!("{}\r\n", lines(63)));
    assert_eq!(status(format!("{}\r\n", lines(64)).as_bytes()), Err(431));
    assert_eq!(status(lines(65).as_bytes()), Err(431));
}

#[test]
fn the_parser_is_asked_again_only_when_it_can_say_more() {
    assert!(!may_decide("GET /\tabc \u{e4}".as_bytes()));
    assert!(may_decide(b"x\r\n") && may_decide(b"\x16\x03") && may_decide(b"\0") && may_decide(b"\x7f"));
}

const SEEDS: &[&str] = &[
    "GET /a?b=c HTTP/1.1\r\nHost: x:1\r\nAccept: */*\r\nCookie: a=b; c=d\r\n\r\n",
    "POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\nExpect: 100-continue\r\n\r\n",
    "POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
    "HEAD / HTTP/1.0\r\nConnection: keep-alive\r\nX-Tubox-Head: 9.9.9.9\r\n\r\n",
];
const SPLINTERS: &[&[u8]] = &[
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b",",
    b"\0",
    b"\xff",
    b"0",
    b"9",
    b"chunked",
    b"Content-Length: 5",
    b"Transfer-Encoding: chunked",
    b"X-Tubox-Head: 1.1.1.1",
    b"HTTP/1.1",
    b"/",
    b"#",
    b"\x16",
];

/// Whatever comes: no panic, the same verdict however it is cut into reads, and what is accepted is, written
/// anew, a head that reads back as the same request and holds one client address, ours.
#[test]
fn damaged_heads_do_no_harm() {
    let random = crate::ground::random::SeededRandom::shared(11);
    let below = |limit: usize| (random.u64() % limit as u64) as usize;
    let limits = InboundLimits::default();
    let mut accepted = 0;
    for _ in 0..6000 {
        let mut bytes = SEEDS[below(SEEDS.len())].as_bytes().to_vec();
        for _ in 0..=below(3) {
            let at = below(bytes.len());
            let until = (at + below(4)).min(bytes.len());
            bytes.splice(at..until, SPLINTERS[below(SPLINTERS.len())].iter().copied());
        }
        let whole = parse_head(&bytes, &limits);
        match parse_head(&bytes[..below(bytes.len())], &limits) {
            Err(_) => assert!(whole.is_err(), "{bytes:?}"),
            Ok(Some(early)) => assert_eq!(whole.clone().unwrap().unwrap(), early, "{bytes:?}"),
            Ok(None) => {}
        }
        let Ok(Some(head)) = whole else { continue };
        accepted += 1;
        let text = rendered(&head, 3);
        assert!(text.is_ascii());
        let lines: Vec<_> = text.split("\r\n").collect();
        let [request, "Connection: close", inside, "Content-Length: 3", "", ""] = lines[..] else {
            panic!("{text:?}");
        };
        assert!(request.ends_with(&format!(" {} HTTP/1.1", head.target)), "{request:?}");
        let fields = inside.strip_prefix("X-Tubox-Head: 192.0.2.1").map(str::as_bytes);
        assert_eq!(fields, Some(&head.fields[..]));
        assert!(!inside.contains(['\r', '\n']), "{inside:?}");
        // With a line for each field it reads back as the same request.
        let text = text.replacen("X-Tubox-Head: 192.0.2.1\t", "", 1).replace('\t', "\r\n");
        if head.http_1_0 && !text.to_lowercase().contains("\r\nhost:") {
            continue;
        }
        let read_back = parsed(&text);
        assert_eq!(read_back.head_bytes, text.len());
        assert_eq!((read_back.method, &read_back.target), (head.method, &head.target));
        assert_eq!(read_back.body, RequestBody::Length(3));
        assert_eq!(read_back.fields, head.fields);
    }
    assert!((500..5500).contains(&accepted), "{accepted} of 6000 say little");
}
