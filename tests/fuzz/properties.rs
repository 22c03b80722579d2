//! What must hold for whatever bytes come: one function for each place where the box reads what it has not
//! written itself. The fuzzer calls them with bytes that it finds; `tests/box/seeds.rs` with the seeds beside
//! this file and with damaged copies of them.
//!
//! Each of them panics when something does not hold. None looks at what a message says, only at what may follow
//! from it.

use std::io::{Cursor, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use tubox::album::manifest;
use tubox::album::whole::{PictureKind, is_whole};
use tubox::config::{self, ConfigError};
use tubox::door::inbound::answer::parse_answer;
use tubox::door::inbound::chunked::ChunkedDecoder;
use tubox::door::inbound::head::{FieldsInside, RequestBody, may_decide};
use tubox::door::inbound::{InboundLimits, parse_head};
use tubox::door::outbound::framing::FramedBody;
use tubox::door::outbound::head::{check_unfinished, head_length, parse_answer_head};
use tubox::web::parse_submission;
use tubox::wechat::{Beginning, json_fault, judge};

/// A property of bytes.
pub type Property = fn(&[u8]);

/// All of them, by the names of their fuzz targets and folders of seeds.
#[allow(dead_code)] // a fuzz target calls only its own
pub const ALL: [(&str, Property); 9] = [
    ("head", head),
    ("chunked", chunked),
    ("answer", answer),
    ("outbound", outbound),
    ("submission", submission),
    ("media", media),
    ("picture", picture),
    ("manifest", lists),
    ("settings", settings),
];

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// A place to cut that follows from the bytes themselves.
fn cut(bytes: &[u8]) -> usize {
    let sum = bytes.iter().fold(7usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    sum % (bytes.len() + 1)
}

/// The inbound door's request head.
pub fn head(bytes: &[u8]) {
    let limits = InboundLimits::default();
    let whole = parse_head(bytes, &limits);
    // However it is cut into reads, it is let in or not, and where it ends is the same.
    let early = &bytes[..cut(bytes)];
    match parse_head(early, &limits) {
        Err(_) => assert!(whole.is_err(), "refused, and then not"),
        Ok(Some(head)) => assert_eq!(whole.as_ref().ok(), Some(&Some(head)), "more bytes changed it"),
        Ok(None) => assert!(early.len() <= limits.head_bytes_max + 2, "endless"),
    }
    if !may_decide(bytes) && bytes.len() <= limits.head_bytes_max {
        assert!(whole.as_ref().is_ok_and(Option::is_none) || bytes.len() > limits.target_bytes_max);
    }
    let Ok(Some(head)) = whole else { return };
    assert!(head.head_bytes <= bytes.len() && head.head_bytes <= limits.head_bytes_max + 2);
    if let RequestBody::Length(length) = head.body {
        assert!((1..=limits.body_bytes_max as u64).contains(&length));
    }
    // What goes inside says one thing only, and reads back as the same request.
    let mut inside = Vec::new();
    head.render(CLIENT, 3, true, &mut inside);
    let text = std::str::from_utf8(&inside).expect("ASCII inside");
    assert!(text.bytes().all(|byte| matches!(byte, b'\r' | b'\n' | b'\t' | b' '..=b'~')));
    let lines: Vec<_> = text.split("\r\n").collect();
    let [request, "Connection: close", line, "Content-Length: 3", "", ""] = lines[..] else {
        panic!("other lines inside: {text:?}");
    };
    assert!(request.ends_with(&format!(" {} HTTP/1.1", head.target)), "{request:?}");
    assert!(!text.replace("\r\n", "").contains(['\r', '\n']), "half an end of line: {text:?}");
    let fields = FieldsInside::parse(line.strip_prefix("X-Tubox-Head: ").expect("the line of the door"));
    assert_eq!(fields.client, "192.0.2.1");
    if fields.get("Host").is_some() {
        let text = text.replacen("X-Tubox-Head: 192.0.2.1\t", "", 1).replace('\t', "\r\n");
        let limits = InboundLimits { head_bytes_max: 1 << 20, headers_max: 99, ..limits };
        let again = parse_head(text.as_bytes(), &limits).expect("a clean head").expect("a whole head");
        assert_eq!((again.method, &again.target), (head.method, &head.target));
        assert_eq!((again.body, again.fields), (RequestBody::Length(3), head.fields));
    }
}

/// The inbound door's chunks.
pub fn chunked(bytes: &[u8]) {
    const BYTES_MAX: u64 = 4096;
    let decode = |parts: &[&[u8]]| {
        let (mut decoder, mut body, mut taken) = (ChunkedDecoder::new(BYTES_MAX), Vec::new(), 0);
        for part in parts {
            taken += decoder.decode(part, &mut body).map_err(drop)?;
        }
        Ok::<_, ()>((body, taken, decoder.done()))
    };
    let whole = decode(&[bytes]);
    let (left, right) = bytes.split_at(cut(bytes));
    assert_eq!(whole, decode(&[left, right]), "it matters how it is cut");
    assert_eq!(whole, decode(&bytes.chunks(1).collect::<Vec<_>>()), "it matters how it is cut");
    if let Ok((body, taken, done)) = whole {
        assert!(body.len() as u64 <= BYTES_MAX && taken <= bytes.len() && (done || taken == bytes.len()));
    }
    // Whatever is put into chunks comes out of them.
    let data = &bytes[..bytes.len().min(BYTES_MAX as usize)];
    let mut wire = Vec::new();
    for part in data.chunks(1 + cut(bytes) % 100) {
        wire.extend(format!("{:X}\r\n", part.len()).bytes());
        wire.extend(part);
        wire.extend(b"\r\n");
    }
    let length = wire.len() + 5;
    wire.extend(b"0\r\n\r\nGET /next");
    assert_eq!(decode(&[&wire]), Ok((data.to_vec(), length, true)));
}

/// The head of tiny_http's answers.
pub fn answer(bytes: &[u8]) {
    for to_head in [false, true] {
        let whole = parse_answer(bytes, to_head);
        match parse_answer(&bytes[..cut(bytes)], to_head) {
            Err(_) => assert!(whole.is_err(), "refused, and then not"),
            Ok(Some(head)) => assert_eq!(whole.as_ref().ok(), Some(&Some(head)), "more bytes changed it"),
            Ok(None) => {}
        }
        let Ok(Some(head)) = whole else { continue };
        assert!(head.head_bytes <= bytes.len());
        // Without the line that HTTP/1.0 needs: a head with as many lines as are taken would have one too many.
        let out = head.render(true, false);
        assert_eq!(out.windows(4).position(|four| four == b"\r\n\r\n"), Some(out.len() - 4));
        assert!(!out.contains(&0), "a NUL goes out");
        let again = parse_answer(&out, to_head).expect("a clean head").expect("a whole head");
        assert_eq!(again.head_bytes, out.len());
        assert_eq!(again.render(true, false), out);
    }
}

/// The outbound door's answers from the internet.
pub fn outbound(bytes: &[u8]) {
    let Some(length) = head_length(bytes, 0) else {
        let _ = check_unfinished(bytes);
        return;
    };
    assert_eq!(
        head_length(bytes, cut(&bytes[..length])),
        Some(length),
        "it matters what was searched before"
    );
    let Ok(head) = parse_answer_head(&bytes[..length], false) else { return };
    let text = std::str::from_utf8(&head.bytes).expect("UTF-8 inside");
    assert_eq!(text.find("\r\n\r\n"), Some(text.len() - 4), "it ends before its end");
    assert!(!text.replace("\r\n", "").contains(|c: char| c.is_ascii_control() && c != '\t'), "{text:?}");
    // The body ends where it ends, however it comes.
    let (early, late) = bytes[length..].split_at(cut(&bytes[length..]));
    let read = |early: &[u8], late: &[u8]| {
        let (mut late, mut body) = (Cursor::new(late), Vec::new());
        let mut framed = FramedBody::new(head.end, early, &mut late);
        let end = framed.read_to_end(&mut body).map_err(drop);
        (body, end, framed.fault().is_some())
    };
    let (body, end, is_fault) = read(&bytes[length..], b"");
    assert!(body.len() <= bytes.len() - length);
    assert_eq!(end.is_err(), is_fault, "it broke off without a reason");
    let (same_body, same_end, same_fault) = read(early, late);
    assert_eq!((end, is_fault), (same_end, same_fault), "it matters how it is cut");
    if !is_fault {
        assert_eq!(body, same_body);
    }
}

/// A submission's body, as form and as JSON.
pub fn submission(bytes: &[u8]) {
    const IDS_MAX: usize = 100;
    for kind in [None, Some("application/json"), Some("application/x-www-form-urlencoded; charset=UTF-8")] {
        let Ok(submission) = parse_submission(kind, bytes, IDS_MAX) else { continue };
        let mut ids: Vec<&str> = submission.ids.iter().map(|id| id.as_str()).collect();
        assert!((1..=IDS_MAX).contains(&ids.len()));
        for id in &ids {
            assert!((1..=256).contains(&id.len()));
            assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)));
        }
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), submission.ids.len(), "an id stands twice");
        for (text, length_max) in
            [(&submission.team, 64), (&submission.contributor, 64), (&submission.note, 500)]
        {
            assert!(text.chars().count() <= length_max);
        }
        assert!(submission.latitude.is_none_or(|degrees| (-90.0..=90.0).contains(&degrees)));
        assert!(submission.longitude.is_none_or(|degrees| (-180.0..=180.0).contains(&degrees)));
        // It goes into the journal and comes out of it.
        let json = serde_json::to_string(&submission).expect("JSON");
        assert_eq!(serde_json::from_str::<tubox::queue::Submission>(&json).expect("JSON"), submission);
    }
    // The seed's format takes the same object as a JSON body does.
    if let Ok(as_json) = parse_submission(Some("application/json"), bytes, IDS_MAX) {
        let form: String = bytes.iter().map(|byte| format!("%{byte:02x}")).collect();
        let as_form = parse_submission(None, format!("data={form}").as_bytes(), IDS_MAX);
        assert_eq!(as_form.map(|submission| submission.ids), Ok(as_json.ids));
    }
}

