# make               target/smtpdcheck: static, with musl; at most 98,304 bytes on x86-64
# make deps          installs what is missing on this machine
# make deps demo     and shows what the program does
# make deps check    and runs every test
# make check-servers tests it with other people's mail and name servers; as root or with sudo
# make bench         measures the program beside others, which it installs
# make install       DESTDIR, PREFIX, BINDIR, MANDIR; never builds
# make TARGET=aarch64-unknown-linux-musl     for another machine; deps too (rustup only)
#
# make dist          target/smtpdcheck-VERSION.tar.gz: the last commit, with all crates it needs
# make deb           target/smtpdcheck_VERSION_ARCHITECTURE.deb: Debian's package of the static program
# make harden        checks the form of the program
# make reproduce     builds two clones of the last commit, which must give the same bytes
# make check-package runs these four and every test of what they make; installs what that needs
# make emulate       runs the tests with the program for TARGET under qemu; installs what that needs

PREFIX = /usr/local
BINDIR = $(PREFIX)/bin
MANDIR = $(PREFIX)/share/man
ARCH := $(shell uname -m)
TARGET = $(ARCH)-unknown-linux-musl
BUILT = target/small/$(TARGET)/release/smtpdcheck
VERSION := $(shell sed -n '/^version = /{s/.*"\(.*\)"/\1/p;q}' Cargo.toml)
# Seconds. In an unpacked tarball every file has the time of the last commit.
TIME = $(or $(SOURCE_DATE_EPOCH),$(shell [ -e .git ] && git log -1 --format=%ct || stat -c %Y Cargo.toml))
# The most bytes the program may have. Targets without a line have no limit.
LIMIT_x86_64-unknown-linux-musl = 98304
# The most instructions it may take to ask one live server by address.
BUDGET_x86_64-unknown-linux-musl = 20000
# Debian's names for the machines.
ARCHITECTURE_$(ARCH)-unknown-linux-musl = $(shell dpkg --print-architecture)
ARCHITECTURE_aarch64-unknown-linux-musl = arm64
ARCHITECTURE_armv7-unknown-linux-musleabihf = armhf
ARCHITECTURE = $(ARCHITECTURE_$(TARGET))

# Debian's names for what is needed beside Rust, for Rust where rustup cannot give it, and by check-package.
PACKAGES = gcc libc6-dev iproute2 mandoc python3 strace util-linux valgrind
RUST_PACKAGES = rustc-web cargo-web rust-web-src rustfmt-web rust-web-clippy musl-dev lld ca-certificates
# What make bench measures the program beside, and what compiles its least program.
BENCH_PACKAGES = monitoring-plugins-basic musl-tools netcat-openbsd swaks
CHECK_PACKAGES = binutils git lintian rustc-web cargo-web

# A recipe is one shell script; the first command that fails ends it.
.ONESHELL:
.SHELLFLAGS = -euc
.PHONY: all deps demo check check-servers bench install uninstall clean dist deb harden reproduce check-package emulate force

all: target/smtpdcheck

# Can the rustc on the search path build the program? It must know immediate-abort and have the standard
# library's source. Sets sysroot.
define able
able() {
  sysroot=$$(RUSTC_BOOTSTRAP=1 rustc -Zunstable-options -Cpanic=immediate-abort --print=sysroot 2>/dev/null) &&
  [ -e "$$sysroot/lib/rustlib/src/rust/library/Cargo.lock" ]
}
endef

# Begins each recipe that uses Rust: takes Debian's where rustup's, first on the search path, is not able.
# Asked when the recipe runs: `make deps check` may have installed it since make started.
# Make's job slots are not for cargo, which has its own.
define rust
$(able)
unset MAKEFLAGS MFLAGS
able || { PATH=/usr/bin:$$PATH; able; } ||
  { echo "make: no rustc that knows -Cpanic=immediate-abort and has rust-src: make deps" >&2; exit 1; }
endef

