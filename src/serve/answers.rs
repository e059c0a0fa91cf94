//! What was answered for the recipients of one message, so that its servers are
//! asked once; and for a moment also for other messages. Pure.

use std::time::Duration;

use super::question::Question;
use super::text::Text;

/// How many domains are remembered.
const DOMAINS: usize = 8;

/// How long it holds for other messages that a server is up: so a busy gate
/// begins no process for most questions.
pub const MOMENT: Duration = Duration::from_secs(1);

/// What was answered for a domain.
#[derive(Clone, Copy)]
pub struct Answer {
    domain: Text,
    /// Whether a better server is up.
    pub is_up: bool,
    pub text: Text,
    /// The last message for which it holds.
    message: u32,
    /// Until when it holds for other messages, as time since the gate began.
    until: Duration,
}

/// What was answered, most of it for the current message.
pub struct Answers {
    /// The message; empty if there is none.
    message: Text,
    /// Its number.
    number: u32,
    /// The address for which all of it was found.
    server: Text,
    answers: [Answer; DOMAINS],
    /// How many domains there have been.
    count: usize,
}

impl Answers {
    pub const NONE: Answers = Answers {
        message: Text::EMPTY,
        number: 0,
        server: Text::EMPTY,
        answers: [Answer {
            domain: Text::EMPTY,
            is_up: false,
            text: Text::EMPTY,
            message: 0,
            until: Duration::ZERO,
        }; DOMAINS],
        count: 0,
    };

    /// What was answered for this domain.
    pub fn find(&self, question: &Question, now: Duration) -> Option<&Answer> {
        if self.server.bytes() != question.server {
            return None;
        }
        let is_message = self.is_of(question.message);
        let known = &self.answers[..self.count.min(DOMAINS)];
        let same = |answer: &&Answer| {
            (is_message && answer.message == self.number || answer.until > now)
                && answer.domain.bytes() == question.domain
        };
        known.iter().find(same)
    }

    /// Remembers it until there is another message, and until then; only that a
    /// server is up holds for other messages.
    pub fn remember(&mut self, question: &Question, is_up: bool, text: Text, until: Duration) {
        if !self.is_of(question.message) {
            self.message = Text::of(question.message);
            self.number = self.number.wrapping_add(1);
        }
        if self.server.bytes() != question.server {
            self.server = Text::of(question.server);
            self.count = 0;
        }
        self.answers[self.count % DOMAINS] = Answer {
            domain: Text::of(question.domain),
            is_up,
            text,
            message: self.number,
            until: match is_up {
                true => until,
                false => Duration::ZERO,
            },
        };
        self.count += 1;
    }

    fn is_of(&self, message: &[u8]) -> bool {
        !message.is_empty() && self.message.bytes() == message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question<'a>(message: &'a str, domain: &'a str, server: &'a str) -> Question<'a> {
        Question {
            domain: domain.as_bytes(),
            recipient: b"",
            sender: b"",
            client: b"",
            server: server.as_bytes(),
            message: message.as_bytes(),
        }
    }

    fn remember(answers: &mut Answers, message: &str, domain: &str, text: &str) {
        let question = question(message, domain, "s");
        answers.remember(&question, true, Text::of(text.as_bytes()), Duration::ZERO);
    }

    fn find(answers: &Answers, message: &str, domain: &str) -> Option<String> {
        let found = answers.find(&question(message, domain, "s"), Duration::ZERO);
        found.map(|answer| String::from_utf8_lossy(answer.text.bytes()).into_owned())
    }

    #[test]
    fn a_message_is_remembered() {
        let mut answers = Answers::NONE;
        let found = |text: &str| Some(text.to_owned());
        assert_eq!(find(&answers, "1", "a.test"), None);
        assert_eq!(find(&answers, "", ""), None);
        remember(&mut answers, "1", "a.test", "a");
        remember(&mut answers, "1", "b.test", "b");
        assert_eq!(find(&answers, "1", "a.test"), found("a"));
        assert_eq!(find(&answers, "1", "b.test"), found("b"));
        assert_eq!(find(&answers, "1", "c.test"), None);
        assert_eq!(find(&answers, "2", "a.test"), None);
        for i in 0..7 {
            remember(&mut answers, "1", &format!("{i}.test"), "n");
        }
        assert_eq!(find(&answers, "1", "a.test"), None);
        assert_eq!(find(&answers, "1", "b.test"), found("b"));
        assert_eq!(find(&answers, "1", "6.test"), found("n"));
        remember(&mut answers, "2", "c.test", "c");
        assert_eq!(find(&answers, "2", "b.test"), None);
        assert_eq!(find(&answers, "2", "c.test"), found("c"));
        // Without a name a message is not recognised.
        remember(&mut answers, "", "d.test", "d");
        assert_eq!(find(&answers, "", "d.test"), None);
        // Nor one whose name is too long to be kept.
        let long = "1".repeat(1001);
        remember(&mut answers, &long, "d.test", "d");
        assert_eq!(find(&answers, &long, "d.test"), None);
    }

    #[test]
    fn that_a_server_is_up_is_remembered_for_a_moment() {
        let mut answers = Answers::NONE;
        let [begun, until] = [5, 6].map(Duration::from_secs);
        answers.remember(&question("1", "a.test", "s"), true, Text::EMPTY, until);
        answers.remember(&question("1", "b.test", "s"), false, Text::EMPTY, until);
        let is_known = |answers: &Answers, message, domain, server, now| {
            let question = question(message, domain, server);
            answers.find(&question, now).is_some()
        };
        assert!(is_known(&answers, "2", "a.test", "s", begun));
        assert!(is_known(&answers, "", "a.test", "s", begun));
        assert!(is_known(&answers, "1", "b.test", "s", begun));
        // Nothing else is, nor for another domain or address, nor later.
        assert!(!is_known(&answers, "2", "b.test", "s", begun));
        assert!(!is_known(&answers, "2", "c.test", "s", begun));
        assert!(!is_known(&answers, "2", "a.test", "t", begun));
        assert!(!is_known(&answers, "2", "a.test", "s", until));
        // For its own message it is known even then.
        assert!(is_known(&answers, "1", "a.test", "s", until));
        // What is found for another address displaces everything.
        answers.remember(&question("3", "c.test", "t"), true, Text::EMPTY, until);
        assert!(!is_known(&answers, "2", "a.test", "s", begun));
        assert!(!is_known(&answers, "2", "a.test", "t", begun));
    }
}
