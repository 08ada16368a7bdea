"""Where this machine's pip takes packages from, told to the pip of an image's build.

Whoever can install Rowlock from a private index or behind a proxy of their own should be able to build its images
there, too. The settings may hold a password, so they travel as a secret of the build and get into no layer.
"""

from __future__ import annotations

import configparser
import os
from pathlib import Path

#: pip's files, the nearest last: the machine's and the user's. PIP_CONFIG_FILE names another for the user's.
MACHINE = "/etc/pip.conf"
USER = ("~/.pip/pip.conf", "~/.config/pip/pip.conf")
#: What says where packages come from. The rest of a configuration is about this machine, not about the image.
SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries")
#: Where the Dockerfile's RUN lines find the bundle of certificate authorities, the secret named "ca".
CERTIFICATES = "/run/secrets/ca"


def write_pip_settings(folder: Path, machine: str = MACHINE) -> dict[str, Path]:
    """Write a pip configuration for a build into `folder`.

    Args:
        folder: An empty folder.
        machine: pip's file for the whole machine.

    Returns:
        Files to pass to the build as secrets, by the secret's name; empty when this machine's pip has no settings.
    """
    named = os.environ.get("PIP_CONFIG_FILE")
    files = () if named == os.devnull else (machine, *((named,) if named else USER))
    given = configparser.ConfigParser(interpolation=None)
    given.read([Path(file).expanduser() for file in files], encoding="utf-8")

    def setting(name: str) -> str:
        variable = os.environ.get("PIP_" + name.upper().replace("-", "_"), "")
        return variable or given.get("install", name, fallback="") or given.get("global", name, fallback="")

    told = {name: value for name in SETTINGS if (value := setting(name))}
    secrets = {}
    certificates = setting("cert")
    if certificates:
        secrets["ca"] = Path(certificates)
        told["cert"] = CERTIFICATES
    if told:
        secrets["pip"] = folder / "pip.conf"
        written = configparser.ConfigParser(interpolation=None)
        written["global"] = told
        with secrets["pip"].open("w", encoding="utf-8") as file:
            written.write(file)
    return secrets
