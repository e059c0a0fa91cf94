//! Numbers, and addresses as texts.

use std::ffi::{c_char, c_int, c_ulong, c_ulonglong};
use std::ptr;

/// strtoull(3), for a number without a sign, whose base is at most 16, or 0:
/// then its prefix says it. `errno` is left alone.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn strtoull(
    text: *const c_char,
    end: *mut *const c_char,
    base: c_int,
) -> c_ulonglong {
    let mut text = text.cast::<u8>();
    // SAFETY: the text ends with a NUL byte, behind which nothing is read, for
    // that is no digit; `end` is the caller's.
    unsafe {
        let mut base = c_ulonglong::from(base.unsigned_abs());
        if base == 0 {
            base = 10;
            if *text == b'0' {
                base = 8;
                if *text.add(1) | 0x20 == b'x' && digit(*text.add(2)) < 16 {
                    base = 16;
                    text = text.add(2);
                }
            }
        }
        let mut value: c_ulonglong = 0;
        while digit(*text) < base {
            value = value.saturating_mul(base).saturating_add(digit(*text));
            text = text.add(1);
        }
        *end = text.cast();
        value
    }
}

/// The value of a digit, or more than any digit has.
fn digit(byte: u8) -> c_ulonglong {
    let value = match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        b'A'..=b'F' => byte - b'A' + 10,
        _ => u8::MAX,
    };
    value.into()
}

/// strtoul(3), like [`strtoull`].
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn strtoul(text: *const c_char, end: *mut *const c_char, base: c_int) -> c_ulong {
    // SAFETY: the caller's promise.
    let value = unsafe { strtoull(text, end, base) };
    c_ulong::try_from(value).unwrap_or(c_ulong::MAX)
}

/// inet_aton(3): an IPv4 address of up to four numbers, of which the last one
/// takes the bytes that are left.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn __inet_aton(text: *const c_char, address: *mut [u8; 4]) -> c_int {
    let (mut text, mut end) = (text, ptr::null());
    let mut value = 0;
    for bits in [32, 24, 16, 8] {
        // SAFETY: the text ends with a NUL byte, behind which nothing is read;
        // the address has four bytes.
        unsafe {
            if digit(*text.cast()) > 9 {
                break;
            }
            let number = strtoull(text, &raw mut end, 0);
            let is_last = *end == 0;
            if !is_last && (*end != b'.' as c_char || number > 0xff) || number >> bits != 0 {
                break;
            }
            if is_last {
                *address = ((value | number) as u32).to_be_bytes();
                return 1;
            }
            value |= number << (bits - 8);
            text = end.add(1);
        }
    }
    0
}

/// inet_pton(3), for the two families that there are. What it writes when it
/// returns 0 is no address.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn inet_pton(family: c_int, text: *const c_char, address: *mut u8) -> c_int {
    // SAFETY: the caller's promise.
    let is_address = unsafe {
        match family {
            libc::AF_INET => ipv4(text, address),
            _ => ipv6(text, address),
        }
    };
    is_address.into()
}

/// # Safety
/// The text ends with a NUL byte, and there is room for four bytes.
unsafe fn ipv4(text: *const c_char, address: *mut u8) -> bool {
    let (mut text, mut end) = (text, ptr::null());
    for i in 0..4 {
        // SAFETY: nothing is read behind the NUL byte, which is no digit.
        unsafe {
            let number = strtoull(text, &raw mut end, 10);
            let digits = end.addr() - text.addr();
            let follows = if i < 3 { b'.' } else { 0 };
            let is_number = digits == 1 || digits > 1 && *text != b'0' as c_char && number < 256;
            if !is_number || *end != follows as c_char {
                return false;
            }
            *address.add(i) = number as u8;
            text = end.add(1);
        }
    }
    true
}

