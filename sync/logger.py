"""structlog without rich, by which it would colour tracebacks: ours name no values, and it takes 2.5 MB of a daemon."""

import sys

_rich = sys.modules.get("rich")
sys.modules["rich"] = None  # type: ignore[assignment]  # which Python takes for "there is none"
try:
    import structlog
finally:
    del sys.modules["rich"]
    if _rich is not None:
        sys.modules["rich"] = _rich

__all__ = ["structlog"]
