"""Pages opened by headless Chromium, with a probe that runs after the page's own script."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

CHROMIUM = next((path for name in ("chromium", "google-chrome", "chrome") if (path := shutil.which(name))), None)
FIRST = "<script>window.faults = []; addEventListener('error', (event) => faults.push(String(event.message)));</script>"
SUPPORT = Path(__file__).parent
DARK = "--blink-settings=preferredColorScheme=0"
FAULTS = ("faults", "unnamed", "headless", "contrast", "duplicates", "requests")


def opened(text, folder, more="", flags=(), size="1440,900"):
    """What the probe finds in a page."""
    policy = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
    assert policy.search(text)
    start = text.index("<style>")
    text = text[:start] + FIRST + text[start:]
    end = text.rindex("</body>")
    probe = (SUPPORT / "probe.js").read_text()
    path = folder / "page.html"
    path.write_text(text[:end] + f"<script>{probe.replace('__MORE__', more)}</script>" + text[end:])
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command += [f"--window-size={size}", *flags, "--virtual-time-budget=3000", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    match = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert match, done.stderr[-2000:]
    return json.loads(html.unescape(match[1]))
