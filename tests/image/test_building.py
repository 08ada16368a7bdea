"""How images are built: what reaches a build, what stays out of it, and what a change costs."""

from __future__ import annotations

import functools
import subprocess
import tarfile
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from images.build import size
from tests.image.shop import ROOT, copy_checkout, tracked

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(1800)

PACKAGES = ("rowlock", "operator/rowlock_operator", "trainer/rowlock_trainer")
#: What lies around in a checkout and is nobody's business. Those in packages have no name that a whitelist lets in.
DECOYS = (
    ".env", ".git/config", ".venv/bin/python", "id_rsa", "kubeconfig.yaml", "requirements/.netrc", "images/token.txt",
    "rowlock/.env", "rowlock/api/key.pem", "rowlock/api/__pycache__/old.pyc", "operator/secret.yaml", "trainer/x.py",
    "operator/rowlock_operator/core/.env.local", "trainer/rowlock_trainer/launcher/token.json", "tests/passwords.py",
)  # fmt: skip
#: More than Rowlock's own layer has, and far less than any other that matters.
SMALL = 10e6


def names_in(shop, image: str, folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file of every layer of an image, and the image's own descriptions."""
    archive = folder / "image.tar"
    subprocess.run([shop.tool, "save", "--output", str(archive), image], check=True, capture_output=True)
    with tarfile.open(archive) as outer:
        for member in outer.getmembers():
            file = outer.extractfile(member) if member.isfile() else None
            if file is None:
                continue
            if not tarfile.is_tarfile(file):
                file.seek(0)
                yield member.name, file.read()
                continue
            file.seek(0)
            with tarfile.open(fileobj=file) as layer:
                for inner in layer.getmembers():
                    yield f"/{inner.name}", layer.extractfile(inner).read() if inner.isfile() else b""


def test_only_what_the_dockerfile_copies_reaches_a_build(shop, tmp_path):
    context = copy_checkout(tmp_path / "context")
    for name in DECOYS:
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text("secret")
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("FROM scratch\nCOPY . /context\n")
    image = "localhost/rowlock-test/context:test"
    command = [shop.tool, "build", "--quiet", f"--tag={image}", f"--file={dockerfile}", str(context)]
    subprocess.run(command, check=True, capture_output=True)
    arrived = {name for name, _ in names_in(shop, image, tmp_path) if name.startswith("/context/")}
    files = {name.removeprefix("/context/") for name in arrived if (context / name.removeprefix("/context/")).is_file()}
    wanted = {
        str(path)
        for path in tracked()
        if str(path) in ("LICENSE", "README.md", "pyproject.toml", "images/install.sh", "images/payload.py")
        or (path.parent == Path("requirements") and path.suffix == ".txt")
        or (str(path).startswith(PACKAGES) and (path.suffix == ".py" or path.name == "py.typed"))
    }
    assert files == wanted


def test_pips_settings_serve_a_build_and_stay_out_of_the_image(shop, tmp_path, monkeypatch):
    """A password of an index is in the settings; the index named here is never asked, it only goes along."""
    settings = tmp_path / "pip.conf"
    settings.write_text("[global]\nextra-index-url = http://user:hunter2marker@127.0.0.1:9/simple\nretries = 0\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    image = shop.build("payload", "--no-cache", tag="secret")
    files = dict(names_in(shop, image, tmp_path))
    assert "/opt/rowlock/launcher/cattrs/__init__.py" in files
    assert [name for name, content in files.items() if b"hunter2marker" in content] == []


def test_a_change_of_rowlock_changes_the_last_layer_alone(shop, tmp_path):
    context = copy_checkout(tmp_path / "context")
    before = [shop.build(target, tag="before", context=context) for target in ("operator", "trainer")]
    with (context / "rowlock" / "protocol.py").open("a") as file:
        file.write("CHANGED = True\n")
    after = [shop.build(target, tag="after", context=context) for target in ("operator", "trainer")]
    for old, new in zip(before, after, strict=True):
        assert shop.layers(old)[:-1] == shop.layers(new)[:-1]
        assert shop.layers(old)[-1] != shop.layers(new)[-1]
        assert shop.python(new, "import rowlock.protocol; print(rowlock.protocol.CHANGED)") == "True"
        assert abs(size(shop.tool, old) - size(shop.tool, new)) < SMALL


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """A package index with one thing in it: a torch for other devices, as one that has no CUDA is called."""
    lock = (ROOT / "requirements" / "torch.txt").read_text()
    version = next(line for line in lock.splitlines() if line.startswith("torch==")).split()[0].removeprefix("torch==")
    folder = tmp_path / "simple" / "torch"
    folder.mkdir(parents=True)
    wheel = f"torch-{version}+cpu-py3-none-any.whl"
    info = f"torch-{version}+cpu.dist-info"
    with zipfile.ZipFile(folder / wheel, "w") as archive:
        archive.writestr("torch/__init__.py", f"__version__ = '{version}+cpu'\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: torch\nVersion: {version}+cpu\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    (folder / "index.html").write_text(f'<a href="{wheel}">{wheel}</a>')
    handler = functools.partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/simple"
        server.shutdown()


def test_torch_of_another_index_comes_without_cuda_and_with_all_else_that_is_locked(shop, index):
    image = shop.build("torch", tag="other-index", TORCH_INDEX_URL=index)
    names = "import importlib.metadata as m; print(*sorted(d.name.lower() for d in m.distributions()))"
    installed = shop.python(image, names).split()
    assert {"torch", "numpy", "sympy", "typing_extensions"} <= set(installed)
    assert [name for name in installed if name.startswith(("nvidia", "cuda", "triton"))] == []
    assert shop.python(image, "import torch; print(torch.__version__)").endswith("+cpu")
