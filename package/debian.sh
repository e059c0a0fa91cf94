# shellcheck shell=sh
# package/debian.sh
# Sourced: installs Debian's packages.

# as_root COMMAND...
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    echo "make: you are not root and there is no sudo: install sudo, or run the same as root" >&2
    return 1
  fi
}

# is_installed PACKAGE
is_installed() {
  [ "$(dpkg-query -Wf '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# update_packages: asks for the present lists of packages, once.
update_packages() {
  [ -z "${updated-}" ] || return 0
  # apt-get update does not wait for another one. Debian's daily job has the same lock.
  if ! as_root flock --timeout 600 /var/lib/apt/daily_lock apt-get update -qq; then
    echo "make: apt-get update fails, or another one holds /var/lib/apt/daily_lock" >&2
    return 1
  fi
  updated=yes
}

# install_packages PACKAGE...: installs those that are missing. No package is removed for another.
install_packages() {
  if ! command -v apt-get >/dev/null; then
    echo "make: no apt-get here; what is needed, by Debian's names: $*"
    return
  fi
  missing=
  for package; do
    is_installed "$package" || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  # Debian's Rust is to be of one version, and its source is a package that does not see to that.
  case $missing in
    *rust*)
      for package; do
        case $package in
          *rust* | cargo*) ! is_installed "$package" || missing="$missing $package" ;;
        esac
      done
      ;;
  esac
  echo "make: apt-get install$missing"
  update_packages
  # shellcheck disable=SC2086 # a list
  in_the_way=$(LC_ALL=C apt-get install --simulate --no-install-recommends $missing 2>/dev/null |
    sed -n 's/^Remv \([^ ]*\).*/ \1/p' | tr -d '\n')
  if [ -n "$in_the_way" ]; then
    echo "make: packages are in the way; as root, run: apt-get remove$in_the_way" >&2
    return 1
  fi
  # shellcheck disable=SC2086 # a list
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-remove --no-install-recommends \
    -o DPkg::Lock::Timeout=600 $missing
}

# rust_packages: prints Debian's packages of its Rust: those whose rustc is installed, or else rustc itself
# where it is new enough, or else the newer one that Debian has for web browsers.
rust_packages() {
  if new_enough "$(dpkg-query -Wf '${Version}' rustc-web 2>/dev/null)"; then
    echo "rustc-web cargo-web rust-web-src rustfmt-web rust-web-clippy"
  elif new_enough "$(candidate rustc)"; then
    echo "rustc cargo rust-src rustfmt rust-clippy"
  elif new_enough "$(candidate rustc-web)"; then
    echo "rustc-web cargo-web rust-web-src rustfmt-web rust-web-clippy"
  else
    echo "make: Debian's Rust is too old here (rustc $(candidate rustc), rustc-web $(candidate rustc-web); 1.85 is needed): enable the security suite, or install rustup" >&2
    return 1
  fi
}
candidate() {
  version=$(LC_ALL=C apt-cache policy "$1" 2>/dev/null | sed -n 's/^  Candidate: //p')
  echo "${version:-(none)}"
}
new_enough() {
  case $1 in
    [0-9]*) dpkg --compare-versions "$1" ge 1.85 ;;
    *) false ;;
  esac
}

# architecture: Debian's name of $TARGET.
architecture() {
  case $TARGET in
    "$(uname -m)"-*) dpkg --print-architecture ;;
    aarch64-*) echo arm64 ;;
    armv7-*) echo armhf ;;
    *) echo "make: what does Debian call $TARGET?" >&2; return 1 ;;
  esac
}
