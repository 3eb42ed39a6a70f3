#!/bin/sh
# Sets gproxy up in .venv beside setup.py. Needs Debian 12 or newer with python3, nothing else.
#
#     sh etc/bootstrap.sh              install gproxy: .venv/bin/gproxy runs it
#     sh etc/bootstrap.sh graphite     and StatsD and Graphite in .graphite, for loadtest/graphite_demo.py
#     sh etc/bootstrap.sh test [ARGS]  install it in place, with the tools and the servers that its
#                                      tests use (.npm-tests too), and run every check; ARGS go to pytest
#     sh etc/bootstrap.sh compile      install the same, and compile the modules of the data path where they are, to
#                                      measure them; the next test takes that back
#     sh etc/bootstrap.sh test-compiled [ARGS]   compile them, test them, and take it back; ARGS say which tests
#
# It can be run again at any time. PYTHON names another interpreter than python3.
set -eu

PYTHON=${PYTHON:-python3}
TEST_PACKAGES="postgresql redis-server wrk haproxy nginx-light libnginx-mod-stream caddy pen curl chromium prometheus faketime procps"
GRAPHITE_PACKAGES="libcairo2 fonts-dejavu-core" # graphite-web draws with them
COMPILER_PACKAGES="gcc libc6-dev python3-dev"
# What the compiled modules are for, and what is hard on them.
COMPILED_TESTS="tests/unit tests/faults tests/integration/test_chaos.py tests/integration/test_failover.py
    tests/integration/test_http_clients.py tests/integration/test_http_leaks.py tests/integration/test_http_smuggling.py
    tests/integration/test_http_websocket.py tests/integration/test_quiescent.py tests/integration/test_reload.py
    tests/integration/test_timeouts.py tests/integration/test_workers.py"
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
    echo "bootstrap.sh: installing gproxy in .venv"
    rm -rf build # setuptools would install the modules that an earlier build left there
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --use-pep517 "$@" ||
        die "pip could not install gproxy: see above"
}

# say_build: which one pip has made, and what the better one lacks.
say_build() {
    echo "bootstrap.sh: installed $(.venv/bin/gproxy --version)"
    case $(.venv/bin/gproxy --version) in
    *compiled) ;;
    *) echo "bootstrap.sh: faster with a C compiler: apt-get install $COMPILER_PACKAGES, then run this again" ;;
    esac
}

# drop_compiled: the modules that were compiled where they are.
drop_compiled() {
    find gproxy -name '*.so' -delete
}

compile() {
    drop_compiled
    rm -rf build
    .venv/bin/python setup.py --quiet build_ext --inplace >/dev/null || die "could not compile: see above"
    case $(.venv/bin/python -m gproxy --version) in
    *compiled) ;;
    *) die "could not compile: see above" ;;
    esac
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

install_for_tests() {
    make_venv
    missing=$(lacking $TEST_PACKAGES $GRAPHITE_PACKAGES $COMPILER_PACKAGES $(node_packages))
    [ -z "$missing" ] || apt_install $missing
    pip_install --editable '.[test]'
    install_graphite
    install_axe
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
    say_build
    echo "bootstrap.sh: try .venv/bin/gproxy demo"
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
    drop_compiled
    install_for_tests
    run_checks "$@"
    ;;
compile)
    install_for_tests
    compile
    ;;
test-compiled)
    shift
    install_for_tests
    trap drop_compiled EXIT
    trap 'exit 130' HUP INT TERM
    compile
    [ $# != 0 ] || set -- $COMPILED_TESTS
    .venv/bin/pytest -n 3 --dist loadgroup "$@"
    ;;
*) die "$1 is not known: sh etc/bootstrap.sh [graphite | test [ARGS] | compile | test-compiled [ARGS]]" ;;
esac
