//! Which address is tried next, and when: hosts of several addresses that do
//! and do not answer, in both families.

use crate::harness::run::{Check, ms};
use crate::harness::smtp::{Port, SILENT, UP, up_after};
use crate::harness::zone::check;
use crate::harness::{dns, namespace};

/// The next address is tried 250 ms after the one before, or as soon as that one
/// fails.
#[test]
fn every_address_is_tried() {
    namespace::run(|| {
        let line = |name: &str, n: u8| format!("192.0.2.{n} {name}.hosts\n");
        let of = |name: &str, numbers: &[u8]| -> String {
            numbers.iter().map(|n| line(name, *n)).collect()
        };
        let many: Vec<_> = (130..170).collect();
        let last = |name: &str| of(name, &many) + &line(name, 200);
        // Forty addresses, 250 ms each, would take ten seconds.
        let hosts = last("refusing") + &of("all-refuse", &many);
        namespace::hosts(&hosts);
        check(
            "slow1.test A 192.0.2.1 192.0.2.200
             slow3.test A 192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.200
             silent.test A 192.0.2.251 192.0.2.200
             down.test A 192.0.2.250 192.0.2.200
             first.test A 192.0.2.200 192.0.2.1 192.0.2.251
             mixed.test A 192.0.2.250 192.0.2.1 192.0.2.240 192.0.2.251 192.0.2.64 192.0.2.200
             all-fail.test A 192.0.2.250 192.0.2.240 192.0.2.64 10.0.0.1
             all-slow.test A 192.0.2.1 192.0.2.2 192.0.2.251",
            &["192.0.2.200"],
            &[
                ("refusing.hosts", "refusing.hosts", 0),
                ("all-refuse.hosts", "", 0),
                ("slow1.test", "slow1.test", 250),
                ("slow3.test", "slow3.test", 750),
                ("silent.test", "silent.test", 250),
                ("down.test", "down.test", 0),
                ("first.test", "first.test", 0),
                ("mixed.test", "mixed.test", 500),
                ("all-fail.test", "", 0),
                ("--timeout=1.5 all-slow.test", "", 1500),
                ("--timeout=0.5 slow3.test", "", 500),
            ],
        );
    });
}

/// The first address greets while later ones are being tried.
#[test]
fn an_early_attempt_is_not_given_up_for_the_next() {
    namespace::run(|| {
        let _names = dns::serve("mx.test A 192.0.2.201 192.0.2.202 192.0.2.203");
        let port = Port::smtp();
        let first = port.serve("192.0.2.201", &up_after(ms(1000)));
        let _others = ["192.0.2.202", "192.0.2.203"].map(|a| port.serve(a, SILENT));
        let run = Check::words("--timeout=20 mx.test").run();
        run.prints("mx.test").after(ms(1000));
        assert_eq!(first.count(), 1);
    });
}

/// The first address in the resolver's order is tried first, and if it greets in
/// time, no other is. A busy machine may miss that now and then, but not always.
#[test]
fn addresses_are_tried_in_the_resolver_s_order() {
    namespace::run(|| {
        let _names = dns::serve("mx.test A 192.0.2.202 192.0.2.201 192.0.2.203");
        let alone = (0..5).any(|_| {
            let port = Port::smtp();
            let first = port.serve("192.0.2.202", UP);
            let others = ["192.0.2.201", "192.0.2.203"].map(|a| port.serve(a, UP));
            Check::words("mx.test").run().prints("mx.test");
            assert_eq!(first.count(), 1);
            let contacted = others.map(|server| server.count());
            contacted == [0, 0]
        });
        assert!(alone, "the others were always contacted as well");
    });
}

/// As `--verbose` shows. A busy machine may get the IPv6 addresses too late now
/// and then, but not always.
#[test]
fn families_take_turns() {
    namespace::run(|| {
        let _names = dns::serve(
            "mx.test A 192.0.2.240 192.0.2.241 192.0.2.242
             mx.test AAAA 2001:db8::a:240 2001:db8::a:241",
        );
        let order = [
            "[2001:db8::a:240]",
            "192.0.2.240",
            "[2001:db8::a:241]",
            "192.0.2.241",
            "192.0.2.242",
        ];
        let in_turns = (0..5).any(|_| {
            let run = Check::words("-v mx.test").run();
            run.answers("");
            let (_, results) = run.stderr.split_once("  down  ").unwrap();
            let tried = results
                .split("; ")
                .map(|result| result.split(": ").next().unwrap());
            tried.eq(order)
        });
        assert!(in_turns, "always in another order");
    });
}