/// # Safety
/// The text ends with a NUL byte, and there is room for 16 bytes.
unsafe fn ipv6(text: *const c_char, address: *mut u8) -> bool {
    const COLON: c_char = b':' as c_char;
    let (mut text, mut end) = (text, ptr::null());
    let mut length = 0;
    // How many bytes stand before `::`.
    let mut gap = None;
    // SAFETY: nothing is read behind the NUL byte, which is neither a colon nor
    // a digit, and no more than 16 bytes are written.
    unsafe {
        ptr::write_bytes(address, 0, 16);
        // Before the first group there is no single colon.
        if *text == COLON {
            text = text.add(1);
            if *text != COLON {
                return false;
            }
        }
        loop {
            if *text == COLON && gap.is_none() {
                gap = Some(length);
                text = text.add(1);
                if *text == 0 {
                    break;
                }
            }
            let group = strtoull(text, &raw mut end, 16);
            if *end == b'.' as c_char && length <= 12 && ipv4(text, address.add(length)) {
                length += 4;
                break;
            }
            if !(1..=4).contains(&(end.addr() - text.addr())) || length == 16 {
                return false;
            }
            *address.add(length) = (group >> 8) as u8;
            *address.add(length + 1) = group as u8;
            length += 2;
            if *end == 0 {
                break;
            }
            if *end != COLON {
                return false;
            }
            text = end.add(1);
        }
        let Some(gap) = gap else {
            return length == 16;
        };
        // What follows the gap goes to the end.
        for i in 1..=length - gap {
            ptr::swap(address.add(length - i), address.add(16 - i));
        }
    }
    // The gap stands for one group or more.
    length < 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::{CString, c_void};

    fn position<T, U>(found: *const T, start: *const U) -> Option<usize> {
        (!found.is_null()).then(|| found.addr() - start.addr())
    }

    unsafe extern "C" {
        fn inet_aton(text: *const c_char, address: *mut [u8; 4]) -> c_int;
        #[link_name = "inet_pton"]
        fn inet_pton_of_c(family: c_int, text: *const c_char, address: *mut c_void) -> c_int;
    }

    /// All texts of at most `count` of these parts.
    fn texts_of(parts: &[&str], count: u32) -> Vec<CString> {
        let (mut texts, mut longest) = (Vec::new(), vec![String::new()]);
        for _ in 0..count {
            longest = longest
                .iter()
                .flat_map(|text| parts.iter().map(move |part| format!("{text}{part}")))
                .collect();
            texts.extend_from_slice(&longest);
        }
        let c_string = |text| CString::new(text).expect("no NUL byte");
        texts.into_iter().map(c_string).collect()
    }

    #[test]
    fn numbers_are_addresses_as_in_the_c_library() {
        let numbers = [
            "0",
            "08",
            "0x",
            "ff",
            "255.",
            "256",
            "65536",
            "16777216",
            "4294967295",
            "4294967296",
            ".",
            "x",
        ];
        let bytes = ["0.", "07.", "255.", "256.", "1"];
        let mut is_any = false;
        for text in [texts_of(&numbers, 4), texts_of(&bytes, 5)].concat() {
            let (mut address, mut expected) = ([0; 4], [0; 4]);
            // SAFETY: it is a C string, and the addresses have four bytes.
            let (result, right) = unsafe {
                (
                    __inet_aton(text.as_ptr(), &raw mut address),
                    inet_aton(text.as_ptr(), &raw mut expected),
                )
            };
            assert_eq!(result, right, "{text:?}");
            assert!(result == 0 || address == expected, "{text:?} {address:?}");
            is_any |= result != 0;
        }
        assert!(is_any);
    }

    #[test]
    fn addresses_are_read_as_by_the_c_library() {
        let bytes = ["0.", "07.", "255.", "256.", "1000.", "9.", "0", "99"];
        let groups = [
            "::", "1:", "0:", "fFf0:", "02345:", ":", "f", "g", "1.2.3.4", "256", ".", "%",
        ];
        let few = ["::", "1:", "2", "3.4.5.6"];
        let mut is_any = [false; 2];
        for text in [texts_of(&bytes, 5), texts_of(&groups, 4), texts_of(&few, 9)].concat() {
            for (i, family) in [libc::AF_INET, libc::AF_INET6].into_iter().enumerate() {
                let (mut address, mut expected) = ([0; 32], [0; 32]);
                // SAFETY: it is a C string, and there is room.
                let (result, right) = unsafe {
                    let text = text.as_ptr();
                    (
                        inet_pton(family, text, address.as_mut_ptr()),
                        inet_pton_of_c(family, text, expected.as_mut_ptr().cast()),
                    )
                };
                assert_eq!(result, right, "{text:?}");
                assert!(result == 0 || address == expected, "{text:?} {address:?}");
                // No family has a longer one.
                assert_eq!(address[16..], [0; 16], "{text:?}");
                is_any[i] |= result != 0;
            }
        }
        assert_eq!(is_any, [true; 2]);
    }

    #[test]
    fn numbers_are_read_as_by_the_c_library() {
        let texts = [
            c"",
            c"0",
            c"7",
            c"10 ",
            c"007",
            c"08",
            c"0x1f.",
            c"0XAg",
            c"0x",
            c"0xg",
            c"12a",
            c"255.1",
            c"4294967295",
            c"4294967296",
            c"18446744073709551615",
            c"18446744073709551616",
            c"99999999999999999999999",
            c"0xffffffffffffffffff",
            c"x",
            c".1",
        ];
        for text in texts {
            for base in [0, 8, 10] {
                let (text, mut end) = (text.as_ptr(), ptr::null());
                let mut expected_end = ptr::null_mut();
                // SAFETY: it is a C string; the ends are ours.
                unsafe {
                    let value = strtoull(text, &raw mut end, base);
                    let expected = libc::strtoull(text, &raw mut expected_end, base);
                    assert_eq!(value, expected, "{base}");
                    assert_eq!(position(end, text), position(expected_end, text));
                    let value = strtoul(text, &raw mut end, base);
                    assert_eq!(value, libc::strtoul(text, &raw mut expected_end, base));
                    assert_eq!(position(end, text), position(expected_end, text));
                }
            }
        }
    }
}
