//! The protocol of OpenSMTPD's filters, 0.5 to 0.7 (smtpd-filters(7)): a line a
//! question, and a line an answer. Pure.

use super::question::Outcome;
use super::text::{Printed, Text};

/// How much of a line is kept, in bytes: the longest line of SMTP and more.
const MAX_LINE: usize = 8192;

/// The longest session and token, in bytes, that an answer can repeat: a line
/// that is cut off would end smtpd. Its own have 33 together.
const MAX_REPEATED: usize = 900;

/// What a filter says once smtpd has said how it is configured.
pub const REGISTRATION: &[u8] = b"register|filter|smtp-in|rcpt-to\nregister|ready\n";

/// A line, as far as it has come.
pub struct Line {
    bytes: [u8; MAX_LINE],
    length: usize,
    /// Whether it was too long.
    is_cut: bool,
}

/// What a line says.
#[derive(PartialEq, Eq, Debug)]
pub enum Message<'a> {
    /// smtpd waits for the registration.
    Ready,
    /// It asks about a recipient.
    Question {
        /// The session and the token, as the answer repeats them.
        key: &'a [u8],
        /// What follows the last `@` of the recipient, in lower case and without
        /// a final dot; empty: nothing that needs a check.
        domain: &'a [u8],
    },
    /// What needs no answer.
    Other,
}

impl Line {
    pub const EMPTY: Line = Line {
        bytes: [0; MAX_LINE],
        length: 0,
        is_cut: false,
    };

    /// Begins a new line.
    pub fn clear(&mut self) {
        (self.length, self.is_cut) = (0, false);
    }

    /// Takes bytes up to the end of the line. Returns how many those are, if
    /// it is complete; what is behind them belongs to the next one.
    pub fn take(&mut self, bytes: &[u8]) -> Option<usize> {
        for (i, &byte) in bytes.iter().enumerate() {
            if byte == b'\n' {
                return Some(i + 1);
            }
            match self.bytes.get_mut(self.length) {
                Some(free) => {
                    *free = byte;
                    self.length += 1;
                }
                None => self.is_cut = true,
            }
        }
        None
    }

    /// What a complete line says.
    pub fn message(&mut self) -> Message<'_> {
        let line = &mut self.bytes[..self.length];
        if *line == *b"config|ready" {
            return Message::Ready;
        }
        // filter|VERSION|TIME|smtp-in|rcpt-to|SESSION|TOKEN|RECIPIENT
        let mut bars = [0; 7];
        let mut count = 0;
        for (i, _) in line.iter().enumerate().filter(|(_, b)| **b == b'|') {
            if count < bars.len() {
                bars[count] = i;
                count += 1;
            }
        }
        let [kind, _, time, _, phase, _, token] = bars;
        let is_question = count == bars.len()
            && line[..kind] == *b"filter"
            && line[time..phase] == *b"|smtp-in|rcpt-to"
            && line[phase + 1..token].len() <= MAX_REPEATED;
        if !is_question {
            return Message::Other;
        }
        let (line, recipient) = line.split_at_mut(token);
        let at = recipient.iter().rposition(|&b| b == b'@');
        let domain = match at.filter(|_| !self.is_cut) {
            Some(at) => &mut recipient[at + 1..],
            None => &mut [],
        };
        domain.make_ascii_lowercase();
        let domain = domain.strip_suffix(b".").unwrap_or(domain);
        Message::Question {
            key: &line[phase + 1..],
            domain: match domain {
                [b'[', ..] | [.., b'.'] => b"",
                domain => domain,
            },
        }
    }
}

/// The answer to a question. With a name: to try that server.
pub fn answer(key: &[u8], better: Option<&[u8]>) -> Text {
    let mut text = Text::of(b"filter-result|");
    text.push(key);
    match better {
        Some(name) => {
            text.push(b"|reject|450 4.3.2 Please use ");
            text.push(name);
        }
        None => text.push(b"|proceed"),
    }
    text.end(b"\n");
    text
}