/// An answer to media/get.
pub fn media(bytes: &[u8]) {
    for (status, is_encoded) in [(200, false), (200, true), (404, false)] {
        let fault = match judge(status, is_encoded, bytes) {
            Beginning::Picture => {
                assert!(status == 200 && !is_encoded, "an error taken for a picture");
                let visible = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
                let visible = visible.iter().find(|byte| !byte.is_ascii_whitespace());
                assert!(visible.is_some_and(|byte| !b"{<".contains(byte)), "a text taken for a picture");
                continue;
            }
            Beginning::Json => json_fault(bytes),
            Beginning::Wrong(fault) => fault,
        };
        assert!(!fault.code.is_empty() && fault.code != "0", "{fault:?}");
        let shown = fault.to_string();
        assert!(shown.len() < 8000 && !shown.contains(char::is_control), "{shown:?}");
    }
    let sniffed = PictureKind::sniff(bytes);
    if sniffed
        .is_some_and(|kind| is_whole(kind, &mut Cursor::new(bytes), bytes.len() as u64).unwrap_or(false))
    {
        assert_eq!(judge(200, false, bytes), Beginning::Picture, "a picture taken for a text");
    }
}

/// A picture's kind and its end.
pub fn picture(bytes: &[u8]) {
    let whole = |kind, bytes: &[u8]| {
        is_whole(kind, &mut Cursor::new(bytes), bytes.len() as u64).expect("memory can be read")
    };
    let _ = PictureKind::sniff(bytes);
    for kind in PictureKind::ALL {
        if whole(kind, bytes) {
            // What phones append does not make it less.
            let longer = [bytes, &[0; 9], b"MotionPhoto_Data", bytes].concat();
            assert!(whole(kind, &longer), "{kind:?} is not whole with a tail");
        }
    }
}

