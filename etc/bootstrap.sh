#!/bin/sh
# Sets gproxy up in .venv beside setup.py. Needs Debian 12 or newer with python3, nothing else.
#
#     sh etc/bootstrap.sh              install gproxy: .venv/bin/gproxy runs it
#     sh etc/bootstrap.sh graphite     and StatsD and Graphite in .graphite, for loadtest/graphite_demo.py
#     sh etc/bootstrap.sh test [ARGS]  install it in place, with the tools and the servers that its
#                                      tests use (.npm-tests too), and run every check; ARGS go to pytest
#
# It can be run again at any time. PYTHON names another interpreter than python3.
set -eu

PYTHON=${PYTHON:-python3}
TEST_PACKAGES="postgresql redis-server wrk haproxy nginx-light libnginx-mod-stream caddy pen curl chromium prometheus faketime"
GRAPHITE_PACKAGES="libcairo2 fonts-dejavu-core" # graphite-web draws with them
STATSD=statsd@0.9.0
AXE=axe-core@4.14.1 # what it finds changes from one version to the next

die() {
    echo "bootstrap.sh: $*" >&2
    exit 1
}

# apt_install PACKAGE...: without starting the services that come in packages.
apt_install() {
    command -v apt-get >/dev/null || die "no apt-get here; please install what these Debian packages have: $*"
    echo "bootstrap.sh: installing $*"
    if [ "$(id -u)" = 0 ]; then
        sh -c "$APT_SCRIPT" apt_install "$@"
    elif command -v sudo >/dev/null; then
        sudo sh -c "$APT_SCRIPT" apt_install "$@"
    else
        die "must be root for this: apt-get install $*"
    fi </dev/null || die "could not install $*: see above"
}

# Debian asks policy-rc.d before it starts a service. A machine that has one keeps its own.
APT_SCRIPT='
    set -eu
    export DEBIAN_FRONTEND=noninteractive
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        trap "rm -f $policy" EXIT
        trap "exit 130" HUP INT TERM
        printf "#!/bin/sh\nexit 101\n" >$policy
        chmod 755 $policy
    fi
    apt-get -q -o DPkg::Lock::Timeout=300 update
    apt-get -q -o DPkg::Lock::Timeout=300 -y --no-install-recommends install "$@"
'

# lacking PACKAGE...: those that are not installed.
lacking() {
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || echo "$package"
    done
}

make_venv() {
    command -v "$PYTHON" >/dev/null || die "no $PYTHON here; on Debian: apt-get install python3"
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "gproxy needs Python 3.11 or newer, and $PYTHON is $("$PYTHON" -V 2>&1)"
    if .venv/bin/python -m pip --version >/dev/null 2>&1; then
        return
    fi
    if ! "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; then
        apt_install python3-venv
    fi
    "$PYTHON" -m venv --clear .venv || die "$PYTHON could not make .venv: see above"
}

# pip_install ARGS...: what pip installs from this directory.
pip_install() {
    rm -rf build # setuptools would install the modules that an earlier build left there
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --use-pep517 "$@" ||
        die "pip could not install gproxy: see above"
}

# install_graphite: StatsD, carbon and graphite-web, apart from gproxy's own environment.
install_graphite() {
    if cmp -s etc/graphite/requirements.txt .graphite/installed && [ -e .graphite/node_modules/statsd ]; then
        return
    fi
    echo "bootstrap.sh: installing StatsD and Graphite in .graphite"
    "$PYTHON" -m venv --clear .graphite/venv || die "$PYTHON could not make .graphite/venv: see above"
    # Without this variable they would install themselves in /opt.
    GRAPHITE_NO_PREFIX=True .graphite/venv/bin/python -m pip install --quiet --disable-pip-version-check \
        --requirement etc/graphite/requirements.txt ||
        die "pip could not install Graphite 1.1.10, which needs Python 3.11: see above"
    npm install --prefix .graphite --loglevel=error --no-audit --no-fund --no-package-lock --omit=optional $STATSD ||
        die "npm could not install StatsD: see above"
    cp etc/graphite/requirements.txt .graphite/installed
}

# install_axe: the check of accessibility that the dashboard's tests run in a browser.
install_axe() {
    if grep -qs "\"version\": \"${AXE#*@}\"" .npm-tests/node_modules/axe-core/package.json; then
        return
    fi
    npm install --prefix .npm-tests --loglevel=error --no-audit --no-fund --no-package-lock $AXE ||
        die "npm could not install axe-core: see above"
}

# node_packages: those that are needed where there is no npm; one that came from elsewhere excludes Debian's.
node_packages() {
    command -v node >/dev/null && command -v npm >/dev/null || echo nodejs npm
}

run_checks() {
    echo "bootstrap.sh: ruff, mypy, pytest"
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .
    .venv/bin/mypy
    exec .venv/bin/pytest -n 3 --dist loadgroup "$@"
}

cd "$(dirname "$0")/.."
case ${1-} in
"")
    make_venv
    pip_install .
    echo "bootstrap.sh: installed; try .venv/bin/gproxy demo"
    ;;
graphite)
    make_venv
    missing=$(lacking $GRAPHITE_PACKAGES $(node_packages))
    [ -z "$missing" ] || apt_install $missing
    pip_install .
    install_graphite
    echo "bootstrap.sh: installed; try .venv/bin/python loadtest/graphite_demo.py"
    ;;
test)
    shift
    make_venv
    missing=$(lacking $TEST_PACKAGES $GRAPHITE_PACKAGES $(node_packages))
    [ -z "$missing" ] || apt_install $missing
    pip_install --editable '.[test]'
    install_graphite
    install_axe
    run_checks "$@"
    ;;
*) die "$1 is not known: sh etc/bootstrap.sh [graphite | test [ARGS]]" ;;
esac
