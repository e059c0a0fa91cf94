//! The files that musl's resolver reads, as streams.

use std::ffi::{c_char, c_int, c_uint};
use std::ptr;

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

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::{CStr, CString};

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
}