/// A manifest and a list of hashes.
pub fn lists(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for line in text.lines() {
        if let Some((hash, file)) = manifest::parse_sums_line(line) {
            assert!(hash.len() == 64 && !file.is_empty());
        }
    }
    let Ok(rows) = manifest::parse(bytes) else { return };
    let write = |rows: &[manifest::Row]| {
        let lines = rows.iter().map(|row| row.to_line().expect("a line"));
        manifest::header_line().expect("a header") + &lines.collect::<String>()
    };
    // Line breaks in texts become spaces when it is written; from then on nothing changes any more.
    let text = write(&rows);
    let clean = manifest::parse(text.as_bytes()).expect("what was written can be read");
    assert_eq!(clean.len(), rows.len());
    let text = write(&clean);
    assert_eq!(manifest::parse(text.as_bytes()).expect("what was written can be read"), clean);
    // Only texts from visitors are made into one line; the other columns are the box's own.
    if text.lines().count() != clean.len() + 1 || text.contains('\r') {
        return;
    }
    let torn =
        manifest::parse(&text.as_bytes()[..cut(bytes) % (text.len() + 1)]).expect("a torn tail does no harm");
    assert_eq!(torn, clean[..torn.len()]);
}

/// A file of settings.
pub fn settings(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // Settings name files that are read; devices have no end.
    if ["/dev", "/proc", "/sys"].iter().any(|folder| text.contains(folder)) {
        return;
    }
    let path = Path::new("tubox.toml");
    match config::from_text(text, path, &Vec::new()) {
        Ok(config) => {
            assert!(config.data_dir.is_absolute() && config.pictures_dir.is_absolute());
            assert!(
                (1..=64).contains(&config.drain.downloads)
                    && config.drain.retry_min <= config.drain.retry_max
            );
            assert!((1..=500).contains(&config.limits.ids_per_submission));
            assert!(!config.wechat.api_urls.is_empty() && !config.wechat.app_secret.is_empty());
            assert!(!format!("{config:?}").contains(&config.wechat.app_secret), "the secret is shown");
        }
        Err(ConfigError::File(text)) => assert!(text.starts_with("could not ")),
        Err(ConfigError::Problems(problems)) => {
            assert!(!problems.is_empty());
            for problem in problems {
                assert!(!problem.to_string().contains(|c: char| c.is_control() && c != '\n'), "{problem}");
            }
        }
    }
}
