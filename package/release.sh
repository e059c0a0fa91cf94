# shellcheck shell=sh
# package/release.sh
# Sourced by what makes a release: sets version, and SOURCE_DATE_EPOCH, the time that its files are given: that of the
# last commit, which every file of an unpacked tarball has. And maintainer, as Debian's packages name one.
export LC_ALL=C
# shellcheck disable=SC2034 # read there
maintainer=$(sed -n 's/^Maintainer: //p' package/debian/control)
# shellcheck disable=SC2034 # read there
version=$(sed -n '/^version = /{s/.*"\(.*\)"/\1/p;q}' Cargo.toml)
if [ -z "${SOURCE_DATE_EPOCH-}" ]; then
  SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null) || SOURCE_DATE_EPOCH=$(stat -c %Y Cargo.toml)
fi
export SOURCE_DATE_EPOCH
