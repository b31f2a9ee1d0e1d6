#!/bin/sh
# Prints the Python that .venv is made with: $1 if given, else the first supported one of python3, python3.14 ... python3.11.
# Where there is none, one line says how to get one.
set -u
supported='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))'
fail() {
    echo "error: $1" >&2
    exit 1
}

for candidate in ${1:-python3 python3.14 python3.13 python3.12 python3.11}; do
    found=$(command -v "$candidate") && "$found" -c "$supported" 2>/dev/null || continue
    "$found" -c 'import venv, ensurepip' 2>/dev/null ||
        fail "$found lacks venv; on Debian/Ubuntu: apt-get install python3-venv (for another than the system's Python: its own package, as python3.12-venv)"
    echo "$found"
    exit 0
done
here=$("${1:-python3}" -c 'import platform; print(platform.python_version())' 2>/dev/null) || here="not found"
fail "Retrace needs Python 3.11 to 3.14, and ${1:-python3} is $here; on Debian 12 or Ubuntu 24.04 and newer: apt-get install python3-venv; anywhere: uv python install 3.13 && make PYTHON=\"\$(uv python find 3.13)\""
