//! A small JPEG from a picture, or the word that there is none. Whoever sent the picture may mean ill: its size is
//! looked at before a pixel is made, the decoders get strict limits in bytes and in time, and a panic in one of
//! them costs one thumbnail.
//!
//! JPEG is decoded at a fraction of its size, so that 12 megapixels take a few megabytes. The other kinds are
//! decoded whole within [`PIXEL_BYTES_MAX`]. HEIC has no decoder here.

use crate::album::whole::PictureKind;
use crate::ground::clock::SharedClock;
use image::codecs::{bmp::BmpDecoder, gif::GifDecoder, png::PngDecoder, webp::WebPDecoder};
use image::metadata::Orientation;
use image::{GenericImageView, ImageDecoder, ImageResult, Limits, RgbImage, Rgba, imageops};
use jpeg_decoder::{CodingProcess, Decoder, PixelFormat};
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// The longer side of a thumbnail, in pixels.
pub(super) const SIDE: u32 = 320;

/// Files above this have no thumbnail: metadata in them is held in memory while they are decoded.
const FILE_BYTES_MAX: u64 = 48 << 20;

/// Pixels of a JPEG at the fraction at which it is decoded; 200 megapixels at an eighth of each side fit.
const SCALED_PIXELS_MAX: u64 = 4 << 20;

/// A progressive JPEG is held whole, two bytes a coefficient, before its first pixel; 13 megapixels fit.
const COEFFICIENT_BYTES_MAX: u64 = 80 << 20;

/// Bytes of pixels for the kinds that are decoded whole; 10 megapixels with transparency fit.
const PIXEL_BYTES_MAX: u64 = 40 << 20;

/// The longest side for the kinds that are decoded whole.
const WHOLE_SIDE_MAX: u32 = 20_000;

/// How long a decoder may read. A slow card and a slow processor need some seconds for a large picture; a picture
/// that is made to take hours gets no more.
const READ_WITHIN: Duration = Duration::from_secs(20);

/// The quality of a thumbnail.
const QUALITY: u8 = 76;

/// Why there is no thumbnail.
#[derive(Debug)]
pub(super) enum NoThumbnail {
    /// There never will be one.
    Never(String),
    /// The file could not be read now.
    NotNow(io::Error),
}

/// A JPEG whose longer side is [`SIDE`] pixels at most.
pub(super) fn make(kind: PictureKind, file: File, clock: &SharedClock) -> Result<Vec<u8>, NoThumbnail> {
    let length = file.metadata().map_err(NoThumbnail::NotNow)?.len();
    if length > FILE_BYTES_MAX {
        return Err(NoThumbnail::Never(format!("{length} bytes are too many")));
    }
    let until = clock.monotonic() + READ_WITHIN;
    let mut failed = None;
    let source = Patient { file, clock, until, failed: &mut failed };
    let mut source = BufReader::with_capacity(16 * 1024, source);
    let made = catch_unwind(AssertUnwindSafe(|| match kind {
        PictureKind::Heic => Err("no decoder for this kind".to_owned()),
        PictureKind::Jpeg => from_jpeg(&mut source),
        _ => from_other(kind, &mut source),
    }));
    drop(source);
    match (made, failed) {
        (Ok(Ok(small)), _) => encode(&small).map_err(NoThumbnail::Never),
        (_, Some(error)) => Err(NoThumbnail::NotNow(error)),
        (Ok(Err(why)), None) => Err(NoThumbnail::Never(why)),
        (Err(_), None) => Err(NoThumbnail::Never("the decoder panicked".to_owned())),
    }
}

fn from_jpeg(source: impl Read) -> Result<RgbImage, String> {
    let mut decoder = Decoder::new(source);
    let told = |error: jpeg_decoder::Error| error.to_string();
    decoder.read_info().map_err(told)?;
    let info = decoder.info().ok_or("no frame")?;
    let pixels = u64::from(info.width) * u64::from(info.height);
    let components = match info.pixel_format {
        PixelFormat::L8 => 1,
        PixelFormat::RGB24 => 3,
        PixelFormat::CMYK32 => 4,
        PixelFormat::L16 => return Err("16 bits a pixel".to_owned()),
    };
    match info.coding_process {
        CodingProcess::Lossless => return Err("lossless JPEG".to_owned()),
        CodingProcess::DctProgressive if pixels * components * 2 > COEFFICIENT_BYTES_MAX => {
            return Err(format!("progressive, and {pixels} pixels are too many"));
        }
        _ => {}
    }
    let (width, height) = decoder.scale(SIDE as u16, SIDE as u16).map_err(told)?;
    if u64::from(width) * u64::from(height) > SCALED_PIXELS_MAX {
        return Err(format!("{pixels} pixels are too many"));
    }
    let bytes = decoder.decode().map_err(told)?;
    let (channels, bytes) = match info.pixel_format {
        PixelFormat::L8 => (1, bytes),
        PixelFormat::CMYK32 => (3, bytes.chunks_exact(4).flat_map(rgb_of_inverted_cmyk).collect()),
        _ => (3, bytes),
    };
    let orientation = decoder.exif_data().and_then(Orientation::from_exif_chunk);
    Ok(upright(Whole::new(width.into(), height.into(), channels, bytes)?.small(), orientation))
}