/// One family does not answer; the other does.
#[test]
fn a_dead_family_does_not_hide_a_live_one() {
    namespace::run(|| {
        check(
            "swallowed6.test A 192.0.2.200
             swallowed6.test AAAA 2001:db8::d:1
             swallowed6many.test A 192.0.2.200
             swallowed6many.test AAAA 2001:db8::d:1 2001:db8::d:2 2001:db8::d:3
             unreachable6.test A 192.0.2.200
             unreachable6.test AAAA 2001:db8::e:1
             noroute6.test A 192.0.2.200
             noroute6.test AAAA 2001:db8:ffff::1
             refused6.test A 192.0.2.200
             refused6.test AAAA 2001:db8::a:240
             down6.test A 192.0.2.200
             down6.test AAAA 2001:db8::a:250
             silent6.test A 192.0.2.200
             silent6.test AAAA 2001:db8::a:251
             swallowed4.test A 192.0.2.1
             swallowed4.test AAAA 2001:db8::a:200
             swallowed4many.test A 192.0.2.1 192.0.2.2 192.0.2.3
             swallowed4many.test AAAA 2001:db8::a:200
             unreachable4.test A 192.0.2.64
             unreachable4.test AAAA 2001:db8::a:200
             noroute4.test A 10.0.0.1
             noroute4.test AAAA 2001:db8::a:200
             refused4.test A 192.0.2.240
             refused4.test AAAA 2001:db8::a:200
             down4.test A 192.0.2.250
             down4.test AAAA 2001:db8::a:200
             silent4.test A 192.0.2.251
             silent4.test AAAA 2001:db8::a:200
             neither.test A 192.0.2.240
             neither.test AAAA 2001:db8::a:240
             mapped.test A nodata
             mapped.test AAAA ::ffff:192.0.2.200",
            &["192.0.2.200", "2001:db8::a:200"],
            &[
                ("swallowed6.test", "swallowed6.test", 0),
                ("swallowed6many.test", "swallowed6many.test", 0),
                ("unreachable6.test", "unreachable6.test", 0),
                ("noroute6.test", "noroute6.test", 0),
                ("refused6.test", "refused6.test", 0),
                ("down6.test", "down6.test", 0),
                ("silent6.test", "silent6.test", 0),
                ("swallowed4.test", "swallowed4.test", 0),
                ("swallowed4many.test", "swallowed4many.test", 0),
                ("unreachable4.test", "unreachable4.test", 0),
                ("noroute4.test", "noroute4.test", 0),
                ("refused4.test", "refused4.test", 0),
                ("down4.test", "down4.test", 0),
                ("silent4.test", "silent4.test", 0),
                ("neither.test", "", 0),
                // An IPv4 address does not answer a query for IPv6.
                ("mapped.test", "", 0),
            ],
        );
    });
}

/// The other family is waited for only a moment. A busy machine may be slow now
/// and then, but not always.
#[test]
fn connecting_begins_with_the_first_family() {
    namespace::run(|| {
        let _names = dns::serve(
            "hangs6.test A 192.0.2.200
             hangs6.test AAAA silent
             hangs4.test A silent
             hangs4.test AAAA 2001:db8::a:200",
        );
        let port = Port::smtp();
        let _servers = ["192.0.2.200", "2001:db8::a:200"].map(|a| port.serve(a, UP));
        for name in ["hangs6.test", "hangs4.test"] {
            let soonest = (0..5).map(|_| {
                let run = Check::words(name).run();
                run.prints(name);
                run.elapsed()
            });
            let soonest = soonest.min().unwrap();
            assert!(soonest < ms(500), "{name}: {soonest:?}");
        }
    });
}

/// A server whose queue of connections is full does not answer new ones.
#[test]
fn a_full_queue_beside_one_that_is_not() {
    namespace::run(|| {
        let _names = dns::serve("mx.test A 192.0.2.201 192.0.2.202\nmx.test AAAA nodata");
        let port = Port::smtp();
        let _full = port.full("192.0.2.201");
        Check::words("--timeout=1 mx.test").run().prints("");
        let _up = port.serve("192.0.2.202", UP);
        let run = Check::words("--timeout=20 mx.test").run();
        run.prints("mx.test").after(ms(250));
    });
}
