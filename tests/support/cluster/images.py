"""How images reach the nodes: by layers, through a registry, and the large ones unpacked only once.

A pushed image is pulled by each node, and of one that changed only the layers that did. The several gigabytes
of torch are in a *seed*: an image store that holds them unpacked, and that each new node starts with a copy of.
The copy's files are hard links, since layers and blobs are never written again; its two databases are copied.
"""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tests.support.cluster import node_config
from tests.support.cluster.control import START_SECONDS, daemon
from tests.support.cluster.layout import HOST, REGISTRY_PORT
from tests.support.cluster.mounts import unmount_below
from tests.support.cluster.network import run
from tests.support.go_programs import say

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.support.cluster.layout import Layout
    from tests.support.cluster.node import Node

REGISTRY = f"{HOST}:{REGISTRY_PORT}"
#: What this machine's podman needs: no systemd to ask for cgroups, no limit to raise.
PODMAN = ("podman", "--cgroup-manager=cgroupfs", "--events-backend=file")


def push_pause(program: Path, folder: Path) -> None:
    """Put the image that holds pods' namespaces open into the registry."""
    context = folder / "pause"
    context.mkdir(parents=True, exist_ok=True)
    shutil.copy(program, context / "pause")
    (context / "Dockerfile").write_text('FROM scratch\nCOPY pause /pause\nUSER 65535:65535\nENTRYPOINT ["/pause"]\n')
    run(*PODMAN, "build", "--quiet", "--tag", node_config.PAUSE_IMAGE, context)
    push(node_config.PAUSE_IMAGE)
    run(*PODMAN, "rmi", node_config.PAUSE_IMAGE)


def push(image: str, name: str = "") -> None:
    """Push an image of podman's store into the cluster's registry, under its own path or that of `name`."""
    _, _, path = (name or image).partition("/")
    # Quick to pack and unpack: what is pushed here travels no further than the next folder.
    options = ("--tls-verify=false", "--compression-format=zstd", "--quiet")
    run(*PODMAN, "push", *options, image, f"{REGISTRY}/{path}")


def push_all(images: Sequence[str]) -> None:
    """Push images at once, what they share only once: the first has to be the one that the others build on."""
    push(images[0])
    with ThreadPoolExecutor(len(images)) as pool:
        list(pool.map(push, images[1:]))


def pull_everywhere(nodes: Sequence[Node], images: Sequence[str]) -> None:
    """Pull images on all nodes at once."""
    with ThreadPoolExecutor(len(nodes)) as pool:
        list(pool.map(lambda node: [node.pull(image) for image in images], nodes))


def drop_older_than(layout: Layout, key: str) -> None:
    """Remove the seed of other images than the one of this key, and what was pushed beside it.

    A new torch is some 9 GB here and there; nobody comes back to the one before.
    """
    if not layout.seeds.exists() or (layout.seeds / key).exists():
        return
    shutil.rmtree(layout.seeds)
    shutil.rmtree(layout.registry, ignore_errors=True)


def seed(layout: Layout, key: str, images: Sequence[str]) -> Path:
    """Return an image store that holds `images` unpacked; makes it if there is none of that key."""
    store = layout.seeds / key
    if store.exists():
        return store
    say(f"unpacking {', '.join(images)} for the nodes, once")
    making, work = layout.seeds / f".{key}", layout.run / "seed"
    certs = work / "registries"
    for registry in node_config.MIRRORED:
        (certs / registry).mkdir(parents=True, exist_ok=True)
        (certs / registry / "hosts.toml").write_text(node_config.registry_hosts())
    making.mkdir(parents=True)
    config = work / "containerd.toml"
    socket = work / "containerd.sock"
    config.write_text(
        f'version = 2\nroot = "{making}"\nstate = "{work}/state"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        f'[grpc]\naddress = "{socket}"\n[plugins."io.containerd.internal.v1.opt"]\npath = "{work}/opt"\n'
    )
    runtime = daemon(layout, "seed-containerd")
    runtime.start(["containerd", "--config", config])
    try:
        runtime.await_ready(lambda: run("ctr", "-a", socket, "version", check=False).returncode == 0, START_SECONDS)
        for image in images:
            run("ctr", "-a", socket, "-n", "k8s.io", "images", "pull", "--hosts-dir", certs, image)
    finally:
        runtime.kill()
        unmount_below(making, work)
    making.rename(store)
    return store


def plant(store: Path, seed_store: Path) -> None:
    """Begin a node's image store with a copy of the seed."""
    store.parent.mkdir(parents=True, exist_ok=True)
    run("cp", "-a", "--link", seed_store, store)
    for database in store.rglob("*.db"):
        copied = database.with_suffix(".copy")
        shutil.copy2(database, copied)
        copied.replace(database)


def image_id(image: str) -> str | None:
    """Return the first characters of an image's id in podman's store, None when it is not there."""
    done = run(*PODMAN, "image", "inspect", "--format", "{{.Id}}", image, check=False)
    return done.stdout.strip()[:12] if done.returncode == 0 else None
