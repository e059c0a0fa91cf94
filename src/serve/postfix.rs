//! Postfix's policy protocol (SMTPD_POLICY_README): its requests, and the
//! actions that answer them (access(5)). Pure.

use super::question::{Outcome, Question};
use super::text::{Printed, Text};

/// How much of a request is kept, in bytes. An SMTP command has at most 2,048
/// (Postfix, `line_length_limit`), so that both addresses always fit.
const MAX_REQUEST: usize = 8192;

/// The attributes that are needed.
#[derive(Clone, Copy)]
enum Attribute {
    Request,
    State,
    Sender,
    Recipient,
    Client,
    User,
    Instance,
    Server,
}

/// Their names, in the same order.
const NAMES: [&[u8]; 8] = [
    b"request",
    b"protocol_state",
    b"sender",
    b"recipient",
    b"client_address",
    b"sasl_username",
    b"instance",
    b"server_address",
];

/// A request, as far as it has come.
pub struct Request {
    /// The values that are needed, one after the other and in lower case, and
    /// then the line that is not complete.
    bytes: [u8; MAX_REQUEST],
    /// Where the line begins.
    line: usize,
    /// Where it ends.
    end: usize,
    /// Whether the line was too long.
    is_cut: bool,
    /// Where each value begins and ends.
    values: [(usize, usize); NAMES.len()],
}

impl Request {
    pub const EMPTY: Request = Request {
        bytes: [0; MAX_REQUEST],
        line: 0,
        end: 0,
        is_cut: false,
        values: [(0, 0); NAMES.len()],
    };

    /// Begins a new request.
    pub fn clear(&mut self) {
        (self.line, self.end) = (0, 0);
        self.values = [(0, 0); NAMES.len()];
    }

    /// Takes bytes as they come. Returns how many belong to this request once
    /// it is complete; what is behind them belongs to the next one.
    pub fn take(&mut self, bytes: &[u8]) -> Option<usize> {
        for (i, &byte) in bytes.iter().enumerate() {
            if byte != b'\n' {
                match self.bytes.get_mut(self.end) {
                    Some(free) => {
                        *free = byte;
                        self.end += 1;
                    }
                    None => self.is_cut = true,
                }
            } else if self.end == self.line && !self.is_cut {
                return Some(i + 1);
            } else {
                self.end_line();
            }
        }
        None
    }

    /// Keeps the value of a complete line, if it is needed.
    fn end_line(&mut self) {
        let line = &mut self.bytes[self.line..self.end];
        let equals = line.iter().position(|&b| b == b'=').unwrap_or(0);
        let attribute = NAMES.iter().position(|name| *name == &line[..equals]);
        match attribute.filter(|_| !self.is_cut) {
            Some(i) => {
                line.make_ascii_lowercase();
                self.values[i] = (self.line + equals + 1, self.end);
                self.line = self.end;
            }
            None => self.end = self.line,
        }
        self.is_cut = false;
    }

    /// The value of an attribute; empty if there is none.
    fn value(&self, attribute: Attribute) -> &[u8] {
        let (start, end) = self.values[attribute as usize];
        &self.bytes[start..end]
    }

    /// What a complete request asks; `None`: nothing that needs a check. An
    /// address literal is no domain.
    pub fn question(&self) -> Option<Question<'_>> {
        let recipient = self.value(Attribute::Recipient);
        let at = recipient.iter().rposition(|&b| b == b'@')?;
        let domain = &recipient[at + 1..];
        let domain = domain.strip_suffix(b".").unwrap_or(domain);
        let is_asked = !domain.starts_with(b"[")
            && !domain.ends_with(b".")
            && self.value(Attribute::Request) == b"smtpd_access_policy"
            && self.value(Attribute::State) == b"rcpt"
            && self.value(Attribute::User).is_empty();
        is_asked.then(|| Question {
            domain,
            recipient,
            sender: self.value(Attribute::Sender),
            client: self.value(Attribute::Client),
            server: self.value(Attribute::Server),
            message: self.value(Attribute::Instance),
        })
    }
}

/// The answer where there is nothing to say.
pub fn accept() -> Text {
    Text::of(b"action=DUNNO\n\n")
}

