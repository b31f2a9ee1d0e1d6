#!/bin/sh
# Runs any command as any --user: a writable HOME, a Git identity, and the one flag of the image.
set -eu
if [ "${1:-}" = "--allow-unpinned" ]; then
    export RETRACE_ALLOW_UNPINNED=1
    shift
fi
if [ ! -w "${HOME:-/nonexistent}" ]; then
    HOME=$(mktemp -d "${TMPDIR:-/tmp}/home.XXXXXX")
    export HOME
fi
exec "$@"
