//! Functions of the C library, nearly all for musl's resolver. musl's own are
//! made for speed, for every locale, for every notation of a number, and for
//! all that can be done with a file. These do what the resolver needs, and make
//! the program 6 KiB smaller.
//!
//! The linker leaves out what a static program defines itself. Where these
//! functions do less than the manual says, only musl calls them.

use std::ffi::{c_char, c_int, c_long, c_uint, c_ulong, c_ulonglong, c_void};
use std::ptr;

/// qsort(3), for the few addresses of a host.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn qsort(
    list: *mut c_void,
    count: usize,
    size: usize,
    compare: extern "C" fn(*const c_void, *const c_void) -> c_int,
) {
    let list = list.cast::<u8>();
    for sorted in 1..count {
        for i in (0..sorted).rev() {
            // SAFETY: the list has `count` elements of `size` bytes.
            unsafe {
                let (one, next) = (list.add(i * size), list.add((i + 1) * size));
                if compare(one.cast(), next.cast()) <= 0 {
                    break;
                }
                for byte in 0..size {
                    ptr::swap(one.add(byte), next.add(byte));
                }
            }
        }
    }
}

/// A port and protocol of a service, as musl's resolver has it.
#[repr(C)]
#[cfg_attr(test, allow(dead_code))]
struct Service {
    port: u16,
    protocol: u8,
    kind: u8,
}

/// The part of getaddrinfo(3) that looks up a service in /etc/services: here it
/// is asked for TCP and no service. Returns how many there are.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn __lookup_serv(
    services: *mut Service,
    _name: *const c_char,
    _protocol: c_int,
    _kind: c_int,
    _flags: c_int,
) -> c_int {
    let service = Service {
        port: 0,
        protocol: libc::IPPROTO_TCP as u8,
        kind: libc::SOCK_STREAM as u8,
    };
    // SAFETY: the list has room for two.
    unsafe { services.write(service) };
    1
}

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

/// A file that the resolver reads; its `FILE`, which has room for it.
#[repr(C)]
struct Stream {
    /// At [`END_OF_FILE`] the resolver itself looks, which knows a `FILE`.
    flags: c_uint,
    fd: c_int,
    buffer: *mut u8,
    size: usize,
    /// How many bytes the buffer has, and how many of them have been read.
    filled: usize,
    read: usize,
}

/// What feof(3) asks for.
const END_OF_FILE: c_uint = 16;

/// The part of fopen(3) that reads with the caller's `FILE` and buffer.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn __fopen_rb_ca(
    path: *const c_char,
    stream: *mut Stream,
    buffer: *mut u8,
    size: usize,
) -> *mut Stream {
    // SAFETY: the path is a C string.
    let fd = unsafe { libc::open(path, libc::O_RDONLY | libc::O_CLOEXEC) };
    if fd < 0 {
        return ptr::null_mut();
    }
    let opened = Stream {
        flags: 0,
        fd,
        buffer,
        size,
        filled: 0,
        read: 0,
    };
    // SAFETY: a `FILE` is larger than this.
    unsafe { stream.write(opened) };
    stream
}

/// getc(3).
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn getc(stream: *mut Stream) -> c_int {
    // SAFETY: it has been opened; the buffer has its size, and as many bytes as
    // were read into it.
    unsafe {
        let stream = &mut *stream;
        if stream.read == stream.filled {
            let count = libc::read(stream.fd, stream.buffer.cast(), stream.size);
            if count <= 0 {
                if count == 0 {
                    stream.flags |= END_OF_FILE;
                }
                return libc::EOF;
            }
            (stream.read, stream.filled) = (0, count.unsigned_abs());
        }
        let byte = *stream.buffer.add(stream.read);
        stream.read += 1;
        byte.into()
    }
}

/// fgets(3), for a size of more than one.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn fgets(text: *mut c_char, size: c_int, stream: *mut Stream) -> *mut c_char {
    let mut end = text;
    // SAFETY: the stream has been opened, and there is room for `size` bytes.
    unsafe {
        for _ in 1..size {
            let byte = getc(stream);
            if byte == libc::EOF {
                if end == text || (*stream).flags & END_OF_FILE == 0 {
                    return ptr::null_mut();
                }
                break;
            }
            *end = byte as c_char;
            end = end.add(1);
            if byte == c_int::from(b'\n') {
                break;
            }
        }
        *end = 0;
    }
    text
}

