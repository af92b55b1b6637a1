"""Mirrors voucher codes from the Mews Connector API into PostgreSQL and pushes queued changes back."""

import sys
from types import ModuleType

# What libraries load beside what is used of them, each with much behind it: httpx a command line of its own, and
# SQLAlchemy, beside its asynchronous engine, the sessions of its mapper. Without them a process has 9 MB less, and is
# there sooner.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # which Python takes for "there is none"


class _LeftOut:
    """What nobody uses here. Whoever does needs the module, and a line less below."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        raise ImportError("sync/__init__.py leaves it out, since nothing used it")


def _empty(name: str) -> ModuleType:
    """A module of which each name may be imported."""
    module = ModuleType(name)

    def get(wanted: str) -> type[_LeftOut]:
        if wanted.startswith("__"):
            raise AttributeError(wanted)
        return _LeftOut

    module.__getattr__ = get  # type: ignore[method-assign]
    return module


for _unused in ("sqlalchemy.ext.asyncio.scoping", "sqlalchemy.ext.asyncio.session"):
    sys.modules.setdefault(_unused, _empty(_unused))
