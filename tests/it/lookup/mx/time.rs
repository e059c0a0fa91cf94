//! One deadline, and what counts as slow.

use super::{cannot_look_up, check, counts, serve, servers};
use crate::harness::namespace::{self, FOLDER};
use crate::harness::run::{Check, each, ms};
use crate::harness::smtp::{Port, SILENT, UP};

#[test]
fn a_late_answer_is_waited_for_until_the_deadline() {
    namespace::run(|| {
        let _names = serve(
            "late.test MX after 1000 10:a.test
             never.test MX silent
             too-late.test MX after 3000 10:a.test",
        );
        let servers = servers();
        check("--mx late.test")
            .run()
            .prints("a.test")
            .after(ms(1000));
        assert_eq!(counts(servers), [1, 0, 0]);

        let servers = super::servers();
        for domain in ["never.test", "too-late.test"] {
            for options in ["", "--stop 127.0.0.9", "--jobs=1"] {
                let words = format!("--timeout=1 {options} --mx {domain}");
                let run = Check::words(&words).run();
                let reason = cannot_look_up(domain, "no answer in time");
                run.fails_with(&reason).after(ms(1000));
            }
        }
        assert_eq!(counts(servers), [0; 3]);
    });
}

/// Two deadlines would be over after eleven seconds.
#[test]
fn one_deadline_covers_the_list_and_the_servers() {
    namespace::run(|| {
        let _names = serve(
            "slow.test MX after 5000 10:silent.test 20:silent.test
             hangs.test MX after 5000 10:hang.test
             stops.test MX after 5000 10:silent.test 20:me.test
             hang.test A silent
             hang.test AAAA silent",
        );
        let _silent = Port::smtp().serve("127.0.0.5", SILENT);
        let rows = [
            ("--mx slow.test", Some("")),
            ("--mx hangs.test", Some("")),
            ("--stop 127.0.0.9 --mx stops.test", Some("")),
            ("--stop 127.0.0.9 --mx hangs.test", None),
            ("--stop hang.test --mx stops.test", None),
        ];
        each(&rows, |(words, answer)| {
            let run = Check::words(&format!("--timeout=6 {words}")).run();
            match answer {
                Some(answer) => run.prints(answer).after(ms(6000)),
                None => run.fails().after(ms(6000)),
            };
        });
    });
}

/// With `--jobs 1` each server has its own deadline, from when it is asked.
#[test]
fn one_after_the_other() {
    namespace::run(|| {
        let _names = serve(
            "list.test MX 20:a.test 10:silent.test
             late.test MX after 1000 20:a.test 10:silent.test
             stops.test MX 30:me.test 20:a.test 10:silent.test",
        );
        let _silent = Port::smtp().serve("127.0.0.5", SILENT);
        let [a, ..] = servers();
        let one = |words: &str| Check::words(&format!("--jobs=1 --timeout=1.5 {words}")).run();
        one("--mx list.test").prints("a.test").after(ms(1500));
        one("--mx late.test").prints("a.test").after(ms(2500));
        one("--stop 127.0.0.9 --mx stops.test")
            .prints("a.test")
            .after(ms(1500));
        let run = one("--stop 127.0.0.99 --mx stops.test");
        run.fails_with("stops.test: none of its mail servers is a --stop host")
            .at_once();
        assert_eq!(a.count(), 3);
    });
}

/// The cache remembers a server that is slow, and not one that only had to wait
/// for the name servers.
#[test]
fn the_cache_remembers_slow_servers_only() {
    namespace::run(|| {
        let _names = serve(
            "list.test MX 10:silent.test 20:b.test
             stops.test MX 10:silent.test 20:b.test 30:me.test
             slow.test MX after 1500 10:down.test 20:b.test
             waits.test MX 10:down.test 20:b.test 30:late.test
             late.test A after 1500 127.0.0.9
             late.test AAAA nodata",
        );
        let _b = Port::smtp().serve("127.0.0.3", UP);
        let cached = |words: &str| {
            let words = format!("-v --timeout=2 --cache={FOLDER}/cache {words}");
            Check::words(&words).run()
        };
        for words in ["--mx slow.test", "--stop 127.0.0.9 --mx waits.test"] {
            for _ in 0..2 {
                let run = cached(words);
                run.answers("b.test").after(ms(1500));
                let line = run
                    .stderr
                    .lines()
                    .find(|line| line.starts_with("down.test "));
                let is_asked = |line: &str| {
                    line.contains("connection refused (") && !line.contains("remembered")
                };
                assert!(line.is_some_and(is_asked), "{run}");
            }
        }
        let silent = Port::smtp().serve("127.0.0.5", SILENT);
        cached("--mx list.test").answers("b.test").after(ms(2000));
        assert_eq!(silent.count(), 1);
        let silent = Port::smtp().serve("127.0.0.5", SILENT);
        // To use the memory does not erase it.
        for words in ["--mx list.test", "--stop 127.0.0.9 --mx stops.test"].repeat(2) {
            let run = cached(words);
            run.answers("b.test").at_once();
            assert!(run.stderr.contains("remembered: found down"), "{run}");
        }
        assert_eq!(silent.count(), 0);
    });
}
