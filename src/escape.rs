//! Bytes that anybody may have chosen, made fit to be shown.

use std::fmt::{self, Display, Formatter, Write};

/// Shows printable ASCII as it is, and any other byte as `\\x` and two digits.
pub struct Escaped<'a>(pub &'a [u8]);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write(f, self.0, "\\x", &[])
    }
}

/// Shows bytes as a string of JSON, in which a byte is the character of that
/// number: printable ASCII, with a backslash before a quote and a backslash,
/// and any other byte as `\\u00` and two digits.
pub struct Quoted<'a>(pub &'a [u8]);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        write(f, self.0, "\\u00", b"\"\\")?;
        f.write_char('"')
    }
}

fn write(f: &mut Formatter<'_>, bytes: &[u8], prefix: &str, marked: &[u8]) -> fmt::Result {
    for &byte in bytes {
        if is_printable(byte) {
            if marked.contains(&byte) {
                f.write_char('\\')?;
            }
            f.write_char(byte.into())?;
        } else {
            let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
            f.write_str(prefix)?;
            f.write_char(digit(byte >> 4))?;
            f.write_char(digit(byte & 15))?;
        }
    }
    Ok(())
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

    #[test]
    fn strings_of_json() {
        let table: &[(&[u8], &str)] = &[
            (b"", r#""""#),
            (b"it's ~ /", r#""it's ~ /""#),
            (br#"220 "mx" \x1b"#, r#""220 \"mx\" \\x1b""#),
            (b"\r\n\0\x7f", r#""\u000d\u000a\u0000\u007f""#),
            ("m\u{fc}".as_bytes(), r#""m\u00c3\u00bc""#),
        ];
        for (bytes, shown) in table {
            assert_eq!(Quoted(bytes).to_string(), *shown);
        }
    }
}
