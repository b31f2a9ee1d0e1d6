#!/bin/sh
# Runs any command as any --user: a writable HOME, the image's lock hash, and the one flag of the image.
set -eu
if [ "${1:-}" = "--allow-unpinned" ]; then
    export RETRACE_ALLOW_UNPINNED=1
    shift
    [ $# -gt 0 ] || set -- dvc repro
fi
# a `docker build` without --build-arg RETRACE_LOCK_SHA256 is checked all the same
if [ -z "${RETRACE_LOCK_SHA256:-}" ]; then
    RETRACE_LOCK_SHA256=$(sha256sum /usr/local/share/retrace/runtime.txt | cut -d' ' -f1)
    export RETRACE_LOCK_SHA256
fi
if [ ! -w "${HOME:-/nonexistent}" ]; then
    HOME=$(mktemp -d "${TMPDIR:-/tmp}/home.XXXXXX" 2>/dev/null) || {
        echo "error: neither HOME nor ${TMPDIR:-/tmp} is writable; with --read-only add: --tmpfs /tmp:exec" >&2
        exit 1
    }
    export HOME
fi
if [ "$PWD" = /work ]; then
    if [ ! -e dvc.yaml ]; then
        echo "note: there is no dvc.yaml in /work; in the project's folder, add: -v \"\$PWD\":/work" >&2
    elif [ ! -w . ]; then
        echo "note: user $(id -u) cannot write to /work; add: --user \"\$(id -u):\$(id -g)\"" >&2
    fi
fi
# its workers are in the background, and everything ends when the container's command does
case "$*" in
"dvc queue start"* | "dvc -"*" queue start"*)
    echo "error: the workers of \`dvc queue start\` would end with this command; run the queue with: dvc exp run --run-all" >&2
    exit 1
    ;;
esac
# Every stage checks the lock too, but DVC has deleted its old outs from the workspace by then. Whether a command ends in
# DVC cannot be told from its words (a script, `sh -c`), so all are checked but those that help to put it right.
if [ -e retrace/environment.py ]; then
    case "$*" in
    "retrace doctor"* | "git" | "git "*) ;;
    "sh" | "bash" | "dash" | "sh -i" | "bash -i" | "bash -l" | "bash -il") python -m retrace.environment || true ;;
    *) python -m retrace.environment ;;
    esac
fi
exec "$@"
