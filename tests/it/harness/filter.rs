//! The gate, `smtpdcheck --serve opensmtpd`, as smtpd(8) of OpenSMTPD asks it:
//! a filter. How it runs and ends is that of every [`Gate`].

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::harness::gate::{End, Gate, Link, Start};

/// What smtpd says first.
pub const CONFIG: &str = "\
config|smtpd-version|7.6.0-portable
config|smtp-session-timeout|300
config|subsystem|smtp-in
config|admd|mx2.test
config|ready
";

/// What a filter answers to that.
pub const REGISTRATION: &str = "\
register|filter|smtp-in|rcpt-to
register|ready
";

/// The answer that the message is accepted, as far as the filter knows.
pub const PROCEED: &str = "proceed";

/// A question about one recipient.
#[derive(Clone)]
pub struct Question {
    pub version: String,
    pub time: String,
    pub session: String,
    pub token: String,
    pub address: String,
}

impl Question {
    /// About this recipient, in a session of its own. The token is the same in
    /// all of them, as it is with some versions of smtpd.
    pub fn to(address: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Question {
            version: "0.7".into(),
            time: "1795536152.728105".into(),
            session: format!("0e4322a6{number:08x}"),
            token: "693dbe114cceb5a8".into(),
            address: address.into(),
        }
    }

    pub fn line(&self) -> String {
        let Question {
            version,
            time,
            session,
            token,
            address,
        } = self;
        format!("filter|{version}|{time}|smtp-in|rcpt-to|{session}|{token}|{address}\n")
    }

    /// What tells its answer from others.
    pub fn key(&self) -> String {
        format!("{}|{}", self.session, self.token)
    }
}

/// A running filter, which has registered.
pub struct Filter(Gate);

impl Deref for Filter {
    type Target = Gate;

    fn deref(&self) -> &Gate {
        &self.0
    }
}

impl DerefMut for Filter {
    fn deref_mut(&mut self) -> &mut Gate {
        &mut self.0
    }
}

impl Filter {
    /// With one socket for input and output, and a pipe for errors.
    #[track_caller]
    pub fn start(start: Start) -> Self {
        Self::linked(start.link(Link::Socket))
    }

    /// With another link.
    #[track_caller]
    pub fn linked(start: Start) -> Self {
        let mut filter = Filter(start.start());
        filter.send(CONFIG);
        let registered = [filter.take(b"\n"), filter.take(b"\n")].concat();
        assert_eq!(registered, REGISTRATION);
        filter.has_no_more(REGISTRATION);
        filter
    }

    /// Waits for it to end.
    #[track_caller]
    pub fn end(self) -> End {
        self.0.end()
    }

    /// Asks in a session of its own, and waits for the answer, with which no
    /// other one comes.
    #[track_caller]
    pub fn ask(&mut self, address: &str) -> String {
        self.ask_this(&Question::to(address))
    }

    #[track_caller]
    pub fn ask_this(&mut self, question: &Question) -> String {
        self.send(question.line());
        self.only_answer_to(question)
    }

    /// The next answer, which is to this question, and with which no other one
    /// comes.
    #[track_caller]
    pub fn only_answer_to(&mut self, question: &Question) -> String {
        let answer = self.answer_to(question);
        self.has_no_more(&answer);
        answer
    }

    /// The next answer, which is to this question.
    #[track_caller]
    pub fn answer_to(&mut self, question: &Question) -> String {
        let (key, answer) = self.next_answer();
        assert_eq!(key, question.key(), "{answer}");
        answer
    }

    /// The next answer: to which session and token, and what it says.
    #[track_caller]
    pub fn next_answer(&mut self) -> (String, String) {
        let line = self.take(b"\n");
        let fields = line.strip_prefix("filter-result|").map(str::trim_end);
        let fields: Vec<_> = fields.into_iter().flat_map(|f| f.splitn(3, '|')).collect();
        let [session, token, answer] = fields[..] else {
            panic!("not an answer: {line:?}");
        };
        let is_known = answer == PROCEED || answer.starts_with("reject|450 4.3.2 Please use ");
        assert!(is_known, "not an answer: {line:?}");
        (format!("{session}|{token}"), answer.into())
    }

    /// Takes the answers to these questions, which come in any order, and none
    /// other. Returns them in the order of the questions.
    #[track_caller]
    pub fn answers(&mut self, questions: &[Question]) -> Vec<String> {
        let mut found = BTreeMap::new();
        for _ in questions {
            let (key, answer) = self.next_answer();
            assert_eq!(found.insert(key.clone(), answer), None, "twice: {key}");
        }
        self.has_no_more("all answers");
        let answers = questions.iter().map(|q| found.remove(&q.key()));
        answers
            .map(|a| a.expect("an answer to each question"))
            .collect()
    }

    /// Asks all at the same time, and takes the answers while it does.
    #[track_caller]
    pub fn ask_all(&mut self, questions: &[Question]) -> Vec<String> {
        let lines: String = questions.iter().map(Question::line).collect();
        let sent = self.send_meanwhile(lines.into_bytes());
        let answers = self.answers(questions);
        sent.join().unwrap();
        answers
    }

    /// Nothing else comes of what has been sent so far, and nobody is asked: an
    /// answer that needs nobody is the next.
    #[track_caller]
    pub fn says_nothing(&mut self, about: &str) {
        let question = Question::to("postmaster");
        self.send(question.line());
        let (key, answer) = self.next_answer();
        let found = (&*key, &*answer);
        assert_eq!(found, (&*question.key(), PROCEED), "{about}");
        self.has_no_more(about);
    }
}
