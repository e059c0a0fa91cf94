//! Texts and bytes: measured, searched and copied.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;

/// mbstowcs(3), for no more than the length of a text in the locale C, where
/// every byte is a character.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn mbstowcs(wide: *mut c_void, text: *const c_char, _: usize) -> usize {
    match wide.is_null() {
        // SAFETY: the text ends with a NUL byte.
        true => unsafe { libc::strlen(text) },
        false => usize::MAX,
    }
}

/// strlen(3).
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn strlen(text: *const c_char) -> usize {
    let mut end = text;
    // SAFETY: the text ends with a NUL byte.
    unsafe {
        while *end != 0 {
            end = end.add(1);
        }
    }
    end.addr() - text.addr()
}

/// strstr(3).
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn strstr(text: *const c_char, part: *const c_char) -> *const c_char {
    let mut text = text;
    // SAFETY: both end with a NUL byte.
    unsafe {
        let length = libc::strlen(part);
        while libc::strncmp(text, part, length) != 0 {
            if *text == 0 {
                return ptr::null();
            }
            text = text.add(1);
        }
    }
    text
}

/// strchr(3), for a character that is not NUL.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn strchr(text: *const c_char, byte: c_int) -> *const c_char {
    let mut text = text;
    // SAFETY: the text ends with a NUL byte.
    unsafe {
        while *text != byte as c_char {
            if *text == 0 {
                return ptr::null();
            }
            text = text.add(1);
        }
    }
    text
}

/// memchr(3).
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn memchr(memory: *const c_void, byte: c_int, count: usize) -> *const c_void {
    let memory = memory.cast::<u8>();
    for i in 0..count {
        // SAFETY: there are `count` bytes.
        unsafe {
            if c_int::from(*memory.add(i)) == byte & 0xff {
                return memory.add(i).cast();
            }
        }
    }
    ptr::null()
}

/// strncpy(3).
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn strncpy(to: *mut c_char, from: *const c_char, count: usize) -> *mut c_char {
    let mut from = from;
    for i in 0..count {
        // SAFETY: there is room for `count` bytes; the text ends with a NUL
        // byte, behind which nothing is read.
        unsafe {
            *to.add(i) = *from;
            from = from.add(usize::from(*from != 0));
        }
    }
    to
}

/// strcpy(3).
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn strcpy(to: *mut c_char, from: *const c_char) -> *mut c_char {
    // SAFETY: the text ends with a NUL byte, and there is room for it.
    unsafe { strncpy(to, from, libc::strlen(from) + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    const TEXTS: [&CStr; 8] = [
        c"",
        c"a",
        c"aab",
        c"b",
        c"abaab",
        c"127.0.0.1 localhost",
        c"localhost",
        c"\xff\x80 local",
    ];

    #[test]
    fn texts_are_searched_as_by_the_c_library() {
        for text in TEXTS.map(CStr::as_ptr) {
            for part in TEXTS.map(CStr::as_ptr) {
                // SAFETY: they are C strings.
                let (found, expected) = unsafe { (strstr(text, part), libc::strstr(text, part)) };
                assert_eq!(found, expected.cast_const());
            }
        }
    }

    #[test]
    fn texts_are_measured_as_by_the_c_library() {
        for text in TEXTS {
            // SAFETY: it is a C string.
            let lengths = unsafe {
                let text = text.as_ptr();
                (mbstowcs(ptr::null_mut(), text, 0), strlen(text))
            };
            assert_eq!(lengths, (text.count_bytes(), text.count_bytes()));
        }
    }

    #[test]
    fn bytes_are_found_as_by_the_c_library() {
        for text in TEXTS {
            for byte in [b'a', b'b', b'l', 0xff, 0x80, b'z'] {
                let (start, byte) = (text.as_ptr(), c_int::from(byte));
                // SAFETY: it is a C string.
                let (found, expected) = unsafe { (strchr(start, byte), libc::strchr(start, byte)) };
                assert_eq!(found, expected.cast_const());
                for count in 0..=text.count_bytes() {
                    // SAFETY: the text has as many bytes.
                    let (found, expected) = unsafe {
                        let start = start.cast();
                        (memchr(start, byte, count), libc::memchr(start, byte, count))
                    };
                    assert_eq!(found, expected.cast_const());
                }
            }
        }
    }

    #[test]
    fn texts_are_copied_as_by_the_c_library() {
        for text in TEXTS {
            for count in 0..=32 {
                let (mut copy, mut expected) = ([b'x' as c_char; 32], [b'x' as c_char; 32]);
                // SAFETY: there is room for 32 bytes.
                unsafe {
                    let end = strncpy(copy.as_mut_ptr(), text.as_ptr(), count);
                    assert_eq!(end, copy.as_mut_ptr());
                    libc::strncpy(expected.as_mut_ptr(), text.as_ptr(), count);
                }
                assert_eq!(copy, expected, "{count}");
            }
            let (mut copy, mut expected) = ([b'x' as c_char; 32], [b'x' as c_char; 32]);
            // SAFETY: there is room for 32 bytes, and no text has more.
            unsafe {
                assert_eq!(strcpy(copy.as_mut_ptr(), text.as_ptr()), copy.as_mut_ptr());
                libc::strcpy(expected.as_mut_ptr(), text.as_ptr());
            }
            assert_eq!(copy, expected);
        }
    }
}
