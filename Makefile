# usage: make [VARIABLE=VALUE...] [TARGET...]
#
#   all            builds target/smtpdcheck, one static file: what plain make does
#   deps           installs what building and testing need and this machine lacks
#   demo           shows what the program does
#   check          runs every test of the program
#   check-servers  tests it with other people's mail and name servers; as root or with sudo
#   check-package  tests the sources and the packages that make dist and make deb make; installs what that needs
#   check-debian   builds Debian's source package in new Debian systems and tests it; as root or with sudo
#   check-fresh    runs make deps demo and make deps check in new Debian systems; as root or with sudo
#   bench          measures the program beside others, which it installs
#   install        installs PROGRAM, the manual and the examples for mail servers; never builds
#   uninstall      removes them
#   dist           makes two tarballs of the last commit: target/smtpdcheck-VERSION.tar.gz, and
#                  target/smtpdcheck-VERSION-vendored.tar.gz, which has all crates that it needs
#   deb            makes target/smtpdcheck_VERSION_ARCHITECTURE.deb: Debian's package of the static program
#   debian-source  makes target/debian-source, for dpkg-buildpackage: Debian's source package of the last commit
#   harden         checks the form of the program
#   reproduce      builds two clones of the last commit, which must give the same bytes
#   emulate        runs the tests with the program for TARGET under qemu, which it installs
#   clean          removes target
#   help           prints this
#
# The variables CARGO, CARGOFLAGS, TARGET, PROGRAM, DESTDIR, PREFIX, BINDIR, MANDIR, DOCDIR, INSTALL, FRESH and DEBIAN are explained in the Makefile.

# Cargo, and what it is told each time: --locked, --offline, --frozen.
CARGO = cargo
CARGOFLAGS = --locked
# Rust's name of the machine to build for.
TARGET = $(shell uname -m)-unknown-linux-musl
# What make install installs. After cargo build --release: PROGRAM=target/release/smtpdcheck.
PROGRAM = target/smtpdcheck
# Where it goes.
DESTDIR =
PREFIX = /usr/local
BINDIR = $(PREFIX)/bin
MANDIR = $(PREFIX)/share/man
DOCDIR = $(PREFIX)/share/doc/smtpdcheck
INSTALL = install
# The new systems of make check-fresh: Debian 12, 13 or unstable. With :root, as root and from a tarball.
FRESH = 12 13 13:root

# The new systems of make check-debian: 13 or unstable, which changes every day.
DEBIAN = 13

# Configuration of mail servers, and scripts for monitoring.
FOLDERS = postfix opensmtpd exim avenger qmail monitoring
EXAMPLES = $(filter-out %~ %.orig %.rej, $(wildcard $(FOLDERS:%=examples/%/*)))

# The most bytes that the program may have on x86-64, by the musl in it: rustup's; Debian's, which is compiled for speed,
# from 1.2.5 on, which also asks by TCP and comes with Rust 1.85; Debian's before that.
SIZE_LIMITS = rustup=114688 1.2.5=126976 1.2.3=118784
# The most instructions and system calls on x86-64, with every Rust and musl: for one live server by address; with --mx
# for a domain with two mail servers; for the parent, and its child, to answer one question about this domain.
INSTRUCTIONS_LIMITS = check=22000 postfix=36000 opensmtpd=22000
SYSTEM_CALLS_LIMITS = check=18 mx=140 postfix=14 postfix-child=150 opensmtpd=15 opensmtpd-child=150

export CARGO CARGOFLAGS TARGET SIZE_LIMITS INSTRUCTIONS_LIMITS SYSTEM_CALLS_LIMITS
# Debian keeps ip and chroot out of an ordinary user's search path.
export PATH := $(PATH):/usr/sbin:/sbin

.PHONY: all deps demo check check-servers check-package check-debian check-fresh bench install uninstall dist deb \
  debian-source harden reproduce emulate clean help force

all: target/smtpdcheck

target/smtpdcheck: force
	@package/build

# `make -j2 deps check` installs first.
ifneq ($(filter deps,$(MAKECMDGOALS)),)
target/smtpdcheck: | deps
endif

deps:
	@package/deps

demo: target/smtpdcheck
	@package/cargo run --quiet --release --example demo -- "$(CURDIR)/target/smtpdcheck"

check: target/smtpdcheck
	@tests/check

check-servers: target/smtpdcheck
	@tests/servers/check

check-package: target/smtpdcheck
	@tests/package/check

check-debian:
	@tests/package/debian $(DEBIAN)

check-fresh:
	@tests/fresh $(FRESH)

bench: target/smtpdcheck
	@tests/bench/run

# The program is renamed into place, for a mail server may start it at any moment. The manual and the examples name
# it where it is installed, and the manual the examples.
install:
	@package/installable "$(PROGRAM)"
	$(INSTALL) -d "$(DESTDIR)$(BINDIR)" "$(DESTDIR)$(MANDIR)/man1" $(FOLDERS:%="$(DESTDIR)$(DOCDIR)/examples/%")
	$(INSTALL) -m 755 "$(PROGRAM)" "$(DESTDIR)$(BINDIR)/.smtpdcheck.new"
	mv -f "$(DESTDIR)$(BINDIR)/.smtpdcheck.new" "$(DESTDIR)$(BINDIR)/smtpdcheck"
	$(INSTALL) -m 644 src/smtpdcheck.1 "$(DESTDIR)$(MANDIR)/man1/smtpdcheck.1"
	for file in $(EXAMPLES); do \
	  mode=644; [ ! -x "$$file" ] || mode=755; \
	  $(INSTALL) -m $$mode "$$file" "$(DESTDIR)$(DOCDIR)/$$file" || exit; \
	done
	sed -i 's|/usr/local/bin/|$(subst &,\&,$(BINDIR))/|g; s|/usr/local/share/doc/smtpdcheck/|$(subst &,\&,$(DOCDIR))/|g' \
	  "$(DESTDIR)$(MANDIR)/man1/smtpdcheck.1" $(EXAMPLES:%="$(DESTDIR)$(DOCDIR)/%")

uninstall:
	rm -f "$(DESTDIR)$(BINDIR)/smtpdcheck" "$(DESTDIR)$(MANDIR)/man1/smtpdcheck.1" $(EXAMPLES:%="$(DESTDIR)$(DOCDIR)/%")
	rmdir $(FOLDERS:%="$(DESTDIR)$(DOCDIR)/examples/%") "$(DESTDIR)$(DOCDIR)/examples" "$(DESTDIR)$(DOCDIR)" 2>/dev/null || true

dist:
	@package/dist

deb: target/smtpdcheck
	@package/deb target/smtpdcheck

debian-source:
	@package/debian-source

harden: target/smtpdcheck
	@tests/package/harden target/smtpdcheck

reproduce:
	@tests/package/reproduce

emulate: target/smtpdcheck
	@tests/emulate

clean:
	rm -rf target

help:
	@sed '/^$$/q; s/^# \{0,1\}//' Makefile
