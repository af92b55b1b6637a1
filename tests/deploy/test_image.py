"""What the image is built from, and what it runs as."""

import re
import subprocess
import sys
from pathlib import Path

from tests.deploy.helpers import DEPLOY, OURS, README, SERVICES


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"(?m)^#.*\n", "", (DEPLOY / "Dockerfile").read_text())
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines if line)]


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage, from its FROM on."""
    found: list[list[tuple[str, str]]] = []
    for instruction in instructions():
        if instruction[0] == "FROM":
            found.append([])
        if found:
            found[-1].append(instruction)
    return found


def test_the_image_is_built_in_one_stage_and_runs_from_another() -> None:
    build, final = stages()

    assert build[0][1].endswith(" AS build")
    assert any(name == "COPY" and "--from=build" in rest for name, rest in final)
    assert not any("pip " in rest for _, rest in final)


def test_what_runs_has_no_pip_not_even_the_base_images(tmp_path: Path) -> None:
    (removal,) = (rest for name, rest in stages()[-1] if name == "RUN" and "ensurepip" in rest)
    found = re.fullmatch(r'python3 -c "(.+)"', removal)
    assert found
    for name in ("pip", "pip-26.0.dist-info", "ensurepip"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {found[1]}"

    subprocess.run([sys.executable, "-c", code], check=True)

    assert not list(tmp_path.iterdir())


def test_the_image_runs_as_a_user_with_a_number_that_is_not_roots() -> None:
    users = [rest for name, rest in stages()[-1] if name == "USER"]

    assert len(users) == 1
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[0])


def test_the_operator_is_told_the_users_number() -> None:
    (user,) = (rest for name, rest in stages()[-1] if name == "USER")

    assert f"chown {user} secrets/database_url secrets/mews_client_token secrets/mews_access_token" in README


def test_the_image_checks_its_health() -> None:
    (check,) = (rest for name, rest in stages()[-1] if name == "HEALTHCHECK")

    assert check.endswith('CMD ["voucher-sync", "status", "--healthy"]')


def test_every_download_of_the_build_has_its_hash() -> None:
    commands = [one for name, rest in stages()[0] if name == "RUN" for one in rest.split("&&")]
    installs = [one for one in commands if "pip" in one and " install " in one]

    assert len(installs) == 3
    for install in installs:
        assert "--no-deps" in install
        assert "--require-hashes --only-binary=:all: -r" in re.sub(r" +", " ", install) or "dist/*.whl" in install


def test_the_build_sees_only_what_it_is_given() -> None:
    everything, *given = (
        line for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if not line.startswith("#")
    )
    copied = {source for name, rest in stages()[0] if name == "COPY" for source in rest.split()[:-1]}

    assert everything == "*"
    assert {line[1:] for line in given if line.startswith("!")} == copied


def test_every_image_is_named_by_digest_but_those_that_a_site_pins_by_itself() -> None:
    bases = {
        value.partition("=")[2] for name, value in instructions() if name == "ARG" and value.startswith("BASE_IMAGE")
    }
    others = {service["image"] for name, service in SERVICES.items() if name not in OURS}
    of_site = {image for image in others if image.startswith("${")}
    images = bases | others - of_site

    assert {rest.partition(" ")[0] for stage in stages() for name, rest in stage if name == "FROM"} == {"${BASE_IMAGE}"}
    assert len(images) == 2
    for image in images:
        assert re.fullmatch(r"[a-z]+:[\w.-]+@sha256:[0-9a-f]{64}", image), image
    assert len(of_site) == 2
    for image in of_site:
        found = re.fullmatch(r"\$\{([A-Z_]+):-(.+)\}", image)
        assert found, image
        variable, default = found.groups()
        assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", default), image
        assert f"`{variable}`" in README
        assert default in README
