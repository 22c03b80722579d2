//! A small raster to draw on: a gradient whose colours follow the picture's number, a shape, and the number
//! itself in big digits.

/// Red, green, blue, row by row from the top.
pub struct Canvas {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Three bytes a pixel.
    pub rgb: Vec<u8>,
}

type Colour = [u8; 3];

/// Digits on a grid of 5 by 7; the lowest 5 bits of each row, leftmost highest.
const DIGITS: [[u8; 7]; 10] = [
    [0b01110, 0b10001, 0b10011, 0b10101, 0b11001, 0b10001, 0b01110],
    [0b00100, 0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110],
    [0b01110, 0b10001, 0b00001, 0b00110, 0b01000, 0b10000, 0b11111],
    [0b11110, 0b00001, 0b00001, 0b01110, 0b00001, 0b00001, 0b11110],
    [0b00010, 0b00110, 0b01010, 0b10010, 0b11111, 0b00010, 0b00010],
    [0b11111, 0b10000, 0b11110, 0b00001, 0b00001, 0b10001, 0b01110],
    [0b00110, 0b01000, 0b10000, 0b11110, 0b10001, 0b10001, 0b01110],
    [0b11111, 0b00001, 0b00010, 0b00100, 0b01000, 0b01000, 0b01000],
    [0b01110, 0b10001, 0b10001, 0b01110, 0b10001, 0b10001, 0b01110],
    [0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00010, 0b01100],
];

impl Canvas {
    /// The drawing that belongs to `index`.
    pub fn draw(width: u32, height: u32, index: u32) -> Canvas {
        let mut canvas = Canvas { width, height, rgb: Vec::with_capacity((width * height * 3) as usize) };
        let (top, bottom) = (hue(index.wrapping_mul(47)), hue(index.wrapping_mul(47).wrapping_add(100)));
        for y in 0..height {
            for x in 0..width {
                let ground = blend(top, bottom, x + y, width + height);
                let inside = in_shape(index, x, y, width, height);
                canvas.rgb.extend_from_slice(&if inside {
                    ground.map(|part| part / 2 + 100)
                } else {
                    ground
                });
            }
        }
        canvas.write_number(index);
        canvas
    }

    /// The same with the grain of a photograph taken at night, so that a JPEG of it is as big as one.
    pub fn grained(mut self, seed: u32) -> Canvas {
        let mut state = seed | 1;
        for part in &mut self.rgb {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            *part = part.saturating_add((state >> 27) as u8).saturating_sub(16);
        }
        self
    }

    fn write_number(&mut self, index: u32) {
        let text = index.to_string();
        let columns = u32::try_from(text.len()).unwrap_or(10) * 6 - 1;
        let dot = (self.width * 3 / 4 / columns).min(self.height / 2 / 7).max(1);
        let left = (self.width - (columns * dot).min(self.width)) / 2;
        let top = (self.height - (7 * dot).min(self.height)) / 2;
        for (place, digit) in text.bytes().enumerate() {
            let glyph = DIGITS[usize::from(digit - b'0')];
            let x = left + u32::try_from(place).unwrap_or(0) * 6 * dot;
            // A dark copy beneath, moved by a little, keeps the digits readable on any ground.
            self.write_digit(glyph, x + dot / 4, top + dot / 4, dot, [20, 20, 20]);
            self.write_digit(glyph, x, top, dot, [255, 255, 255]);
        }
    }

    fn write_digit(&mut self, glyph: [u8; 7], left: u32, top: u32, dot: u32, colour: Colour) {
        for (row, bits) in (0u32..).zip(glyph) {
            for column in (0..5u32).filter(|column| bits >> (4 - column) & 1 == 1) {
                self.fill(left + column * dot, top + row * dot, dot, colour);
            }
        }
    }

    fn fill(&mut self, left: u32, top: u32, side: u32, colour: Colour) {
        for y in top..(top + side).min(self.height) {
            for x in left..(left + side).min(self.width) {
                let at = ((y * self.width + x) * 3) as usize;
                self.rgb[at..at + 3].copy_from_slice(&colour);
            }
        }
    }
}

/// A full colour on the wheel; one turn is 360.
fn hue(degrees: u32) -> Colour {
    let degrees = degrees % 360;
    let rising = (degrees % 60 * 200 / 60) as u8;
    let (low, high) = (30, 230);
    match degrees / 60 {
        0 => [high, low + rising, low],
        1 => [high - rising, high, low],
        2 => [low, high, low + rising],
        3 => [low, high - rising, high],
        4 => [low + rising, low, high],
        _ => [high, low, high - rising],
    }
}

fn blend(from: Colour, to: Colour, part: u32, whole: u32) -> Colour {
    let mix = |a: u8, b: u8| ((u32::from(a) * (whole - part) + u32::from(b) * part) / whole) as u8;
    [mix(from[0], to[0]), mix(from[1], to[1]), mix(from[2], to[2])]
}

/// A ring, a diamond, stripes or a frame.
fn in_shape(index: u32, x: u32, y: u32, width: u32, height: u32) -> bool {
    let (across, down) = (x.abs_diff(width / 2), y.abs_diff(height / 2));
    let reach = height * 2 / 5;
    match index / 2 % 4 {
        0 => (reach / 2..reach).contains(&(across * across + down * down).isqrt()),
        1 => across + down < reach,
        2 => ((x + y) / (height / 8)).is_multiple_of(2),
        _ => across.max(down) > reach / 2 && across.max(down) < reach,
    }
}
