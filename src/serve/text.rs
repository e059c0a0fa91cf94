//! Texts of bounded length, because the gate's parent allocates nothing. Pure.

use super::question::Outcome;

/// The longest text, in bytes.
const MAX_TEXT: usize = 1000;

/// A text. What is too long for it is cut off.
#[derive(Clone, Copy)]
pub struct Text {
    bytes: [u8; MAX_TEXT],
    length: usize,
}

impl Text {
    pub const EMPTY: Text = Text {
        bytes: [0; MAX_TEXT],
        length: 0,
    };

    pub fn of(bytes: &[u8]) -> Self {
        let mut text = Text::EMPTY;
        text.push(bytes);
        text
    }

    pub fn push(&mut self, bytes: &[u8]) {
        let free = &mut self.bytes[self.length..];
        let count = bytes.len().min(free.len());
        free[..count].copy_from_slice(&bytes[..count]);
        self.length += count;
    }

    /// Adds an end, in place of the last bytes if need be.
    pub fn end(&mut self, end: &[u8]) {
        self.length = self.length.min(MAX_TEXT - end.len());
        self.push(end);
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// How much of what a process prints is kept, in bytes.
const MAX_PRINTED: usize = 2048;

/// What a process has printed: the end of it, if it was much.
pub struct Printed {
    bytes: [u8; MAX_PRINTED],
    length: usize,
}

impl Printed {
    pub const NOTHING: Printed = Printed {
        bytes: [0; MAX_PRINTED],
        length: 0,
    };

    /// Where to read more into: never empty. Then comes [`add`](Self::add).
    pub fn free(&mut self) -> &mut [u8] {
        const HALF: usize = MAX_PRINTED / 2;
        if self.length > HALF {
            self.bytes.copy_within(self.length - HALF..self.length, 0);
            self.length = HALF;
        }
        &mut self.bytes[self.length..]
    }

    /// So many bytes have been read into the free part.
    pub fn add(&mut self, count: usize) {
        self.length += count;
    }

    /// Adds a reason, on a line of its own, why it cannot be told.
    pub fn fail(&mut self, why: &[u8]) -> Outcome {
        for (free, byte) in self.free().iter_mut().zip(why) {
            *free = *byte;
        }
        self.add(why.len());
        Outcome::Unknown
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The last line, without its end.
    pub fn last_line(&self) -> &[u8] {
        let lines = &self.bytes[..self.length];
        let lines = lines.strip_suffix(b"\n").unwrap_or(lines);
        let start = lines.iter().rposition(|&b| b == b'\n');
        &lines[start.map_or(0, |end| end + 1)..]
    }

    /// Whether it is a report, rather than one of the program's messages.
    pub fn is_report(&self) -> bool {
        !self.last_line().starts_with(b"smtpdcheck: ")
    }

    /// Adds a report to a text, as one line with only single blanks.
    pub fn push_report_to(&self, text: &mut Text) {
        text.push(b"smtpdcheck: ");
        let mut between: &[u8] = b"";
        for &byte in &self.bytes[..self.length] {
            match byte {
                b'\n' => between = b"; ",
                b' ' if between.is_empty() => between = b" ",
                b' ' => {}
                byte => {
                    text.push(between);
                    text.push(&[byte]);
                    between = b"";
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(parts: &[&[u8]]) -> Printed {
        let mut printed = Printed::NOTHING;
        for part in parts {
            for byte in *part {
                printed.free()[0] = *byte;
                printed.add(1);
            }
        }
        printed
    }

    fn line(printed: &Printed) -> Text {
        let mut text = Text::EMPTY;
        printed.push_report_to(&mut text);
        text
    }

    #[test]
    fn texts_are_cut_off() {
        let mut text = Text::of(b"ab");
        text.push(b"cd");
        assert_eq!(text.bytes(), b"abcd");
        text.push(&[b'x'; 2000]);
        assert_eq!(text.bytes().len(), 1000);
        text.push(b"y");
        assert_eq!(text.bytes().last(), Some(&b'x'));
        text.end(b"zz");
        assert_eq!(text.bytes().len(), 1000);
        assert!(text.bytes().ends_with(b"xzz"));
        let mut short = Text::of(b"a");
        short.end(b"\n");
        assert_eq!(short.bytes(), b"a\n");
    }

    #[test]
    fn lines() {
        let rows: [(&[u8], &[u8], &[u8]); 8] = [
            (b"", b"", b""),
            (b"\n", b"", b""),
            (b"one", b"one", b"one"),
            (b"one\n", b"one", b"one"),
            (b"one\ntwo\n", b"two", b"one; two"),
            (b"a  b   c\n\n d  e \n", b" d  e ", b"a b c; d e"),
            (b"one\n\n", b"", b"one"),
            (b"  \n", b"  ", b""),
        ];
        for (bytes, last, all) in rows {
            let printed = printed(&[bytes]);
            assert_eq!(printed.last_line(), last, "{bytes:?}");
            assert_eq!(
                line(&printed).bytes(),
                [b"smtpdcheck: ", all].concat(),
                "{bytes:?}"
            );
            assert_eq!(printed.is_empty(), bytes.is_empty());
        }
    }

    #[test]
    fn the_end_is_kept() {
        let printed = printed(&[&[b'x'; 5000], b"\nlast\n"]);
        assert_eq!(printed.last_line(), b"last");
        assert_eq!(line(&printed).bytes().len(), 1000);
        let mut full = Printed::NOTHING;
        for _ in 0..10 {
            let free = full.free().len();
            assert!(free >= 1024, "{free}");
            full.add(free);
        }
    }
}
