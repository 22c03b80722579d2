//! Pictures to send through: generated, decodable by anything, told apart at a glance. Each number gives one
//! picture, always the same; the kinds rotate, mostly JPEG and PNG, most of them small, some about 1 MB.

mod canvas;
mod formats;

use canvas::Canvas;

/// A generated picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SamplePicture {
    /// The file.
    pub bytes: Vec<u8>,
    /// As an uploader would name it.
    pub content_type: &'static str,
    /// Without the dot.
    pub extension: &'static str,
}

/// The picture number `index`.
pub fn sample_picture(index: u32) -> SamplePicture {
    match index % 8 {
        1 => picture(formats::png(&Canvas::draw(320, 240, index)), "png"),
        3 => picture(formats::png(&Canvas::draw(640, 480, index)), "png"),
        5 => picture(formats::gif(&Canvas::draw(320, 240, index)), "gif"),
        7 => picture(formats::bmp(&Canvas::draw(320, 240, index)), "bmp"),
        2 => picture(formats::jpeg(&Canvas::draw(720, 540, index).grained(index), 100), "jpg"),
        6 => picture(formats::jpeg(&Canvas::draw(480, 360, index), 85), "jpg"),
        _ => picture(formats::jpeg(&Canvas::draw(320, 240, index), 85), "jpg"),
    }
}

fn picture(bytes: Vec<u8>, extension: &'static str) -> SamplePicture {
    let content_type = match extension {
        "png" => "image/png",
        "gif" => "image/gif",
        "bmp" => "image/bmp",
        _ => "image/jpeg",
    };
    SamplePicture { bytes, content_type, extension }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_kind_is_recognised_and_has_its_size() {
        for (index, extension, width, height) in [
            (0, "jpg", 320, 240),
            (1, "png", 320, 240),
            (5, "gif", 320, 240),
            (6, "jpg", 480, 360),
            (7, "bmp", 320, 240),
        ] {
            let sample = sample_picture(index);
            assert_eq!(sample.extension, extension);
            let kind = infer::get(&sample.bytes).unwrap();
            assert_eq!((kind.mime_type(), kind.extension()), (sample.content_type, extension));
            let size = imagesize::blob_size(&sample.bytes).unwrap();
            assert_eq!((size.width, size.height), (width, height));
        }
    }

    #[test]
    fn each_number_gives_its_own_picture_and_always_the_same() {
        let small = [0, 1, 4, 5, 7, 8, 13];
        let all: HashSet<Vec<u8>> = small.iter().map(|index| sample_picture(*index).bytes).collect();
        assert_eq!(all.len(), small.len());
        assert!(all.iter().all(|bytes| bytes.len() < 300_000));
        assert_eq!(sample_picture(9), sample_picture(9));
        assert_ne!(sample_picture(8).bytes, sample_picture(4_000_000_000).bytes);
    }

    #[test]
    fn some_are_about_a_megabyte() {
        for index in [2, 3] {
            let length = sample_picture(index).bytes.len();
            assert!((600_000..1_600_000).contains(&length), "{index}: {length}");
        }
    }
}
