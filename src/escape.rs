//! Bytes that anybody may have chosen, made fit to be shown.

use std::fmt::{self, Display, Formatter, Write};

/// Shows printable ASCII as it is, and any other byte as `\\x` and two digits.
pub struct Escaped<'a>(pub &'a [u8]);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for &byte in self.0 {
            if is_printable(byte) {
                f.write_char(byte.into())?;
            } else {
                let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
                f.write_str("\\x")?;
                f.write_char(digit(byte >> 4))?;
                f.write_char(digit(byte & 15))?;
            }
        }
        Ok(())
    }
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_printable_ascii() {
        let table: &[(&[u8], &str)] = &[
            (b"", ""),
            (b"220 \"mx\" it's ~", "220 \"mx\" it's ~"),
            (b"a\r\n\t\0b", "a\\x0d\\x0a\\x09\\x00b"),
            (b"\x1b[2J\x7f", "\\x1b[2J\\x7f"),
            ("m\u{fc}".as_bytes(), "m\\xc3\\xbc"),
            (b"\xff", "\\xff"),
        ];
        for (bytes, shown) in table {
            assert_eq!(Escaped(bytes).to_string(), *shown);
        }
    }
}
