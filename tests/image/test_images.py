"""What is in the images, and that they run as a hardened pod runs them."""

from __future__ import annotations

import pytest

import rowlock
from images.build import size

# The first build installs gigabytes.
pytestmark = pytest.mark.timeout(1800)

VERSION = "import importlib.metadata as m, rowlock; assert m.version('rowlock') == rowlock.__version__; print('same')"


def test_the_operator_starts_on_a_read_only_root_as_nobodys_user(shop, operator):
    done = shop.run(operator, "--help")
    assert done.returncode == 0, done.stderr
    assert "usage: rowlock-operator" in done.stdout


def test_the_operator_has_no_torch_and_says_its_version(shop, operator):
    assert shop.python(operator, "import importlib.util as u; print(u.find_spec('torch'), u.find_spec('numpy'))") == (
        "None None"
    )
    assert shop.python(operator, VERSION) == "same"
    assert shop.run(operator, "version", entrypoint="rowlock").stdout == f"rowlock {rowlock.__version__}\n"


def test_the_trainer_has_all_that_a_rank_imports(shop, trainer):
    program = "from rowlock_trainer.engine.warm import import_all; import_all(); import sklearn, torch; "
    assert shop.python(trainer, program + "print(torch.ones(2, 2).sum().item())") == "4.0"
    assert shop.python(trainer, VERSION) == "same"


def test_a_worker_without_settings_says_what_is_missing(shop, trainer):
    done = shop.run(trainer)
    assert done.returncode == rowlock.protocol.ExitCode.CONFIG
    assert "ROWLOCK_CONFIG is not set" in done.stdout


def test_an_image_of_a_users_own_runs_the_payload(shop, operator, torch, tmp_path):
    """As the init container does it: copied out of the operator's image into a volume, mounted into another."""
    tmp_path.chmod(0o777)
    volume = f"--volume={tmp_path}:/opt/rowlock"
    done = shop.run(operator, "-r", "/opt/rowlock/launcher", "/copy", options=(f"--volume={tmp_path}:/copy",),
                    entrypoint="cp")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("*.so"))

    program = "import importlib.util as u; print(u.find_spec('rowlock'), u.find_spec('websockets'))"
    assert shop.python(torch, program) == "None None"
    done = shop.run(torch, "/opt/rowlock/launcher", options=(f"{volume}:ro",), entrypoint="python3")
    assert (done.returncode, "ROWLOCK_CONFIG is not set" in done.stdout) == (78, True), done.stderr
    imports = (
        "import sys; sys.path.insert(0, '/opt/rowlock/launcher'); "
        "from rowlock_trainer.engine.warm import import_all; import_all(); print('all is there')"
    )
    done = shop.run(torch, "-c", imports, options=(f"{volume}:ro",), entrypoint="python3")
    assert done.stdout == "all is there\n", done.stderr


@pytest.mark.parametrize("name", ["operator", "trainer", "torch"])
def test_no_image_has_what_a_pod_should_not_have(shop, name, request):
    image = request.getfixturevalue(name)
    found = "find / -xdev -type f -perm /6000; find /opt ! -user root; find /run/secrets /var/cache/pip /tmp -type f"
    assert shop.run(image, "-c", found + " 2> /dev/null; true", entrypoint="sh").stdout == ""
    assert shop.python(image, "import importlib.util as u; print(u.find_spec('pip'))") == "None"
    assert shop.run(image, "-un", entrypoint="id").stdout == "rowlock\n"


def test_bytecode_is_compiled_for_all_that_is_imported(shop, operator, trainer):
    """Importing torch takes half as long with it; a read-only image never gets it later."""
    program = (
        "import sys; import {}; print([m.__file__ for m in list(sys.modules.values()) if "
        "(getattr(m, '__file__', None) or '').startswith('/opt/') and (c := getattr(m, '__cached__', None)) "
        "and not __import__('os').path.exists(c)])"
    )
    assert shop.python(operator, program.format("rowlock_operator.kube.main")) == "[]"
    assert shop.python(trainer, program.format("rowlock_trainer.launcher.main, torch, sklearn")) == "[]"


def test_the_trainer_lies_upon_the_layers_of_the_torch_image(shop, torch, trainer, operator, capsys):
    below = shop.layers(torch)
    assert shop.layers(trainer)[: len(below)] == below
    with capsys.disabled():
        for image in (operator, torch, trainer):
            print(f"\n{image:<40} {size(shop.tool, image) / 1e6:8.1f} MB", end="")  # noqa: T201 (a table for who reads)
        print()  # noqa: T201