/// Programs write CMYK into JPEG inverted.
fn rgb_of_inverted_cmyk(cmyk: &[u8]) -> [u8; 3] {
    let mixed = |ink: u8| (u16::from(ink) * u16::from(cmyk[3]) / 255) as u8;
    [mixed(cmyk[0]), mixed(cmyk[1]), mixed(cmyk[2])]
}

fn from_other(kind: PictureKind, source: impl BufRead + Seek) -> Result<RgbImage, String> {
    let told = |error: image::ImageError| error.to_string();
    let mut decoder = decoder_of(kind, source).map_err(told)?;
    let (width, height) = decoder.dimensions();
    let bytes = decoder.total_bytes();
    if bytes > PIXEL_BYTES_MAX {
        return Err(format!("{width} x {height} pixels are too many"));
    }
    let orientation = decoder.orientation().ok();
    let colour = decoder.color_type();
    let channels = usize::from(colour.channel_count());
    let mut bytes = vec![0; bytes as usize];
    decoder.read_image(&mut bytes).map_err(told)?;
    if usize::from(colour.bytes_per_pixel()) == 2 * channels {
        narrow(&mut bytes);
    }
    Ok(upright(Whole::new(width, height, channels, bytes)?.small(), orientation))
}

fn decoder_of<'s>(
    kind: PictureKind,
    source: impl BufRead + Seek + 's,
) -> ImageResult<Box<dyn ImageDecoder + 's>> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(WHOLE_SIDE_MAX);
    limits.max_image_height = Some(WHOLE_SIDE_MAX);
    limits.max_alloc = Some(PIXEL_BYTES_MAX);
    let mut decoder: Box<dyn ImageDecoder> = match kind {
        PictureKind::Gif => Box::new(GifDecoder::new(source)?),
        PictureKind::Webp => Box::new(WebPDecoder::new(source)?),
        PictureKind::Bmp => Box::new(BmpDecoder::new(source)?),
        _ => Box::new(PngDecoder::with_limits(source, limits.clone())?),
    };
    decoder.set_limits(limits)?;
    Ok(decoder)
}

/// From 16 bits a sample to 8, in the same memory.
fn narrow(bytes: &mut Vec<u8>) {
    for at in 0..bytes.len() / 2 {
        let sample = u16::from_ne_bytes([bytes[2 * at], bytes[2 * at + 1]]);
        bytes[at] = ((u32::from(sample) + 128) / 257) as u8;
    }
    bytes.truncate(bytes.len() / 2);
}

/// The pixels as a decoder gave them. They are scaled through one form, made a pixel at a time: the library's own
/// way has its code once for each of ten forms, and brings the conversions between them along.
struct Whole {
    width: u32,
    height: u32,
    channels: usize,
    bytes: Vec<u8>,
}

impl Whole {
    fn new(width: u32, height: u32, channels: usize, bytes: Vec<u8>) -> Result<Whole, String> {
        if bytes.len() as u64 != u64::from(width) * u64::from(height) * channels as u64 || bytes.is_empty() {
            return Err("too few pixels".to_owned());
        }
        Ok(Whole { width, height, channels, bytes })
    }

    /// Never larger than it was, never without a pixel; on white.
    fn small(self) -> RgbImage {
        let longer = self.width.max(self.height).max(SIDE);
        let share = |side: u32| {
            u32::try_from(u64::from(side) * u64::from(SIDE) / u64::from(longer)).unwrap_or(SIDE).max(1)
        };
        let small = imageops::thumbnail(&self, share(self.width), share(self.height));
        RgbImage::from_fn(small.width(), small.height(), |x, y| {
            let [red, green, blue, alpha] = small.get_pixel(x, y).0;
            let over = |colour: u8| {
                ((u16::from(colour) * u16::from(alpha) + 255 * (255 - u16::from(alpha))) / 255) as u8
            };
            image::Rgb([over(red), over(green), over(blue)])
        })
    }
}

