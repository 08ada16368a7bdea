"""How the launcher gets into a worker's pod: it is in the image, or an init container copies it there.

The trainer image of the release has Rowlock in it. Any other image needs no more than Python and torch: the
operator's own image carries the launcher as a folder of pure Python, and the init container copies it into a volume
that the trainer container mounts read-only. The folder is started by its path, so no variable of the user's
environment is touched, and a command's own Python never sees what lies in it.

A job outlives releases. The image that it was created with stays in its spec, so a mirror is known by its
repository and keeps the job's own tag; and a crew's launchers all come from one image, which status remembers
(`status.launcherImage`), because what ranks say to each other has no version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rowlock.api.v1alpha1 import DEFAULT_IMAGE, LAUNCHER_DIRECTORY, RESERVED_PREFIX

#: `python3`, because many images have no `python`.
PYTHON = "python3"
INSTALLED = (PYTHON, "-m", "rowlock_trainer.launcher.main")
#: The same folder in the operator's image and, by the mount, in the trainer container.
PAYLOAD = f"{LAUNCHER_DIRECTORY}/launcher"
COPIED = (PYTHON, PAYLOAD)
#: Name of the init container and of the volume.
NAME = f"{RESERVED_PREFIX}launcher"
_TARGET = "/rowlock"
#: The payload has 2 MB; ten times that is room to grow and no harm to a node.
_VOLUME_LIMIT = "20Mi"
#: Requests equal limits, else the pod of a user who asked for the class Guaranteed would not get it. A copy of 2 MB
#: needs next to nothing; less than this much memory and container runtimes refuse to start anything.
_RESOURCES = {"cpu": "100m", "memory": "32Mi"}


@dataclass(frozen=True)
class PodSettings:
    """What the operator's own surroundings say about pods, the same for all jobs."""

    #: ``http://host:port`` at which a pod reaches the coordinator.
    coordinator_url: str
    #: Image with the launcher's folder, the operator's own. Empty: nothing is copied into any pod.
    launcher_image: str = ""
    #: What is pulled for `DEFAULT_IMAGE`: a mirror of it, where there is one. Other tags of the same repository are
    #: pulled from the mirror's repository.
    trainer_image: str = DEFAULT_IMAGE
    #: `imagePullPolicy` of the launcher's image; empty: the API server's default.
    launcher_pull_policy: str = ""


def image_to_pull(image: str, settings: PodSettings) -> str:
    """Return the image of the trainer container for the one that the job names."""
    if image == DEFAULT_IMAGE:
        return settings.trainer_image
    if repository(image) == repository(DEFAULT_IMAGE):
        return repository(settings.trainer_image) + image.removeprefix(repository(image))
    return image


def repository(image: str) -> str:
    """Return an image's name without tag and digest: a colon before the last slash is a port."""
    name = image.partition("@")[0]
    return name[: name.rfind(":")] if name.rfind(":") > name.rfind("/") else name


def is_copied(image: str, settings: PodSettings) -> bool:
    """Return whether the launcher has to be copied into a pod whose trainer container has this image."""
    holding = (repository(DEFAULT_IMAGE), repository(settings.trainer_image))
    return bool(settings.launcher_image) and repository(image) not in holding


def copying_container(image: str, settings: PodSettings, security: dict[str, Any]) -> dict[str, Any]:
    """Return the init container that copies the launcher. It may run as any user: all can read what it copies."""
    policy = settings.launcher_pull_policy
    return {
        "name": NAME,
        "image": image,
        **({"imagePullPolicy": policy} if policy else {}),
        "command": ["cp", "-R", PAYLOAD, f"{_TARGET}/"],
        "resources": {"requests": dict(_RESOURCES), "limits": dict(_RESOURCES)},
        "volumeMounts": [{"name": NAME, "mountPath": _TARGET}],
        "securityContext": security,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def volume() -> dict[str, Any]:
    """Return the volume that the launcher is copied into."""
    return {"name": NAME, "emptyDir": {"sizeLimit": _VOLUME_LIMIT}}


def mount() -> dict[str, Any]:
    """Return where the trainer container finds it."""
    return {"name": NAME, "mountPath": LAUNCHER_DIRECTORY, "readOnly": True}