/// The part of fclose(3) that leaves the caller his `FILE`.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn __fclose_ca(stream: *mut Stream) -> c_int {
    // SAFETY: it has been opened, and nobody else has its descriptor.
    unsafe { libc::close((*stream).fd) }
}

/// What musl's fstat(2) asks for where the kernel is older than Linux 3.6: the
/// path `/proc/self/fd/` and a number, for which there is room.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn __procfdname(path: *mut u8, fd: c_uint) {
    let folder = *b"/proc/self/fd/";
    let (mut rest, mut end) = (fd, folder.len() + 1);
    while rest > 9 {
        (rest, end) = (rest / 10, end + 1);
    }
    rest = fd;
    // SAFETY: the caller's promise.
    unsafe {
        path.cast::<[u8; 14]>().write(folder);
        *path.add(end) = 0;
        while end > folder.len() {
            end -= 1;
            *path.add(end) = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
    }
}

/// sendmsg(2), without control messages.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn sendmsg(fd: c_int, message: *const c_void, flags: c_int) -> c_long {
    // SAFETY: the caller's promise.
    unsafe { libc::syscall(libc::SYS_sendmsg, fd, message, flags) }
}

/// recvmsg(2), without control messages.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn recvmsg(fd: c_int, message: *mut c_void, flags: c_int) -> c_long {
    // SAFETY: the caller's promise.
    unsafe { libc::syscall(libc::SYS_recvmsg, fd, message, flags) }
}

