"""Runs the uv of this environment: with pip's index and certificate settings, and no other settings than those.

uv is installed by pip, so pip's settings (pip.conf, PIP_INDEX_URL ...) reach an index; uv does not read them by itself.
Its own variables for indexes, credentials, cache and network win over them. Its configuration files and its other
variables do not count: a lock must install the same everywhere. Standard library only.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

KEPT = (
    *("UV_DEFAULT_INDEX", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX", "UV_KEYRING_PROVIDER"),
    *("UV_CACHE_DIR", "UV_NO_CACHE", "UV_LINK_MODE", "UV_COMPILE_BYTECODE", "UV_OFFLINE", "UV_CONCURRENT_"),
    *("UV_INSECURE_HOST", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS", "UV_HTTP_"),
)  # names, or how they begin
INDEXES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX")
ALL, DEFAULT, NONE = "all", "default", "none"  # which indexes of the settings count


def pip_settings(listing: str) -> dict[str, str]:
    """The settings that `pip config list` prints, by their names alone; a variable wins over a file."""
    found: dict[str, str] = {}
    ranks = {"global": 0, "install": 1, ":env:": 2}
    lines = [line.partition("=") for line in listing.splitlines() if "=" in line]
    for key, _, value in sorted(lines, key=lambda line: ranks.get(line[0].rpartition(".")[0], -1)):
        section, _, name = key.rpartition(".")
        if section in ranks:
            found[name] = ast.literal_eval(value)
    return found


def from_pip(settings: dict[str, str]) -> dict[str, str]:
    """pip's settings as uv's variables. Folders that are not there are left out: uv would stop at them."""
    words = {name: _there(value.split()) for name, value in settings.items()}
    found = {
        "UV_DEFAULT_INDEX": settings.get("index-url", ""),
        "UV_INDEX": " ".join(words.get("extra-index-url", ())),
        "UV_FIND_LINKS": ",".join(words.get("find-links", ())),
        "UV_INSECURE_HOST": " ".join(words.get("trusted-host", ())),
        "UV_NO_INDEX": "1" if settings.get("no-index", "").lower() in ("1", "true", "yes", "on") else "",
        "SSL_CERT_FILE": settings.get("cert", ""),
        "SSL_CLIENT_CERT": settings.get("client-cert", ""),
        "ALL_PROXY": settings.get("proxy", ""),
    }
    return {name: value for name, value in found.items() if value}


def _there(places: Iterable[str]) -> list[str]:
    paths = ((place, place.removeprefix("file://")) for place in places)
    return [place for place, path in paths if not path.startswith("/") or Path(path).exists()]


def uv_environment(environ: dict[str, str], pip: dict[str, str], indexes: str = ALL) -> dict[str, str]:
    """The variables that uv runs with; `indexes`: which of the settings' indexes count."""
    kept = {name: value for name, value in environ.items() if not name.startswith("UV_") or name.startswith(KEPT)}
    translated = {name: value for name, value in from_pip(pip).items() if name not in kept}
    if any(name in kept for name in INDEXES):  # uv's own choice of indexes is not mixed with pip's
        translated = {name: value for name, value in translated.items() if name not in INDEXES}
    merged = {**translated, **kept}
    dropped = {ALL: (), DEFAULT: INDEXES[2:], NONE: INDEXES}[indexes]
    merged = {name: value for name, value in merged.items() if name not in dropped}
    # hashes decide what is installed, so that it does not matter which index offers it
    strategy = {"UV_INDEX_STRATEGY": "unsafe-best-match"} if indexes == ALL else {}
    return {**merged, **strategy, "UV_NO_CONFIG": "1", "UV_PYTHON_DOWNLOADS": "never"}


def cache_folder(environ: dict[str, str], prefix: Path) -> Path | None:
    """Where uv is to keep downloads if its own folder cannot be written to: inside the environment. Else None."""
    if "UV_CACHE_DIR" in environ or "UV_NO_CACHE" in environ:
        return None
    home = environ.get("HOME") or os.path.expanduser("~")
    folder = Path(environ.get("XDG_CACHE_HOME") or Path(home) / ".cache") / "uv"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError:
        return prefix / "uv-cache"
    return None


def run_uv(*arguments: str, indexes: str = ALL) -> None:
    """Run uv for this Python's environment; ends this program with uv's exit code if it fails."""
    listing = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True)
    environ = uv_environment(dict(os.environ), pip_settings(listing.stdout), indexes)
    environ["UV_PYTHON"] = sys.executable
    cache = cache_folder(environ, Path(sys.prefix))
    if cache:
        environ["UV_CACHE_DIR"] = str(cache)
    if not sys.stderr.isatty():
        environ["UV_NO_PROGRESS"] = "1"
        arguments = ("--quiet", *arguments)
    done = subprocess.run([str(uv_program()), *arguments], env=environ)
    if done.returncode:
        raise SystemExit(done.returncode)


def uv_program() -> Path:
    """RETRACE_UV (the images keep uv outside the environment), else the uv beside this Python."""
    return Path(os.environ.get("RETRACE_UV") or Path(sys.prefix) / "bin" / "uv")
