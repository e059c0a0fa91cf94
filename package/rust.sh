# shellcheck shell=sh
# package/rust.sh
# Sourced: finds a Rust and a musl that can build the program for $TARGET. Installs nothing. CARGO and RUSTC may name
# the commands to use.

export CARGO="${CARGO:-cargo}" TARGET="${TARGET:-$(uname -m)-unknown-linux-musl}"
# A cargo outside the search path comes with the rustc beside it.
case $CARGO in
  */*) PATH=$(dirname "$CARGO"):$PATH ;;
esac
# Make's job slots are not for cargo, which has its own.
unset MAKEFLAGS MFLAGS

# able: whether the first Rust on the search path is 1.85 or newer and has the source of the standard library. Sets
# rust (its version), sysroot, and immediate_abort, which is empty for those that do not know -Cpanic=immediate-abort.
able() {
  rust=$(${RUSTC:-rustc} --version 2>/dev/null) && $CARGO --version >/dev/null 2>&1 || return 1
  rust=${rust#rustc }
  rust=${rust%% *}
  minor=${rust#1.}
  [ "${minor%%.*}" -ge 85 ] || return 1
  sysroot=$(${RUSTC:-rustc} --print=sysroot)
  [ -e "$sysroot/lib/rustlib/src/rust/library/Cargo.lock" ] || return 1
  immediate_abort=
  RUSTC_BOOTSTRAP=1 ${RUSTC:-rustc} -Zunstable-options -Cpanic=immediate-abort --print=sysroot >/dev/null 2>&1 ||
    return 0
  # shellcheck disable=SC2034 # read by package/build
  immediate_abort=yes
}

# find_rust: puts an able Rust first on the search path: the one that is first already, the distribution's behind it, or
# rustup's that the search path lacks. A command named by CARGO or RUSTC is not passed over.
find_rust() {
  able && return
  if [ "$CARGO${RUSTC-}" = cargo ]; then
    before=$PATH
    for folder in /usr/bin "${CARGO_HOME:-${HOME-}/.cargo}/bin"; do
      PATH=$folder:$before
      able && return
    done
    PATH=$before
  fi
  sysroot=
  return 1
}

# find_musl: sets musl to `rustup`, where Rust has brought it, or to the folder that has it.
find_musl() {
  musl=target/musl/$TARGET
  if [ -e "$sysroot/lib/rustlib/$TARGET/lib/self-contained/libc.a" ]; then
    musl=rustup
  elif [ ! -e "$musl/source" ]; then
    machine=$(uname -m)
    musl=/usr/lib/$machine-linux-musl
    [ "$TARGET" = "$machine-unknown-linux-musl" ] && [ -e "$musl/libc.a" ] && command -v ld.lld >/dev/null
  fi
}

# need_rust, need_musl: the same, or one line that says what to do.
need_rust() {
  find_rust && return
  if [ "$CARGO${RUSTC-}" = cargo ]; then
    echo "make: no Rust 1.85 or newer with rust-src here: run make deps" >&2
  else
    echo "make: $CARGO with ${RUSTC:-rustc} is not Rust 1.85 or newer with rust-src" >&2
  fi
  exit 1
}
need_musl() {
  find_musl || { echo "make: no musl (or no lld) for $TARGET: run make deps TARGET=$TARGET" >&2; exit 1; }
}

# musl_version: that of the musl found, as its archive has it.
musl_version() {
  archive=$musl/libc.a
  [ "$musl" != rustup ] || archive=$sysroot/lib/rustlib/$TARGET/lib/self-contained/libc.a
  LC_ALL=C grep -aoE '(^|[^0-9.])1\.[0-9]\.[0-9]+' "$archive" | LC_ALL=C grep -aoE '1\.[0-9]\.[0-9]+' | head -n 1
}

# knows_relr: whether musl's start-up code knows packed relative relocations, as it does from 1.2.4 on.
knows_relr() {
  release=$(musl_version)
  [ -n "$release" ] && [ "$(printf '1.2.4\n%s\n' "$release" | sort -V | head -n 1)" = 1.2.4 ]
}

# which_rust, which_musl: which ones were found, and whose they are.
which_rust() {
  case $sysroot in
    */toolchains/*) origin="from rustup" ;;
    *)
      origin=$(dpkg-query --search "$sysroot/bin/rustc" 2>/dev/null) || origin=
      origin=${origin:+"from the package ${origin%%:*}"}
      origin=${origin:-"in $sysroot"}
      ;;
  esac
  echo "Rust $rust $origin"
}
which_musl() {
  case $musl in
    rustup) echo "Rust's own musl" ;;
    /*) echo "musl $(musl_version) from the package musl-dev" ;;
    *) echo "musl in $musl" ;;
  esac
}