impl GenericImageView for Whole {
    type Pixel = Rgba<u8>;

    fn dimensions(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    fn get_pixel(&self, x: u32, y: u32) -> Rgba<u8> {
        let at = (y as usize * self.width as usize + x as usize) * self.channels;
        Rgba(match self.bytes[at..at + self.channels] {
            [grey] => [grey, grey, grey, 255],
            [grey, alpha] => [grey, grey, grey, alpha],
            [red, green, blue] => [red, green, blue, 255],
            [red, green, blue, alpha, ..] => [red, green, blue, alpha],
            [] => [255; 4],
        })
    }
}

fn upright(picture: RgbImage, orientation: Option<Orientation>) -> RgbImage {
    match orientation.unwrap_or(Orientation::NoTransforms) {
        Orientation::NoTransforms => picture,
        Orientation::Rotate90 => imageops::rotate90(&picture),
        Orientation::Rotate180 => imageops::rotate180(&picture),
        Orientation::Rotate270 => imageops::rotate270(&picture),
        Orientation::FlipHorizontal => imageops::flip_horizontal(&picture),
        Orientation::FlipVertical => imageops::flip_vertical(&picture),
        Orientation::Rotate90FlipH => imageops::flip_horizontal(&imageops::rotate90(&picture)),
        Orientation::Rotate270FlipH => imageops::flip_horizontal(&imageops::rotate270(&picture)),
    }
}

fn encode(picture: &RgbImage) -> Result<Vec<u8>, String> {
    let side = |pixels: u32| u16::try_from(pixels).map_err(|_| "too large".to_owned());
    let (width, height) = (side(picture.width())?, side(picture.height())?);
    let mut bytes = Vec::new();
    jpeg_encoder::Encoder::new(&mut bytes, QUALITY)
        .encode(picture.as_raw(), width, height, jpeg_encoder::ColorType::Rgb)
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// A file that can be read until a moment; remembers when the disk failed, which says nothing of the picture.
struct Patient<'p> {
    file: File,
    clock: &'p SharedClock,
    until: Duration,
    failed: &'p mut Option<io::Error>,
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.clock.monotonic() > self.until {
            return Err(io::Error::new(ErrorKind::TimedOut, "it takes too long"));
        }
        self.file.read(buffer).inspect_err(|error| *self.failed = Some(error.kind().into()))
    }
}

