//! The file of `--domains`: one domain a line.

use crate::sys::{self, file};

/// Whether the file has this domain.
pub fn contains(path: &[u8], domain: &[u8]) -> sys::Result<bool> {
    let bytes = read(path)?;
    Ok(bytes.split(|&b| b == b'\n').any(|line| is(line, domain)))
}

/// The whole file.
fn read(path: &[u8]) -> sys::Result<Vec<u8>> {
    let file = file::open_to_read(sys::c_string(path))?;
    let size = file::status_of(&file)?.size;
    let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
    let count = file::read_at(&file, &mut bytes, 0)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// Whether a line is this domain, blanks, a comment and a final dot apart.
fn is(line: &[u8], domain: &[u8]) -> bool {
    let end = line.iter().position(|&b| b == b'#').unwrap_or(line.len());
    let name = line[..end].trim_ascii();
    name.strip_suffix(b".")
        .unwrap_or(name)
        .eq_ignore_ascii_case(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        for (line, expected) in [
            ("b.test", true),
            (" \tB.Test. # b\r", true),
            ("b.test\r", true),
            ("b.test#", true),
            ("#b.test", false),
            ("b.test c.test", false),
            ("a.b.test", false),
            ("b.tes", false),
            (".", false),
            ("", false),
        ] {
            assert_eq!(is(line.as_bytes(), b"b.test"), expected, "{line}");
        }
    }
}
