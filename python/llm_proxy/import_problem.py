"""What an import error of a plugin means for its user: which package to install, and how."""

from __future__ import annotations

import importlib.util
import sys

# Modules whose distribution has another name. What is not here is named like its module.
_DISTRIBUTIONS = {
    "PIL": "Pillow",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python",
    "dotenv": "python-dotenv",
    "extism": "extism",
    "google": "google-auth",
    "google.cloud": "google-cloud-core",
    "google.genai": "google-genai",
    "google.generativeai": "google-generativeai",
    "google.protobuf": "protobuf",
    "google_auth_oauthlib": "google-auth-oauthlib",
    "huggingface_hub": "huggingface-hub",
    "jwt": "PyJWT",
    "presidio_analyzer": "presidio-analyzer",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}
_OURS = ("cli", "core", "llm_proxy", "plugins", "src")


def import_problem(error: BaseException) -> str | None:
    """One line: what is missing and the command that brings it. None: `error` is something else."""
    if not isinstance(error, ImportError):
        return None
    module = error.name or ""
    root = module.partition(".")[0]
    if root in _OURS:
        return f"{error}: this proxy has no such name; is the package made for another version?"
    if not isinstance(error, ModuleNotFoundError) or not root:
        return f"{type(error).__name__}: {error}"
    if root != "google" and _is_there(root):
        return f"the installed package of {root!r} has no module {module!r}: another version?"
    package = _DISTRIBUTIONS.get(".".join(module.split(".")[:2])) or _DISTRIBUTIONS.get(root, root)
    command = f"{sys.executable} -m pip install {package}"
    return f"it needs the package {package!r}, which is not installed; {command}"


def _is_there(root: str) -> bool:
    try:
        return importlib.util.find_spec(root) is not None
    except (ImportError, ValueError):
        return False
