//! Writers for PNG, GIF and BMP in their simplest valid forms (nothing is compressed), and JPEG by jpeg-encoder.

use super::canvas::Canvas;

/// Baseline JPEG.
pub fn jpeg(canvas: &Canvas, quality: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = jpeg_encoder::Encoder::new(&mut bytes, quality);
    let (width, height) = (dimension(canvas.width), dimension(canvas.height));
    // It fails only for a wrong buffer length or an empty picture; then nothing is written, which tests see.
    if let Err(error) = encoder.encode(&canvas.rgb, width, height, jpeg_encoder::ColorType::Rgb) {
        log::error!("could not encode a sample picture: {error}");
    }
    bytes
}

fn dimension(pixels: u32) -> u16 {
    u16::try_from(pixels).unwrap_or(u16::MAX)
}

/// PNG, 8 bits of red, green and blue, in stored deflate blocks.
pub fn png(canvas: &Canvas) -> Vec<u8> {
    let row_bytes = (canvas.width * 3) as usize;
    let mut rows = Vec::with_capacity(canvas.rgb.len() + canvas.height as usize);
    for row in canvas.rgb.chunks(row_bytes) {
        rows.push(0);
        rows.extend_from_slice(row);
    }
    let mut header = Vec::new();
    header.extend_from_slice(&canvas.width.to_be_bytes());
    header.extend_from_slice(&canvas.height.to_be_bytes());
    header.extend_from_slice(&[8, 2, 0, 0, 0]);
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    png_chunk(&mut bytes, b"IHDR", &header);
    png_chunk(&mut bytes, b"IDAT", &zlib_stored(&rows));
    png_chunk(&mut bytes, b"IEND", &[]);
    bytes
}

fn png_chunk(bytes: &mut Vec<u8>, name: &[u8; 4], content: &[u8]) {
    bytes.extend_from_slice(&(content.len() as u32).to_be_bytes());
    let from = bytes.len();
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(content);
    let checksum = crc32fast::hash(&bytes[from..]);
    bytes.extend_from_slice(&checksum.to_be_bytes());
}

fn zlib_stored(content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x78, 0x01];
    let mut blocks = content.chunks(65_535).peekable();
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        bytes.push(u8::from(blocks.peek().is_none()));
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&(!length).to_le_bytes());
        bytes.extend_from_slice(block);
    }
    bytes.extend_from_slice(&adler32(content).to_be_bytes());
    bytes
}

fn adler32(content: &[u8]) -> u32 {
    let (mut low, mut high) = (1u32, 0u32);
    // 5552 is the most bytes for which the sums cannot overflow.
    for portion in content.chunks(5552) {
        for byte in portion {
            low += u32::from(*byte);
            high += low;
        }
        low %= 65_521;
        high %= 65_521;
    }
    high << 16 | low
}

/// GIF89a with a palette of 6 by 6 by 6 colours.
pub fn gif(canvas: &Canvas) -> Vec<u8> {
    let mut bytes = b"GIF89a".to_vec();
    bytes.extend_from_slice(&dimension(canvas.width).to_le_bytes());
    bytes.extend_from_slice(&dimension(canvas.height).to_le_bytes());
    bytes.extend_from_slice(&[0xf7, 0, 0]);
    for index in 0..256u32 {
        let part = |divisor: u32| if index < 216 { (index / divisor % 6 * 51) as u8 } else { 0 };
        bytes.extend_from_slice(&[part(36), part(6), part(1)]);
    }
    bytes.extend_from_slice(&[0x2c, 0, 0, 0, 0]);
    bytes.extend_from_slice(&dimension(canvas.width).to_le_bytes());
    bytes.extend_from_slice(&dimension(canvas.height).to_le_bytes());
    bytes.extend_from_slice(&[0, 8]);
    for block in lzw_uncompressed(canvas).chunks(255) {
        bytes.push(block.len() as u8);
        bytes.extend_from_slice(block);
    }
    bytes.extend_from_slice(&[0, 0x3b]);
    bytes
}

/// LZW whose table is cleared before its codes could grow beyond nine bits, so that every code is a colour.
fn lzw_uncompressed(canvas: &Canvas) -> Vec<u8> {
    const CLEAR: u32 = 256;
    const END: u32 = 257;
    let mut packed = BitPacker::default();
    for (index, pixel) in canvas.rgb.chunks(3).enumerate() {
        if index % 250 == 0 {
            packed.push(CLEAR);
        }
        let level = |part: u8| (u32::from(part) + 25) / 51;
        packed.push(level(pixel[0]) * 36 + level(pixel[1]) * 6 + level(pixel[2]));
    }
    packed.push(END);
    packed.finish()
}

/// Packs codes of nine bits, lowest bit first.
#[derive(Default)]
struct BitPacker {
    bytes: Vec<u8>,
    held: u32,
    held_bits: u32,
}

impl BitPacker {
    fn push(&mut self, code: u32) {
        self.held |= code << self.held_bits;
        self.held_bits += 9;
        while self.held_bits >= 8 {
            self.bytes.push((self.held & 0xff) as u8);
            self.held >>= 8;
            self.held_bits -= 8;
        }
    }

    fn finish(mut self) -> Vec<u8> {
        if self.held_bits > 0 {
            self.bytes.push((self.held & 0xff) as u8);
        }
        self.bytes
    }
}

/// BMP, 24 bits a pixel, bottom row first.
pub fn bmp(canvas: &Canvas) -> Vec<u8> {
    let row_bytes = (canvas.width * 3) as usize;
    let padding = row_bytes.next_multiple_of(4) - row_bytes;
    let pixels = (row_bytes + padding) * canvas.height as usize;
    let mut bytes = b"BM".to_vec();
    bytes.extend_from_slice(&(54 + pixels as u32).to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&54u32.to_le_bytes());
    bytes.extend_from_slice(&40u32.to_le_bytes());
    bytes.extend_from_slice(&canvas.width.to_le_bytes());
    bytes.extend_from_slice(&canvas.height.to_le_bytes());
    bytes.extend_from_slice(&1u16.to_le_bytes());
    bytes.extend_from_slice(&24u16.to_le_bytes());
    bytes.extend_from_slice(&0u32.to_le_bytes());
    bytes.extend_from_slice(&(pixels as u32).to_le_bytes());
    for figure in [2835u32, 2835, 0, 0] {
        bytes.extend_from_slice(&figure.to_le_bytes());
    }
    for row in canvas.rgb.chunks(row_bytes).rev() {
        for pixel in row.chunks(3) {
            bytes.extend_from_slice(&[pixel[2], pixel[1], pixel[0]]);
        }
        bytes.extend(std::iter::repeat_n(0, padding));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_known_one() {
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
        assert_eq!(adler32(&[255; 100_000]), adler32_slow(&[255; 100_000]));
    }

    fn adler32_slow(content: &[u8]) -> u32 {
        let (mut low, mut high) = (1u64, 0u64);
        for byte in content {
            low = (low + u64::from(*byte)) % 65_521;
            high = (high + low) % 65_521;
        }
        (high << 16 | low) as u32
    }
}
