"""`python -m tests.mutants.run [NAME...]`: whether the suite notices each mutant, and passes without any.

Each mutant goes into a copy of the tree of its own, as it stands in the working tree. Only the test files that it names
are run, until the first failure: it is shown that these files hold the invariant, not that no others do.

With `TEST_DATABASE_URL`, give `--at-once 1`: some tests measure what the whole server writes.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from tests.mutants.patches import ROOT, Mutant, Unusable, load_all

NOT_HELD = {
    8: "two databases that are used with one token know nothing of each other's calls",
    9: "a process that is stopped between its last check and the kernel's send sends when it goes on",
    14: "commits that are lost after the last position leave no sign, as a cancellation of the last seconds",
}
HUNG_AFTER_S = 1200
"""A single test that hangs is failed by its own time-out, which counts as noticed; this is for all of a run."""
TOLD_LINES = 25


@dataclass(frozen=True, slots=True)
class Result:
    """How one run ended. `is_good`: the mutant was caught; without a mutant, nothing failed."""

    is_good: bool
    words: str
    lasted_s: float = 0.0
    output: str = ""


@click.command()
@click.argument("names", nargs=-1)
@click.option("--at-once", default=2, show_default=True, help="How many are tried at the same time.")
def main(names: tuple[str, ...], at_once: int) -> None:
    """Try all mutants, or those with these NAMES; exit code 1 if one survives or cannot be tried."""
    mutants = [mutant for mutant in load_all() if not names or mutant.name in names]
    if unknown := set(names) - {mutant.name for mutant in mutants}:
        raise click.UsageError(f"there is no mutant {', '.join(sorted(unknown))}")
    began_s = time.monotonic()
    with ThreadPoolExecutor(at_once) as pool:
        whole = pool.submit(try_whole, sorted({test for mutant in mutants for test in mutant.tests}))
        caught = 0
        for mutant, result in zip(mutants, pool.map(try_mutant, mutants), strict=True):
            _tell(f"invariant {mutant.invariant:>2}", f"{mutant.name}: {mutant.breaks}", result)
            caught += result.is_good
        baseline = whole.result()
    _tell("none        ", "the same tests without any mutant", baseline)
    for number, part in NOT_HELD.items():
        click.echo(f"invariant {number:>2}  not tried, since it is not held: {part}")
    click.echo(f"{caught} of {len(mutants)} mutants were caught, in {time.monotonic() - began_s:.0f} s.")
    sys.exit(0 if caught == len(mutants) and baseline.is_good else 1)


def _tell(broken: str, what: str, result: Result) -> None:
    click.echo(f"{broken}  {result.lasted_s:>4.0f} s  {what}\n                      {result.words}")
    if result.output:
        click.echo(result.output)


def try_mutant(mutant: Mutant) -> Result:
    """Run the tests of a mutant with it."""
    with copied_tree() as copy:
        try:
            for path, text in mutant.broken(copy).items():
                (copy / path).write_text(text, encoding="utf-8")
        except (Unusable, OSError) as error:
            return Result(is_good=False, words="DOES NOT APPLY", output=str(error))
        return judge(*run_tests(copy, mutant.tests))


def try_whole(tests: Sequence[str]) -> Result:
    """Run the tests of all mutants without any."""
    with copied_tree() as copy:
        code, output, lasted_s = run_tests(copy, tests)
    if code == 0:
        return Result(is_good=True, words="passes", lasted_s=lasted_s)
    return Result(is_good=False, words="FAILS", lasted_s=lasted_s, output=_last_lines(output))


def judge(code: int | None, output: str, lasted_s: float) -> Result:
    """What the end of a run says of its mutant: only a test that failed has caught it, not one that could not begin."""
    failed = re.search(r"^FAILED (\S+::\w+(?:\[.*?\])?)(?: - .*)?$", output, flags=re.MULTILINE)
    if code == 1 and failed:
        return Result(is_good=True, words=f"caught by {failed[1]}", lasted_s=lasted_s)
    words = {0: "SURVIVED", None: "HUNG"}.get(code, f"BROKEN (pytest's exit code {code}, and no failed test)")
    return Result(is_good=False, words=words, lasted_s=lasted_s, output=_last_lines(output))


def run_tests(copy: Path, tests: Sequence[str]) -> tuple[int | None, str, float]:
    """Run test files in a copy, up to the first failure: pytest's exit code, None if it hung, its output, and seconds.

    Raises RuntimeError if they would test another tree's code.
    """
    # Before the installed package, which is the working tree; every process that a test starts inherits it.
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", "import sync, tests; print(sync.__file__, tests.__file__)"]
    imported = subprocess.run(command, cwd=copy.parent, env=environment, capture_output=True, text=True, check=True)
    if imported.stdout.split() != [str(copy / name / "__init__.py") for name in ("sync", "tests")]:
        raise RuntimeError(f"the copy's code would not be tested, but {imported.stdout}")
    began_s = time.monotonic()
    pytest = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "", "-p", "no:cacheprovider", *tests]
    process = subprocess.Popen(
        pytest, cwd=copy, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=HUNG_AFTER_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return None, output, time.monotonic() - began_s
    return process.returncode, output, time.monotonic() - began_s


@contextmanager
def copied_tree() -> Iterator[Path]:
    """A copy of the working tree: what git knows or would add, with what is not committed yet."""
    with tempfile.TemporaryDirectory(prefix="voucher-sync-mutant-", ignore_cleanup_errors=True) as directory:
        copy = Path(directory).resolve() / "tree"
        listed = subprocess.check_output(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, text=True)
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():  # a deleted one is listed until that is committed
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, copy / name)
        yield copy


def _last_lines(output: str) -> str:
    return "\n".join(f"    | {line}" for line in output.splitlines()[-TOLD_LINES:])


if __name__ == "__main__":
    main()
