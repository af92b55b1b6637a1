"""newer_releases.py DIRECTORY LOCK...: wheels, with nothing in them, of a newer release of all that the locks list.

Given to pip by PIP_FIND_LINKS, they are what a registry has some weeks after the locks were made.
"""

import re
import sys
import zipfile
from pathlib import Path


def main(directory: Path, locks: list[Path]) -> None:
    """Write the wheels into the new `directory`."""
    directory.mkdir()
    for lock in locks:
        for name, version in re.findall(r"(?m)^([a-z0-9-]+)==(\d+(?:\.\d+)*)", lock.read_text(encoding="utf-8")):
            write_wheel(directory, name.replace("-", "_"), f"{version}.1")


def write_wheel(directory: Path, name: str, version: str) -> None:
    """A wheel that pip installs, and nothing can be imported from."""
    information = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(directory / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{information}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{information}/RECORD", "")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
