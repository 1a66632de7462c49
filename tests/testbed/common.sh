# What the scripts of the test bed share; they source it.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# What takes long to make is kept here, by what makes it.
version=$(cat "$here"/up "$here"/images "$here"/common.sh "$here"/runc-here | sha256sum | cut -c1-12)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/mlctl-testbed/$version

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }
fail() { say "$@"; exit 1; }

# Installs what is missing of these Debian packages.
packages() {
  dpkg -s "$@" >/dev/null 2>&1 && return
  [ "$(id -u)" = 0 ] || fail "needs root to install: $*"
  say "installing $*"
  # Another script may be at it.
  (
    flock 7
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
  ) 7>/run/lock/mlctl-testbed-packages
}

answers() { docker version >/dev/null 2>&1; }

# The options with which dockerd runs privileged containers here: a root without CAP_SYS_RESOURCE (bit 24) cannot give it.
runtime() {
  (( 0x$(awk '/^CapEff/ { print $2 }' /proc/self/status) >> 24 & 1 )) && return
  # The daemon may outlive this checkout.
  if [ ! -e "$cache/runc-here" ]; then
    mkdir -p "$cache"
    install -m755 "$here/runc-here" "$cache/runc-here.$$"
    mv "$cache/runc-here.$$" "$cache/runc-here"
  fi
  echo --add-runtime "here=$cache/runc-here" --default-runtime here
}