# The standard library is rebuilt for size. Remapped paths, and folders named in the last step only, make builds
# in different places the same bytes. Nothing unwinds after immediate-abort: the libunwind that the standard
# library names may be an empty archive. With rustup, musl and the linker come with the target; Debian's Rust has
# neither, so there gcc links with the start files and libc.a of the musl package. By lld as well: with code on
# pages of its own, GNU ld's file is a page or two larger, and it does not fold functions of the same code into one.
# Where rustup has no musl for another machine, `make deps` has put Debian's into target/musl.
$(BUILT): force
	@$(rust)
	mkdir -p target/small
	echo '!<arch>' >target/small/libunwind.a
	if [ -e "$$sysroot/lib/rustlib/$(TARGET)/lib/self-contained/libc.a" ]; then
	  link="-Clinker=rust-lld -Clink-arg=--icf=all"
	elif [ -e target/musl/$(TARGET)/libc.a ]; then
	  musl=target/musl/$(TARGET)
	  link="-Clinker=rust-lld -Clink-self-contained=no -Lnative=$$musl"
	  for object in crt1.o crti.o crtn.o; do link="$$link -Clink-arg=$$musl/$$object"; done
	elif [ $(TARGET) = $(ARCH)-unknown-linux-musl ] && [ -e /usr/lib/$(ARCH)-linux-musl/libc.a ]; then
	  musl=/usr/lib/$(ARCH)-linux-musl
	  link="-Clink-self-contained=no -Clink-arg=-B$$musl -Lnative=$$musl -Clink-arg=-fuse-ld=lld -Clink-arg=-Wl,--icf=all"
	else
	  echo "make: no musl for $(TARGET): make deps TARGET=$(TARGET)" >&2; exit 1
	fi
	# In an unpacked tarball cargo takes all crates from vendor/, but not the standard library's: Debian's Rust brings
	# those, and for rustup's they are fetched, from a folder where cargo does not see the tarball's configuration.
	crates=
	if [ -d vendor ] && [ -d "$$sysroot/lib/rustlib/src/rust/library/vendor" ]; then
	  rm -rf target/crates
	  mkdir target/crates
	  ln -s "$(CURDIR)"/vendor/* "$$sysroot"/lib/rustlib/src/rust/library/vendor/* target/crates/
	  crates="--offline --config=source.vendored-sources.directory='$(CURDIR)/target/crates'"
	elif [ -d vendor ]; then
	  cd /
	fi
	RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zunstable-options -Cpanic=immediate-abort -Cforce-unwind-tables=no \
	  -Zlocation-detail=none -Zfmt-debug=none --remap-path-prefix=$(CURDIR)=smtpdcheck \
	  --remap-path-prefix=$${CARGO_HOME:-$${HOME-}/.cargo}=cargo \
	  --remap-path-prefix=$$sysroot/lib/rustlib/src/rust=rust" \
	cargo rustc --manifest-path "$(CURDIR)/Cargo.toml" --target-dir "$(CURDIR)/target/small" $$crates \
	  --locked --release --bin smtpdcheck --target $(TARGET) \
	  -Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size -- -Lnative=target/small $$link
	cd "$(CURDIR)"
	size=$$(wc -c <$@)
	limit=$(LIMIT_$(TARGET))
	if [ "$$size" -gt "$${limit:-$$size}" ]; then
	  echo "make: $@ has $$size bytes, over the limit of $$limit" >&2; exit 1
	fi

target/smtpdcheck: $(BUILT)
	@cmp -s $< $@ || install -m 755 $< $@
	echo "$@: $$(wc -c <$@) bytes ($(TARGET))"

# `make -j2 deps check` installs first.
ifneq ($(filter deps,$(MAKECMDGOALS)),)
$(BUILT): | deps
endif

# install_packages PACKAGE...: installs those that are missing. A package is never removed for another: where
# Debian's older rustc stands in the way, apt-get says so.
define install_packages
install_packages() {
  if ! command -v apt-get >/dev/null; then
    echo "make: no apt-get here; what is needed, by Debian's names: $$*"; return
  fi
  missing=
  for package; do
    dpkg-query -Wf '$${db:Status-Status}\n' $$package 2>/dev/null | grep -qx installed || missing="$$missing $$package"
  done
  if [ -z "$$missing" ]; then return; fi
  echo "make: apt-get install$$missing"
  as_root=; [ "$$(id -u)" = 0 ] || as_root=sudo
  $$as_root apt-get update -qq
  $$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-remove --no-install-recommends $$missing
}
endef

deps:
	@$(able)
	$(install_packages)
	packages="$(PACKAGES)"
	musl() {
	  rustup --quiet target add $(TARGET) && return
	  [ $(TARGET) != $(ARCH)-unknown-linux-musl ] && package/musl $(ARCHITECTURE) target/musl/$(TARGET) &&
	  echo "deps: musl for $(TARGET) from Debian (rustup cannot fetch it)"
	}
	if command -v rustup >/dev/null && musl && rustup --quiet component add rust-src rustfmt clippy && able; then
	  echo "deps: Rust from rustup"
	else
	  echo "deps: Rust from Debian's packages (no rustup here, or it cannot fetch what is needed)"
	  packages="$$packages $(RUST_PACKAGES)"
	fi
	install_packages $$packages

demo: target/smtpdcheck
	@$(rust)
	cargo run --quiet --release --example demo -- $(CURDIR)/target/smtpdcheck

check: target/smtpdcheck
	@$(rust)
	have() { # Without its tool a step is left out, loudly; in CI that fails.
	  "$$@" >/dev/null 2>&1 && return
	  echo "check: NOT CHECKED: $$* fails here; see make deps" >&2
	  [ -z "$${CI-}" ] || exit 1
	  return 1
	}
	if have cargo fmt --version; then (set -x; cargo fmt --check); fi
	if have cargo clippy --version; then (set -x; cargo clippy --quiet --all-targets -- -D warnings); fi
	# Which other manuals this machine has is not our manual's fault.
	if have command -v mandoc && mandoc -Tlint src/smtpdcheck.1 2>&1 | grep -v 'referenced manual not found\|outdated mandoc.db'; then exit 1; fi
	if [ -n "$(BUDGET_$(TARGET))" ] && have valgrind --version && have python3 --version; then
	  python3 tests/bench/bench.py instructions $(BUDGET_$(TARGET))
	fi
	set -x
	SMTPDCHECK=$(CURDIR)/target/smtpdcheck cargo test -- --test-threads=4 # They wait most of the time.

# Installs what it needs; takes minutes. Each part is a command of its own: see tests/servers/run --help.
check-servers: target/smtpdcheck
	@$(rust)
	fuzz="--quiet --manifest-path tests/fuzz/Cargo.toml --target-dir target/fuzz"
	(set -x; cargo run --release $$fuzz)
	if rustup component add --toolchain nightly miri rust-src; then
	  (set -x; cargo +nightly miri run $$fuzz -- all 40)
	else
	  echo "check-servers: NOT CHECKED with Miri, which comes with rustup's nightly toolchain" >&2
	fi
	set -x
	SMTPDCHECK=$(CURDIR)/target/smtpdcheck tests/servers/run

# Of Postfix only posttls-finger is wanted: the package is unpacked, for installed it would set up a mail server.
# What cannot be had is not measured, and the table says so.
bench: target/smtpdcheck
	@$(install_packages)
	install_packages $(PACKAGES) $(BENCH_PACKAGES)
	mkdir -p target/bench
	if ! [ -e target/bench/postfix ] && command -v apt-get >/dev/null; then
	  install_packages $$(apt-cache depends postfix | sed -n 's/^ *Depends: \(lib.*\)/\1/p')
	  (cd target/bench && apt-get download -qq postfix && dpkg-deb -x postfix_*.deb postfix)
	fi
	musl-gcc -static -Os -s -o target/bench/floor tests/bench/floor.c
	python3 tests/bench/bench.py

# What make built, or else what plain cargo build --release did.
install:
	@program=target/smtpdcheck
	[ -x $$program ] || program=target/release/smtpdcheck
	[ -x $$program ] || { echo "make install: there is no target/smtpdcheck yet; run make first" >&2; exit 1; }
	install -d "$(DESTDIR)$(BINDIR)" "$(DESTDIR)$(MANDIR)/man1"
	install -m 755 $$program "$(DESTDIR)$(BINDIR)/smtpdcheck"
	install -m 644 src/smtpdcheck.1 "$(DESTDIR)$(MANDIR)/man1/smtpdcheck.1"
	echo "installed $(DESTDIR)$(BINDIR)/smtpdcheck (from $$program) and $(DESTDIR)$(MANDIR)/man1/smtpdcheck.1"

uninstall:
	rm -f "$(DESTDIR)$(BINDIR)/smtpdcheck" "$(DESTDIR)$(MANDIR)/man1/smtpdcheck.1"

clean:
	rm -rf target

dist:
	@$(rust)
	package/dist $(VERSION) $(TIME)

deb: $(BUILT)
	@package/deb $< $(VERSION) $(TIME) $(ARCHITECTURE)

harden: $(BUILT)
	@tests/package/harden $<

reproduce:
	@$(rust)
	tests/package/reproduce

# Debian's Rust builds the tarball as a distribution would; it is installed beside rustup's.
check-package: $(BUILT)
	@$(rust)
	$(install_packages)
	install_packages $(PACKAGES) $(CHECK_PACKAGES)
	$(MAKE) --no-print-directory harden deb dist
	set -x
	tests/package/roots $(BUILT)
	tests/package/deb target/smtpdcheck_$(VERSION)_$(ARCHITECTURE).deb
	tests/package/dist target/smtpdcheck-$(VERSION).tar.gz
	tests/package/reproduce

# Left out: the tests of this machine's limits, speed, chroots and system calls, which are qemu's there, not the
# program's.
emulate: $(BUILT)
	@$(rust)
	$(install_packages)
	install_packages $(PACKAGES) qemu-user
	architecture=$(firstword $(subst -, ,$(TARGET)))
	case $$architecture in armv*) architecture=arm ;; esac
	printf '#!/bin/sh\nexec qemu-%s "%s" "$$@"\n' $$architecture "$(CURDIR)/$<" >target/emulate
	chmod +x target/emulate
	set -x
	SMTPDCHECK=$(CURDIR)/target/emulate cargo test --test it -- --skip machine::
