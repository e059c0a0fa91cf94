# shellcheck shell=sh
# Sourced: goes to a copy of the source and has cargo take the crates from Debian's packages there.
cp -r . "$AUTOPKGTEST_TMP/source"
cd "$AUTOPKGTEST_TMP/source" || exit
rm -f Cargo.lock
export CARGO_HOME="$AUTOPKGTEST_TMP/cargo"
mkdir "$CARGO_HOME"
cat >"$CARGO_HOME/config.toml" <<'CONFIG'
[source.crates-io]
replace-with = "debian"

[source.debian]
directory = "/usr/share/cargo/registry"
CONFIG
