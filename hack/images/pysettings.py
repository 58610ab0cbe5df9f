"""The machine's package settings, read from pip's own configuration and handed to uv.

uv does not read pip's configuration, so a mirror or a private certificate authority that the machine's owner has
configured once for pip would be unknown to it. ``eval "$(python3 hack/images/pysettings.py)"`` tells it. Nothing of
this is ever written to a file of the project or to an image.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

DEFAULT_CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


def _pip_setting(name: str) -> str | None:
    """What pip is configured to use for ``name``, environment before files, or None.

    Args:
        name: pip's long option without the dashes, for example ``index-url``.
    """
    from_environment = os.environ.get("PIP_" + name.upper().replace("-", "_"))
    if from_environment:
        return from_environment
    for section in ("global", "install"):
        asked = subprocess.run(
            [sys.executable, "-m", "pip", "config", "get", f"{section}.{name}"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if asked.returncode == 0 and asked.stdout.strip():
            return asked.stdout.strip()
    return None


def ca_bundle() -> Path | None:
    """The certificate bundle that the machine trusts, or None where only the built-in ones are to be had."""
    candidates = (os.environ.get("SSL_CERT_FILE"), _pip_setting("cert"), str(DEFAULT_CA_BUNDLE))
    return next((Path(bundle) for bundle in candidates if bundle and Path(bundle).is_file()), None)


def uv_settings() -> dict[str, str]:
    """Environment variables that make uv fetch packages the way pip would on this machine.

    What the caller has already set for uv wins and is repeated here.
    """
    settings: dict[str, str] = {}
    index = _pip_setting("index-url")
    if index:
        settings["UV_DEFAULT_INDEX"] = index
    extra = _pip_setting("extra-index-url")
    if extra:
        settings["UV_INDEX"] = extra
    trusted = _pip_setting("trusted-host")
    if trusted:
        settings["UV_INSECURE_HOST"] = trusted
    bundle = ca_bundle()
    if bundle:
        settings["SSL_CERT_FILE"] = str(bundle)
    settings["UV_HTTP_TIMEOUT"] = os.environ.get("PIP_DEFAULT_TIMEOUT", "120")
    settings.update({name: value for name, value in os.environ.items() if name in settings and name.startswith("UV_")})
    return settings


if __name__ == "__main__":
    for variable, value in uv_settings().items():
        print(f"export {variable}={shlex.quote(value)}")