/// The answer for a check that ended like this, having printed that.
pub fn answer(outcome: Outcome, printed: &Printed, verbose: bool) -> Text {
    let is_accepted = matches!(outcome, Outcome::NoneUp | Outcome::Waited);
    if is_accepted && printed.is_empty() {
        return accept();
    }
    let mut text = Text::of(b"action=");
    if is_accepted && verbose && printed.is_report() {
        text.push(b"INFO ");
        printed.push_report_to(&mut text);
    } else {
        text.push(match outcome {
            Outcome::Up => b"DEFER_IF_PERMIT 4.3.2 Please use ",
            // What a check prints without being asked is a warning.
            _ => b"WARN ",
        });
        text.push(printed.last_line());
    }
    text.end(b"\n\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &[u8] = b"request=smtpd_access_policy\nprotocol_state=RCPT\n\
        protocol_name=ESMTP\nsender=a=b@client.test\nrecipient=\"x@y\"@Example.Test.\n\
        client_address=192.0.2.7\nsasl_username=\nserver_address=192.0.2.9\n\
        instance=1a2.3\nno equals sign\n=\n\n";

    /// The questions in these pieces, as texts.
    fn questions(pieces: &[&[u8]]) -> Vec<Option<[String; 6]>> {
        let mut request = Request::EMPTY;
        let mut questions = Vec::new();
        for piece in pieces {
            let mut rest = *piece;
            while let Some(length) = request.take(rest) {
                rest = &rest[length..];
                questions.push(request.question().map(|q| {
                    [
                        q.domain,
                        q.recipient,
                        q.sender,
                        q.client,
                        q.server,
                        q.message,
                    ]
                    .map(|text| String::from_utf8_lossy(text).into_owned())
                }));
                request.clear();
            }
        }
        questions
    }

    fn expected() -> Option<[String; 6]> {
        let texts = [
            "example.test",
            "\"x@y\"@example.test.",
            "a=b@client.test",
            "192.0.2.7",
            "192.0.2.9",
            "1a2.3",
        ];
        Some(texts.map(String::from))
    }

    #[test]
    fn requests_come_in_any_pieces() {
        assert_eq!(questions(&[REQUEST]), [expected()]);
        for at in 0..REQUEST.len() {
            let (a, b) = REQUEST.split_at(at);
            assert_eq!(questions(&[a, b]), [expected()], "{at}");
        }
        let bytes: Vec<_> = REQUEST.chunks(1).collect();
        assert_eq!(questions(&bytes), [expected()]);
        let three = [REQUEST, b"\n", REQUEST].concat();
        assert_eq!(questions(&[&three]), [expected(), None, expected()]);
        assert_eq!(questions(&[&REQUEST[..REQUEST.len() - 1]]), []);
    }

    #[test]
    fn long_lines_are_skipped() {
        let long = [&b"long="[..], &vec![b'x'; 1 << 20], b"\n"].concat();
        let after = [&long[..], REQUEST].concat();
        assert_eq!(questions(&[&after]), [expected()]);
        let lines = REQUEST.split_inclusive(|&b| b == b'\n');
        let mixed: Vec<_> = lines.map(|line| [line, &long].concat()).collect();
        // Behind the empty line another request begins.
        assert_eq!(questions(&[&mixed.concat()]), [expected()]);
        let recipient = [b"recipient=", &vec![b'x'; 8192][..], b"@example.test\n"].concat();
        let too_long = [&REQUEST[..48], &recipient, b"\n"].concat();
        assert_eq!(questions(&[&too_long]), [None]);
    }

    #[test]
    fn what_needs_no_check() {
        let base = "request=smtpd_access_policy\nprotocol_state=RCPT\nrecipient=a@example.test\n";
        let asks = |text: &str| questions(&[text.as_bytes(), b"\n"])[0].is_some();
        assert!(asks(base));
        assert!(asks(&format!("{base}sasl_username=\nsender=\n")));
        assert!(asks(&format!("{base}sasl_username\n")));
        assert!(asks(&base.replace("a@", "a\0@")));
        for (from, to) in [
            ("request=smtpd_access_policy\n", ""),
            ("smtpd_access_policy", "junk"),
            ("RCPT", "DATA"),
            ("protocol_state=RCPT\n", ""),
            ("a@example.test", "postmaster"),
            ("a@example.test", ""),
            ("a@example.test", "a@[192.0.2.1]"),
            ("a@example.test", "a@example.test.."),
            ("recipient=a@example.test\n", ""),
            ("recipient", "Recipient"),
        ] {
            assert!(!asks(&base.replace(from, to)), "{from} {to}");
        }
        assert!(!asks(&format!("{base}sasl_username=me\n")));
    }

    #[test]
    fn every_finding_has_its_action() {
        use Outcome::{NoneUp, Unknown, Up, Waited};
        let printed = |bytes: &[u8]| {
            let mut printed = Printed::NOTHING;
            printed.free()[..bytes.len()].copy_from_slice(bytes);
            printed.add(bytes.len());
            printed
        };
        let line = "a\nsmtpdcheck: cannot look up\n";
        let rows = [
            (
                Up,
                "mx1.test",
                false,
                "DEFER_IF_PERMIT 4.3.2 Please use mx1.test",
            ),
            (
                Up,
                "mx1.test",
                true,
                "DEFER_IF_PERMIT 4.3.2 Please use mx1.test",
            ),
            (NoneUp, "", false, "DUNNO"),
            (NoneUp, "", true, "DUNNO"),
            (NoneUp, line, true, "WARN smtpdcheck: cannot look up"),
            (NoneUp, line, false, "WARN smtpdcheck: cannot look up"),
            (
                NoneUp,
                "mx1.test down",
                true,
                "INFO smtpdcheck: mx1.test down",
            ),
            (Waited, "", false, "DUNNO"),
            (Waited, "deferred\n", true, "INFO smtpdcheck: deferred"),
            (Unknown, line, false, "WARN smtpdcheck: cannot look up"),
            (Unknown, line, true, "WARN smtpdcheck: cannot look up"),
        ];
        for (outcome, text, verbose, action) in rows {
            let found = answer(outcome, &printed(text.as_bytes()), verbose);
            let found = String::from_utf8_lossy(found.bytes()).into_owned();
            assert_eq!(found, format!("action={action}\n\n"));
        }
        for (outcome, verbose) in [(Up, false), (Unknown, false), (NoneUp, true)] {
            let long = answer(outcome, &printed(&[b'x'; 2000]), verbose);
            assert!(long.bytes().ends_with(b"x\n\n"));
        }
    }
}
