//! Has the end of a JPEG come? Walks markers and segments up to EOI (ITU T.81 annex B) while the bytes pass by, so that
//! nobody has to read them again. Thumbnails inside segments have an EOI of their own, so segments are skipped by their
//! length instead of searched.

/// How far the walk has come.
#[derive(Default)]
pub(super) struct JpegWalk {
    place: Place,
}

#[derive(Clone, Copy, Default)]
enum Place {
    #[default]
    Start,
    StartMarker,
    /// The 0xFF before a marker.
    Lead,
    /// Any number of 0xFF may fill the place before a marker.
    Marker,
    Length(u8),
    LengthLow(u8, u8),
    Segment(u8, u16),
    /// Entropy-coded data, where 0xFF is followed by 0 (stuffing) or a restart marker; anything else ends the scan.
    Scan,
    ScanMarker,
    End,
    Broken,
}

impl JpegWalk {
    /// Takes the next bytes.
    pub(super) fn follow(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(first) = rest.first() {
            let used = match &mut self.place {
                Place::End | Place::Broken => return,
                Place::Segment(marker, left) => {
                    let used = usize::from(*left).min(rest.len());
                    *left -= used as u16;
                    if *left == 0 {
                        self.place = behind_segment(*marker);
                    }
                    used
                }
                Place::Scan => match memchr::memchr(0xff, rest) {
                    Some(at) => {
                        self.place = Place::ScanMarker;
                        at + 1
                    }
                    None => rest.len(),
                },
                place => {
                    *place = place.step(*first);
                    1
                }
            };
            rest = &rest[used..];
        }
    }

    /// Whether it goes on, as far as is known.
    pub(super) fn goes_on(&self) -> bool {
        !matches!(self.place, Place::End | Place::Broken)
    }

    /// Whether the end marker has come.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.place, Place::End)
    }
}

impl Place {
    fn step(self, byte: u8) -> Place {
        match (self, byte) {
            (Place::Start, 0xff) => Place::StartMarker,
            (Place::StartMarker, 0xd8) => Place::Lead,
            (Place::Lead | Place::Marker, 0xff) => Place::Marker,
            (Place::Marker, marker) => after_marker(marker),
            (Place::Length(marker), high) => Place::LengthLow(marker, high),
            (Place::LengthLow(marker, high), low) => match u16::from_be_bytes([high, low]) {
                0 | 1 => Place::Broken,
                2 => behind_segment(marker),
                length => Place::Segment(marker, length - 2),
            },
            (Place::ScanMarker, 0xff) => Place::ScanMarker,
            (Place::ScanMarker, 0x00 | 0xd0..=0xd7) => Place::Scan,
            (Place::ScanMarker, marker) => after_marker(marker),
            _ => Place::Broken,
        }
    }
}

fn after_marker(marker: u8) -> Place {
    match marker {
        0xd9 => Place::End,
        0x01 | 0xd0..=0xd7 => Place::Lead,
        0x00 | 0xd8 => Place::Broken,
        marker => Place::Length(marker),
    }
}

fn behind_segment(marker: u8) -> Place {
    if marker == 0xda { Place::Scan } else { Place::Lead }
}

#[cfg(test)]
mod tests {
    use super::super::whole::PictureKind;
    use super::super::whole::tests::smallest;
    use super::*;

    #[test]
    fn the_end_is_found_however_the_bytes_come() {
        let mut bytes = smallest(PictureKind::Jpeg);
        // Fill bytes before a marker, a marker without a segment, and a second scan.
        bytes.truncate(bytes.len() - 2);
        bytes.extend([
            0xff, 0xff, 0xc4, 0, 3, 9, 0xff, 0x01, 0xff, 0xda, 0, 3, 7, 5, 0xff, 0xff, 0, 6, 0xff, 0xd9,
        ]);
        bytes.extend(b"a tail \xff\xd8");
        let end = bytes.len() - 9;
        for piece in 1..bytes.len() {
            let (mut walk, mut came) = (JpegWalk::default(), 0);
            for part in bytes.chunks(piece) {
                assert_eq!((walk.is_whole(), walk.goes_on()), (came >= end, came < end), "{piece} at {came}");
                walk.follow(part);
                came += part.len();
            }
            assert!(walk.is_whole());
        }
    }
}
