#!/bin/sh
# Install the packages of a lock file in a RUN of the Dockerfile: install.sh LOCK [--without-torch] [PIP OPTION ...]
#
# They go into /opt/venv unless the options say otherwise. The pip that does it is made for the purpose, from its own
# lock file, and leaves with the RUN: no image has a pip of ours, and a build needs none of its base's.
#
# With TORCH_INDEX_URL set, torch is taken from there: the locked version, but not by hash, because the lock file has
# no hashes of that index; for this one package the index is trusted. torch's CUDA packages are left out. Everything
# else is checked against the lock file as ever.
set -eu
locks=/opt/rowlock/requirements
lock=$locks/$1
shift
# torch and its CUDA packages as they begin an entry of a lock file; the other lines of an entry are indented.
torch='^(torch|triton|nvidia-[^=]*|cuda-[^=]*)=='
# A configuration that is not there is an empty one to pip; images/pip_settings.py writes it.
export PIP_CONFIG_FILE=/run/secrets/pip PIP_CACHE_DIR=/var/cache/pip PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_QUIET=1

build=$(mktemp -d)
touch "$build/begun"
python3 -m venv "$build/venv"
"$build/venv/bin/pip" install --require-hashes -r "$locks/pip.txt"
install() {
    "$build/venv/bin/pip" --python /opt/venv/bin/python3 install --no-deps --no-compile "$@"
}

without_torch=
if [ "${1:-}" = --without-torch ]; then
    shift
    without_torch=yes
elif [ -n "${TORCH_INDEX_URL:-}" ]; then
    without_torch=yes
    install --index-url "$TORCH_INDEX_URL" "torch$(sed -n 's/^torch\(==[^ ;]*\).*/\1/p' "$lock")"
fi
if [ -n "$without_torch" ]; then
    awk -v torch="$torch" '/^[a-z]/ { skip = $0 ~ torch } !skip' "$lock" > "$build/lock.txt"
    lock=$build/lock.txt
fi
install --require-hashes -r "$lock" "$@"

# Bytecode for what was installed just now and for nothing of a layer below. It is never checked against its source,
# because a copy may change the source's time. What does not compile is meant for another version of Python.
find /opt -name '*.py' -cnewer "$build/begun" -print0 |
    xargs -0 -r -n 200 -P "$(nproc)" python3 -m compileall -qq --invalidation-mode unchecked-hash || true
rm -rf "$build"