impl Seek for Patient<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::clock::SystemClock;
    use crate::ground::random::SeededRandom;
    use image::ImageFormat;
    use std::io::Write;

    fn file_of(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        file
    }

    fn made(kind: PictureKind, bytes: &[u8]) -> Result<Vec<u8>, NoThumbnail> {
        make(kind, file_of(bytes), &SystemClock::shared())
    }

    fn size_of(jpeg: &[u8]) -> (usize, usize) {
        let size = imagesize::blob_size(jpeg).unwrap();
        (size.width, size.height)
    }

    /// Two halves, red above and blue below, so that it can be seen which way is up.
    fn flag(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |_, y| {
            image::Rgb(if y < height / 2 { [220, 20, 20] } else { [20, 20, 220] })
        })
    }

    fn jpeg(picture: &RgbImage, progressive: bool, orientation: Option<u8>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, 80);
        encoder.set_progressive(progressive);
        if let Some(orientation) = orientation {
            let tiff = [
                b'M',
                b'M',
                0,
                42,
                0,
                0,
                0,
                8,
                0,
                1,
                1,
                0x12,
                0,
                3,
                0,
                0,
                0,
                1,
                0,
                orientation,
                0,
                0,
                0,
                0,
                0,
                0,
            ];
            let segment = [&b"Exif\0\0"[..], &tiff].concat();
            encoder.add_app_segment(1, segment).unwrap();
        }
        let (width, height) = (picture.width() as u16, picture.height() as u16);
        encoder.encode(picture.as_raw(), width, height, jpeg_encoder::ColorType::Rgb).unwrap();
        bytes
    }

    fn other(picture: &RgbImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    /// A PNG that says it is 65500 x 65500 and has next to nothing in it.
    fn bomb() -> Vec<u8> {
        let mut bytes = other(&flag(1, 2), ImageFormat::Png);
        bytes[16..20].copy_from_slice(&65_500u32.to_be_bytes());
        bytes[20..24].copy_from_slice(&65_500u32.to_be_bytes());
        let checksum = crc32fast::hash(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    #[test]
    fn every_kind_with_a_decoder_becomes_a_small_jpeg() {
        let picture = flag(1200, 800);
        for (kind, bytes) in [
            (PictureKind::Jpeg, jpeg(&picture, false, None)),
            (PictureKind::Jpeg, jpeg(&picture, true, None)),
            (PictureKind::Png, other(&picture, ImageFormat::Png)),
            (PictureKind::Gif, other(&picture, ImageFormat::Gif)),
            (PictureKind::Webp, other(&picture, ImageFormat::WebP)),
            (PictureKind::Bmp, other(&picture, ImageFormat::Bmp)),
        ] {
            let small = made(kind, &bytes).unwrap_or_else(|why| panic!("{kind:?}: {why:?}"));
            assert_eq!(size_of(&small), (320, 213), "{kind:?}");
            let pixels =
                image::RgbImage::from_raw(320, 213, Decoder::new(&small[..]).decode().unwrap()).unwrap();
            assert!(pixels.get_pixel(160, 20)[0] > 150 && pixels.get_pixel(160, 200)[2] > 150, "{kind:?}");
        }
        assert!(matches!(made(PictureKind::Heic, b"heic"), Err(NoThumbnail::Never(_))));
        let thin = made(PictureKind::Png, &other(&flag(9000, 2), ImageFormat::Png)).unwrap();
        assert_eq!(size_of(&thin), (320, 1));
        assert_eq!(size_of(&made(PictureKind::Jpeg, &jpeg(&flag(40, 30), false, None)).unwrap()), (40, 30));
    }

    #[test]
    fn every_form_of_pixels_keeps_its_colour_and_lies_on_white() {
        use image::DynamicImage;
        let clear = |alpha| image::RgbaImage::from_pixel(700, 400, Rgba([200, 40, 80, alpha]));
        let half_red =
            [(200 * 128 + 255 * 127) / 255, (40 * 128 + 255 * 127) / 255, (80 * 128 + 255 * 127) / 255];
        let opaque = DynamicImage::ImageRgba8(clear(255));
        let half = DynamicImage::ImageRgba8(clear(128));
        let grey = image::GrayImage::from_pixel(700, 400, image::Luma([90]));
        for (picture, colour) in [
            (DynamicImage::ImageRgb8(opaque.to_rgb8()), [200, 40, 80]),
            (DynamicImage::ImageRgb16(opaque.to_rgb16()), [200, 40, 80]),
            (half.clone(), half_red),
            (DynamicImage::ImageRgba16(half.to_rgba16()), half_red),
            (DynamicImage::ImageRgba8(clear(0)), [255; 3]),
            (DynamicImage::ImageLuma8(grey.clone()), [90; 3]),
            (DynamicImage::ImageLuma16(DynamicImage::ImageLuma8(grey.clone()).to_luma16()), [90; 3]),
            (DynamicImage::ImageLumaA8(DynamicImage::ImageLuma8(grey).to_luma_alpha8()), [90; 3]),
        ] {
            let mut png = io::Cursor::new(Vec::new());
            picture.write_to(&mut png, ImageFormat::Png).unwrap();
            let small = made(PictureKind::Png, png.get_ref()).unwrap();
            let pixels = RgbImage::from_raw(320, 182, Decoder::new(&small[..]).decode().unwrap()).unwrap();
            for (seen, sent) in pixels.get_pixel(100, 100).0.into_iter().zip(colour) {
                assert!((i32::from(seen) - sent).abs() <= 4, "{:?}: {seen}, not {sent}", picture.color());
            }
        }
    }

    #[test]
    fn every_turn_brings_the_corner_where_the_camera_says() {
        let corner = |orientation: u8| {
            let picture = RgbImage::from_fn(64, 32, |x, y| {
                image::Rgb(if x < 32 && y < 16 { [255; 3] } else { [0; 3] })
            });
            let small = made(PictureKind::Jpeg, &jpeg(&picture, false, Some(orientation))).unwrap();
            let (width, height) = size_of(&small);
            let (width, height) = (width as u32, height as u32);
            let pixels =
                RgbImage::from_raw(width, height, Decoder::new(&small[..]).decode().unwrap()).unwrap();
            let light = |x: u32, y: u32| pixels.get_pixel(x, y)[0] > 128;
            (width > height, light(4, 4), light(width - 5, 4), light(4, height - 5))
        };
        let told: Vec<_> = (1..=8).map(corner).collect();
        // Wide or not; where the light corner is: above left, above right, below left, else below right.
        let (wide, high) = (true, false);
        let turns = [
            (wide, true, false, false),
            (wide, false, true, false),
            (wide, false, false, false),
            (wide, false, false, true),
            (high, true, false, false),
            (high, false, true, false),
            (high, false, false, false),
            (high, false, false, true),
        ];
        assert_eq!(told, turns);
    }

    #[test]
    fn a_picture_is_turned_as_its_camera_says() {
        let turned = made(PictureKind::Jpeg, &jpeg(&flag(800, 400), false, Some(6))).unwrap();
        assert_eq!(size_of(&turned), (160, 320));
        let pixels = RgbImage::from_raw(160, 320, Decoder::new(&turned[..]).decode().unwrap()).unwrap();
        assert!(pixels.get_pixel(140, 160)[0] > 150, "what was above is on the right");
    }

    #[test]
    fn what_is_too_large_is_refused_before_a_pixel_is_made() {
        let never = |kind, bytes: &[u8]| match made(kind, bytes) {
            Err(NoThumbnail::Never(why)) => why,
            other => panic!("{:?}", other.map(|bytes| bytes.len())),
        };
        let why = never(PictureKind::Png, &bomb());
        assert!(why.contains("limit") || why.contains("too"), "{why}");
        // The frame header of a JPEG says 65500 x 65500.
        for progressive in [false, true] {
            let mut bytes = jpeg(&flag(64, 64), progressive, None);
            let marker = if progressive { 0xc2 } else { 0xc0 };
            let at = bytes.windows(2).position(|two| two == [0xff, marker]).unwrap();
            bytes[at + 5..at + 9].copy_from_slice(&[0xff, 0xdc, 0xff, 0xdc]);
            assert!(never(PictureKind::Jpeg, &bytes).contains("too many"));
        }
        let file = tempfile::tempfile().unwrap();
        file.set_len(FILE_BYTES_MAX + 1).unwrap();
        assert!(matches!(make(PictureKind::Jpeg, file, &SystemClock::shared()), Err(NoThumbnail::Never(_))));
    }

    #[test]
    fn a_picture_that_takes_too_long_is_given_up() {
        struct Hasty(std::sync::atomic::AtomicU64);
        impl crate::ground::clock::Clock for Hasty {
            fn monotonic(&self) -> Duration {
                Duration::from_secs(15 * self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst))
            }
            fn boot_id(&self) -> String {
                String::new()
            }
            fn wall_ms(&self) -> i64 {
                0
            }
        }
        let clock: SharedClock = std::sync::Arc::new(Hasty(0.into()));
        let noise = RgbImage::from_fn(400, 400, |x, y| {
            image::Rgb([(x * 31 + y * 17) as u8, (x * y) as u8, (x ^ y) as u8])
        });
        let file = file_of(&jpeg(&noise, false, None));
        assert!(matches!(make(PictureKind::Jpeg, file, &clock), Err(NoThumbnail::Never(_))));
    }

    #[test]
    fn damage_never_panics_and_never_hangs() {
        let random = SeededRandom::shared(7);
        let picture = flag(48, 32);
        for (kind, good) in [
            (PictureKind::Jpeg, jpeg(&picture, false, Some(3))),
            (PictureKind::Jpeg, jpeg(&picture, true, None)),
            (PictureKind::Png, other(&picture, ImageFormat::Png)),
            (PictureKind::Gif, other(&picture, ImageFormat::Gif)),
            (PictureKind::Webp, other(&picture, ImageFormat::WebP)),
            (PictureKind::Bmp, other(&picture, ImageFormat::Bmp)),
        ] {
            for _ in 0..60 {
                let mut bytes = good.clone();
                for _ in 0..4 {
                    let at = random.u64() as usize % bytes.len();
                    bytes[at] = random.u64() as u8;
                }
                bytes.truncate(bytes.len() - random.u64() as usize % (bytes.len() / 2));
                if let Ok(small) = made(kind, &bytes) {
                    let (width, height) = size_of(&small);
                    assert!(width.max(height) <= SIDE as usize);
                }
            }
        }
    }
}
