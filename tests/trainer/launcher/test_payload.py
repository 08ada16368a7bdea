"""The launcher's payload: a folder that starts a worker in any image with Python, and torch for the built-in trainer.

The interpreter of these tests is the one below the virtual environment, which knows no package of ours.
"""

from __future__ import annotations

import ast
import asyncio
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from images.payload import write_payload
from rowlock.protocol import ExitCode
from tests.trainer.launcher.crew import config, crew_in, kill

#: What lies in the folder beside Rowlock's own files. Nothing else may be needed.
THEIRS = ("attr", "attrs", "cattrs", "websockets", "typing_extensions")
PYTHON = str(Path(sys.executable).resolve())


@pytest.fixture(scope="module")
def payload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder, put together from what is installed, without any compiled module."""
    folder = tmp_path_factory.mktemp("payload") / "launcher"
    write_payload(folder)
    for name in THEIRS:
        origin = Path(str(importlib.util.find_spec(name).origin))
        if origin.name == "__init__.py":
            shutil.copytree(origin.parent, folder / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        else:
            shutil.copyfile(origin, folder / origin.name)
    return folder


def bare(*words: str) -> subprocess.CompletedProcess[str]:
    """Run Python with nothing but its standard library."""
    environ = {"PATH": os.environ["PATH"]}
    return subprocess.run([PYTHON, "-I", "-S", *words], env=environ, capture_output=True, text=True, check=False)


def test_the_folder_starts_without_any_installed_package(payload):
    done = bare(str(payload))
    assert done.returncode == ExitCode.CONFIG, done.stderr
    assert "ROWLOCK_CONFIG is not set" in done.stdout


def test_an_image_with_too_old_a_python_is_told_so_and_not_tried_again(payload):
    program = f"""
import runpy, sys
sys.version_info = (3, 10, 14, "final", 0)
runpy.run_path({str(payload)!r}, run_name="__main__")
"""
    done = bare("-c", program)
    assert done.returncode == ExitCode.CONFIG, done.stderr
    assert done.stdout == (
        "launcher: cannot start: the image's python3 is 3.10, Rowlock needs 3.11 or newer. Take an image with a newer "
        "one, or set PATH in spec.template's container trainer to where it is\n"
    )


def test_a_python_that_is_too_old_understands_what_tells_it_so(payload):
    ast.parse((payload / "__main__.py").read_text(), feature_version=(3, 6))


def test_the_built_in_trainer_needs_no_package_beside_torch_and_numpy(payload, tmp_path):
    visible = tmp_path / "image"
    visible.mkdir()
    for entry in torchs_own():
        (visible / entry.name).symlink_to(entry)
    program = f"""
import sys
sys.path[:] = [{str(payload)!r}, *sys.path, {str(visible)!r}]
from rowlock_trainer.launcher.main import ENTRY, WARM_UP
from rowlock_trainer.launcher.zygote import resolve
resolve(WARM_UP)()
resolve(ENTRY)
for module in ("checkpoint.checkpointer", "checkpoint.retention", "data.digits", "data.text", "engine.builtin",
               "models.cnn", "models.gpt", "models.mlp", "parallel.ddp"):
    __import__("rowlock_trainer." + module)
print("all is there")
"""
    done = bare("-c", program)
    assert done.stdout == "all is there\n", done.stderr


def test_a_worker_in_an_image_of_its_own_trains_and_survives_its_warm_parent(payload, tmp_path):
    looks = "importlib.util.find_spec('rowlock_trainer')"
    tells = f"print('generation', os.environ['ROWLOCK_GENERATION'], 'sees', {looks})"
    command = (PYTHON, "-c", f"import importlib.util, os, signal; {tells}; signal.pause()")

    async def scenario():
        async with crew_in(tmp_path) as crew:
            launcher = await crew.launch(config(command=command), program=(PYTHON, str(payload)), PYTHONPATH="")
            await crew.run()
            await launcher.line("generation 1 sees None")
            kill(launcher.zygote())
            await crew.until_phase("ended")
            await crew.run(generation=2)
            await launcher.line("generation 2 sees None")

    asyncio.run(scenario())


def torchs_own() -> set[Path]:
    """Return the files and folders of torch, numpy and all that they require."""
    names, wanted = set(), ["torch", "numpy"]
    while wanted:
        name = wanted.pop()
        if name in names:
            continue
        names.add(name)
        try:
            required = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # for another platform
        wanted += [re.match(r"[\w.-]+", one)[0] for one in required if "extra ==" not in one]
    entries = set()
    for name in names:
        try:
            files = importlib.metadata.files(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        entries |= {Path(one.locate()).parents[len(one.parts) - 2] if len(one.parts) > 1 else Path(one.locate())
                    for one in files if ".." not in one.parts}  # fmt: skip
    return {entry for entry in entries if entry.exists()}
