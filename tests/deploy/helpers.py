"""The files of deploy/, and programs that judge them."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE_FILE = DEPLOY / "compose.yaml"
COMPOSE: dict[str, Any] = YAML(typ="safe").load(COMPOSE_FILE)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("migrate", "voucher-sync")
SECRETS = {"database_url", "mews_client_token", "mews_access_token"}
"""What every daemon needs."""
README = (DEPLOY / "README.md").read_text()


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, check=False, capture_output=True, text=True)


def needs(tool: str) -> str:
    """The path of a tool that CI has, and a developer's machine may not have."""
    path = shutil.which(tool)
    if path is None:
        pytest.skip(f"{tool} is not installed: .ci/run installs it")
    return path
