"""What production installs, for real: the runtime's lock and the wheel, without the extra that the demo needs."""

import asyncio
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.test_release import a_copy, built
from tests.support.mirror import Mirror
from tests.support.process import environment

ROOT = Path(__file__).parents[2]


def command(
    *words: object, directory: Path, settings: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    shell = environment(settings or {})
    return subprocess.run([*map(str, words)], cwd=directory, env=shell, capture_output=True, text=True, check=False)


@pytest.mark.long
async def test_the_runtimes_lock_runs_production_and_the_command_it_names_makes_the_demo_run(
    mirror: Mirror, tmp_path: Path
) -> None:
    mirror.add_codes(mirror.add_voucher(), ["A", "B", "C"])
    wheel, _ = built(a_copy(tmp_path / "checkout"))
    venv = tmp_path / "venv"
    command(sys.executable, "-m", "venv", "--without-pip", venv, directory=tmp_path)
    pip = [sys.executable, "-m", "pip", "--python", venv / "bin/python", "install", "--quiet"]
    lock = ["--no-deps", "--require-hashes", "--only-binary=:all:", "-r", ROOT / "deploy/requirements.lock"]
    for what in (lock, ["--no-deps", wheel]):
        installed = command(*pip, *what, directory=tmp_path)
        assert installed.returncode == 0, installed.stderr
    voucher_sync = venv / "bin/voucher-sync"

    settings = dict(mirror.environment)
    for word in ("--help", "once", "check"):
        done = await asyncio.to_thread(command, voucher_sync, word, directory=tmp_path, settings=settings)
        assert done.returncode == 0, (word, done.stdout, done.stderr)
    demo = await asyncio.to_thread(command, voucher_sync, "demo", directory=tmp_path)

    assert demo.returncode == 2
    named = shlex.split(demo.stderr.split("`")[1])
    assert named == ["pip", "--python", str(venv / "bin/python"), "install", f"voucher-sync[demo] @ {wheel.as_uri()}"]
    # What a registry has newer than the locks is another test's; it may not even work.
    pinned = tmp_path / "pinned.txt"
    locked = (ROOT / "deploy/demo.lock").read_text(encoding="utf-8")
    pinned.write_text("\n".join(re.findall(r"^[\w.-]+==[\w.!+-]+", locked, re.MULTILINE)), encoding="utf-8")
    words = [*named, "--quiet", "--constraint", pinned]
    added = await asyncio.to_thread(command, sys.executable, "-m", *words, directory=tmp_path)
    assert added.returncode == 0, added.stderr
    shown = await asyncio.to_thread(command, voucher_sync, "demo", "--seconds", "1", directory=tmp_path)
    assert shown.returncode == 0, shown.stderr