/// calloc(3), for a size that does not overflow.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    // SAFETY: any size will do, and the memory has it.
    unsafe {
        let memory = libc::malloc(count * size);
        if !memory.is_null() {
            ptr::write_bytes(memory.cast::<u8>(), 0, count * size);
        }
        memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::{CStr, CString};

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

    fn position<T, U>(found: *const T, start: *const U) -> Option<usize> {
        (!found.is_null()).then(|| found.addr() - start.addr())
    }

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

    /// Opens a file with a buffer of `size` bytes.
    fn open(path: &CStr, size: usize) -> *mut Stream {
        let stream = Box::leak(Box::new_uninit()).as_mut_ptr();
        let buffer = vec![0; size].leak().as_mut_ptr();
        // SAFETY: the path is a C string, and the buffer as large as that.
        unsafe { __fopen_rb_ca(path.as_ptr(), stream, buffer, size) }
    }

    /// Reads a file to its end, in lines of a size or byte by byte, as the C
    /// library does.
    fn read_as_the_c_library(path: &CStr, buffer_size: usize, line_size: Option<c_int>) {
        let (mut line, mut expected) = ([b'x' as c_char; 32], [b'x' as c_char; 32]);
        let stream = open(path, buffer_size);
        // SAFETY: both are open until they are closed, and a line has at most
        // 32 bytes.
        unsafe {
            let file = libc::fopen(path.as_ptr(), c"r".as_ptr());
            let mut is_over = stream.is_null() || file.is_null();
            assert!(!is_over);
            while !is_over {
                if let Some(size) = line_size {
                    let text = fgets(line.as_mut_ptr(), size, stream);
                    is_over = libc::fgets(expected.as_mut_ptr(), size, file).is_null();
                    assert_eq!(text.is_null(), is_over);
                    assert!(is_over || text == line.as_mut_ptr());
                    assert_eq!(line, expected);
                } else {
                    let byte = getc(stream);
                    assert_eq!(byte, libc::fgetc(file));
                    is_over = byte == libc::EOF;
                }
                let is_at_end = (*stream).flags & END_OF_FILE != 0;
                assert_eq!(is_at_end, libc::feof(file) != 0);
            }
            libc::fclose(file);
            assert_eq!(__fclose_ca(stream), 0);
        }
    }

    #[test]
    fn files_are_read_as_by_the_c_library() {
        let path = std::env::temp_dir().join(format!("smtpdcheck-lines-{}", std::process::id()));
        let name = CString::new(path.as_os_str().as_encoded_bytes()).expect("no NUL byte");
        let contents: [&[u8]; 6] = [
            b"",
            b"\n",
            b"a",
            b"one\n\ntwo",
            b"a line\nand a longer one\n\xff\x80\n",
            b"0123456789",
        ];
        for content in contents {
            std::fs::write(&path, content).expect("written");
            for buffer_size in [1, 2, 7, 64] {
                read_as_the_c_library(&name, buffer_size, None);
                for line_size in [2, 3, 8, 9, 32] {
                    read_as_the_c_library(&name, buffer_size, Some(line_size));
                }
            }
        }
        std::fs::remove_file(&path).expect("removed");
        assert!(open(&name, 8).is_null());
    }

    #[test]
    fn a_file_that_cannot_be_read_has_no_lines() {
        for already_read in [0, 3] {
            let (folder, mut line) = (open(c"/", 8), [0; 8]);
            assert!(!folder.is_null());
            // SAFETY: it is open; the buffer and a line have eight bytes.
            unsafe {
                (*folder).filled = already_read;
                assert!(fgets(line.as_mut_ptr(), 8, folder).is_null());
                assert_eq!((*folder).flags & END_OF_FILE, 0);
                assert_eq!(__fclose_ca(folder), 0);
            }
        }
    }

    #[test]
    fn descriptors_have_paths() {
        for fd in [0, 9, 10, 99, 100, 1_000_000_000, c_uint::MAX] {
            let mut path = [b'x'; 32];
            // SAFETY: there is room for 32 bytes.
            unsafe { __procfdname(path.as_mut_ptr(), fd) };
            let path = CStr::from_bytes_until_nul(&path).expect("a C string");
            assert_eq!(path.to_str(), Ok(&*format!("/proc/self/fd/{fd}")));
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

    #[test]
    fn messages_are_sent_and_received() {
        let mut fds = [0; 2];
        let (mut sent, mut received) = (*b"message", [0; 16]);
        for (bytes, is_sent) in [(&mut sent[..], true), (&mut received[..], false)] {
            // SAFETY: all zeros is a valid `msghdr`, and all pointers are ours.
            let count = unsafe {
                if is_sent {
                    libc::socketpair(libc::AF_UNIX, libc::SOCK_DGRAM, 0, fds.as_mut_ptr());
                }
                let mut part = libc::iovec {
                    iov_base: bytes.as_mut_ptr().cast(),
                    iov_len: bytes.len(),
                };
                let mut message: libc::msghdr = std::mem::zeroed();
                (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
                match is_sent {
                    true => sendmsg(fds[0], (&raw const message).cast(), 0),
                    false => recvmsg(fds[1], (&raw mut message).cast(), 0),
                }
            };
            assert_eq!(count, 7);
        }
        assert_eq!(&received[..7], b"message");
        // SAFETY: they are open, and nobody else's.
        let _ = fds.map(|fd| unsafe { libc::close(fd) });
    }

    #[test]
    fn memory_is_cleared() {
        // SAFETY: it is as large as was asked for, and freed once.
        unsafe {
            let memory = calloc(3, 5);
            assert_eq!(memory.cast::<[u8; 15]>().read(), [0; 15]);
            libc::free(memory);
        }
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

    #[test]
    fn lists_are_sorted() {
        extern "C" fn compare(one: *const c_void, other: *const c_void) -> c_int {
            // SAFETY: they are elements of the list below.
            let first = |item: *const c_void| unsafe { *item.cast::<[u8; 3]>() }[0];
            c_int::from(first(one)) - c_int::from(first(other))
        }
        for count in 0..40u8 {
            // 37 is prime, and the second and third byte follow the first.
            let mut list: Vec<[u8; 3]> = (0..count)
                .map(|i| (i + 1) * 5 % 37)
                .map(|first| [first, first ^ 1, first ^ 2])
                .collect();
            let mut expected = list.clone();
            expected.sort_by_key(|item| item[0]);
            // SAFETY: the list has as many elements of this size.
            unsafe { qsort(list.as_mut_ptr().cast(), list.len(), 3, compare) };
            assert_eq!(list, expected);
        }
    }
}
