# shellcheck shell=sh
# tests/system.sh
# Sourced: makes new Debian systems of other releases, in folders.

# suite_of RELEASE: what Debian calls it.
suite_of() {
  case $1 in
    12) echo bookworm ;;
    13) echo trixie ;;
    unstable) echo unstable ;;
    *) return 1 ;;
  esac
}

# make_system SUITE FOLDER OPTION...: as root, by mmdebstrap with these options. The packages come from where this
# machine's apt takes them, and in the way it does: proxies, certificates, dates.
make_system() (
  suite=$1
  folder=$2
  shift 2
  # shellcheck disable=SC2016 # apt-get's words
  sites=$(apt-get indextargets --format '$(RELEASE) $(SITE)' 'Created-By: Packages')
  # shellcheck source=/dev/null
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-sid}")
  site=$(echo "$sites" | sed -nE "s/^($codename|stable|testing|unstable|sid) //p" | head -n 1)
  security=$(echo "$sites" | sed -nE 's/^[a-z]+-security //p' | head -n 1)
  if [ -z "$site" ]; then echo "make: this machine's apt has no source of Debian's packages" >&2; exit 1; fi
  while read -r line; do
    [ -z "$line" ] || set -- --aptopt="$line" "$@"
  done <<EOF
$(apt-config dump | grep -E '^Acquire::(Check|http|Retries)')
EOF
  set -- --quiet --mode=root "$@" "$suite" "$folder" "deb $site $suite main"
  if [ "$suite" != unstable ]; then
    set -- "$@" "deb $site $suite-updates main" ${security:+"deb $security $suite-security main"}
  fi
  timeout --foreground -k 10 1800 mmdebstrap "$@"
)

# enter_system FOLDER [PACKAGES]: makes a system's folder the root, in mount and process namespaces of the caller's own.
# What apt fetches there is kept in the folder PACKAGES.
enter_system() {
  mount --bind "$1" "$1"
  mount -t proc proc "$1/proc"
  mount --rbind /sys "$1/sys"
  mount --rbind /dev "$1/dev"
  [ -z "${2-}" ] || mount --bind "$2" "$1/var/cache/apt/archives"
  # Not by chroot: the kernel denies namespaces to an ordinary user whose root was changed that way.
  cd "$1" || return
  mkdir old
  pivot_root . old
  cd /
  umount -l old
  rmdir old
}
