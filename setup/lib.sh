# Shared by the setup commands: says what it will install, installs it, and says plainly what is missing.
# Sourced, not run.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*" >&2; }
die() {
  say "error: $*"
  exit 1
}

need() { # need COMMAND HOW-TO-GET-IT
  command -v "$1" >/dev/null 2>&1 || die "$1 is missing. $2"
}

need_toolchains() {
  need cargo "Install Rust 1.95 or later: https://rustup.rs"
  need node "Install Node.js 20 or later (Debian: apt-get install nodejs npm)"
  need npm "Install npm (Debian: apt-get install npm)"
  need cc "Install a C compiler (Debian: apt-get install build-essential)"
  command -v make >/dev/null 2>&1 || debian_packages make
  local node_major
  node_major=$(node --version | sed 's/^v\([0-9]*\).*/\1/')
  [ "$node_major" -ge 20 ] || die "Node.js $node_major is too old; 20 or later is needed"
}

npm_packages() { # npm_packages FOLDER: installs what its lock file names, once per lock file
  local folder=$ROOT/$1 stamp=$ROOT/$1/node_modules/.tradewind-lock
  if ! cmp -s "$folder/package-lock.json" "$stamp"; then
    say "-- npm: installing $1/package-lock.json into $1/node_modules"
    (cd "$folder" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2) \
      || die "npm could not install $1; is the npm registry reachable?"
    cp "$folder/package-lock.json" "$stamp"
  fi
}

debian_packages() { # debian_packages NAME...: installs the ones that are missing
  local missing=() name
  for name in "$@"; do
    dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || missing+=("$name")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] || die "not root, so these Debian packages cannot be installed: ${missing[*]}"
  say "-- apt: installing ${missing[*]}"
  apt-get update -qq >&2 || die "apt-get update failed; are Debian's package servers reachable?"
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 \
    || die "apt-get could not install ${missing[*]}"
}
