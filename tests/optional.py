"""What tests may need beside the library, of an extra that an environment may lack: they are left out there."""

import importlib.util
import re

OPTIONAL = {
    "PIL", "jinja2", "matplotlib", "nbclient", "pdoc", "scipy", "sklearn", "timm", "torchvision", "transformers",
}  # fmt: skip


def missing(said: str) -> str | None:
    """The optional module that an error says is not installed."""
    found = re.search(r"No module named ['\"](\w+)", said)
    return found[1] if found and found[1] in OPTIONAL and importlib.util.find_spec(found[1]) is None else None