/// What the log should say of a check that ended like this, having printed
/// that; empty: nothing.
pub fn note(outcome: Outcome, printed: &Printed, verbose: bool) -> Text {
    let mut text = Text::EMPTY;
    if outcome == Outcome::Unknown || !printed.is_report() {
        text.push(printed.last_line());
    } else if outcome == Outcome::NoneUp && verbose && !printed.is_empty() {
        printed.push_report_to(&mut text);
    } else {
        return text;
    }
    text.end(b"\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What these lines say: of a question the key and the domain.
    fn messages(pieces: &[&[u8]]) -> Vec<String> {
        let mut line = Line::EMPTY;
        let mut messages = Vec::new();
        for piece in pieces {
            let mut rest = *piece;
            while let Some(length) = line.take(rest) {
                rest = &rest[length..];
                let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                messages.push(match line.message() {
                    Message::Ready => "ready".to_owned(),
                    Message::Question { key, domain } => format!("{} {}", text(key), text(domain)),
                    Message::Other => String::new(),
                });
                line.clear();
            }
        }
        messages
    }

    #[test]
    fn lines() {
        for (line, expected) in [
            ("config|ready", "ready"),
            ("config|smtpd-version|6.8.0p2", ""),
            ("config|ready|", ""),
            ("", ""),
            ("filter", ""),
            ("filter|0.6|1.2|smtp-in|rcpt-to", ""),
            ("filter|0.6|1.2|smtp-in|rcpt-to|s", ""),
            ("filter|0.6|1.2|smtp-in|rcpt-to|s|t", ""),
            ("filter|0.6|1.2|smtp-in|rcpt-to|s|t|", "s|t "),
            (
                "filter|0.6|1.2|smtp-in|rcpt-to|s|t|a@Example.Test",
                "s|t example.test",
            ),
            (
                "filter|0.7|1.2|smtp-in|rcpt-to|S|T|a|b@c@d.test.",
                "S|T d.test",
            ),
            ("filter||||smtp-in|rcpt-to|s|t|a@b.test", ""),
            ("filter|||smtp-in|rcpt-to|||a@b.test", "| b.test"),
            ("filter|0.6|1.2|smtp-in|rcpt-to|s|t|a@[192.0.2.1]", "s|t "),
            ("filter|0.6|1.2|smtp-in|rcpt-to|s|t|a@b.test..", "s|t "),
            ("filter|0.6|1.2|smtp-in|rcpt-to|s|t|a@", "s|t "),
            ("filter|0.6|1.2|smtp-in|rcpt-to|s|t|a", "s|t "),
            ("filter|0.6|1.2|smtp-in|mail-from|s|t|a@b.test", ""),
            ("filter|0.6|1.2|smtp-out|rcpt-to|s|t|a@b.test", ""),
            ("report|0.6|1.2|smtp-in|rcpt-to|s|t|a@b.test", ""),
        ] {
            let line = format!("{line}\n");
            assert_eq!(messages(&[line.as_bytes()]), [expected], "{line}");
            let bytes: Vec<_> = line.as_bytes().chunks(1).collect();
            assert_eq!(messages(&bytes), [expected], "{line}");
        }
        assert_eq!(messages(&[b"a\nconfig|ready\nb"]), ["", "ready"]);
    }

    #[test]
    fn a_line_that_is_too_long_is_answered() {
        let start = &b"filter|0.6|1.2|smtp-in|rcpt-to|s|t|"[..];
        let long = [start, &vec![b'x'; 1 << 20], b"@b.test\nconfig|ready\n"].concat();
        assert_eq!(messages(&[&long]), ["s|t ", "ready"]);
        // The domain might go on.
        let fill = vec![b'x'; MAX_LINE - start.len() - 7];
        let exact = [start, &fill, b"@b.test\n"].concat();
        assert_eq!(messages(&[&exact]), ["s|t b.test"]);
        let cut = [start, &fill, b"@b.test2\n"].concat();
        assert_eq!(messages(&[&cut]), ["s|t "]);
        // No answer could repeat this.
        let key = "x".repeat(MAX_REPEATED - 2);
        for (token, expected) in [("t", format!("{key}|t b.test")), ("tt", String::new())] {
            let line = format!("filter|0.6|1.2|smtp-in|rcpt-to|{key}|{token}|a@b.test\n");
            assert_eq!(messages(&[line.as_bytes()]), [expected]);
        }
    }

    #[test]
    fn answers() {
        let text = |answer: Text| String::from_utf8_lossy(answer.bytes()).into_owned();
        assert_eq!(text(answer(b"s|t", None)), "filter-result|s|t|proceed\n");
        let better = answer(b"s|t", Some(b"mx1.test"));
        assert_eq!(
            text(better),
            "filter-result|s|t|reject|450 4.3.2 Please use mx1.test\n"
        );
        let long = answer(&[b'x'; 2000], None);
        assert!(long.bytes().ends_with(b"x\n"));
    }

    #[test]
    fn notes() {
        use Outcome::{NoneUp, Unknown, Up};
        let printed = |text: &str| {
            let mut printed = Printed::NOTHING;
            printed.free()[..text.len()].copy_from_slice(text.as_bytes());
            printed.add(text.len());
            printed
        };
        let why = "a\nsmtpdcheck: why\n";
        for (outcome, text, verbose, expected) in [
            (Up, "a\nmx1.test\n", true, ""),
            (NoneUp, "", false, ""),
            (NoneUp, "", true, ""),
            (NoneUp, "a\nb  c\n", true, "smtpdcheck: a; b c\n"),
            (NoneUp, "a\n", false, ""),
            (NoneUp, why, false, "smtpdcheck: why\n"),
            (Unknown, why, false, "smtpdcheck: why\n"),
            (Unknown, why, true, "smtpdcheck: why\n"),
        ] {
            let found = note(outcome, &printed(text), verbose);
            let found = String::from_utf8_lossy(found.bytes()).into_owned();
            assert_eq!(found, expected, "{text}");
        }
    }
}
