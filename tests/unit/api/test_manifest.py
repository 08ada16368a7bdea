"""Every problem of a manifest is named with its line, its field and a way out."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowlock.api.manifest import ManifestError, Problem, load_manifest, parse_manifest
from rowlock.api.v1alpha1 import DistributedTrainingJob
from tests.support.manifests import command_job, trainer_job

HEAD = "apiVersion: rowlock.dev/v1alpha1\nkind: DistributedTrainingJob\n"


def problems_of(text: str) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        parse_manifest(dedent(text).encode(), "job.yaml")
    return str(caught.value).splitlines()


def problem_of(spec: str) -> str:
    """The one problem of a job whose fields below spec are `spec`."""
    body = dedent(spec).strip().replace("\n", "\n  ")
    (problem,) = problems_of(f"{HEAD}metadata:\n  name: a\nspec:\n  {body}\n")
    return problem


def test_a_manifest_becomes_a_job() -> None:
    job = parse_manifest(json.dumps(trainer_job(workers=4)).encode(), "job.json")
    assert (job.metadata.name, job.spec.workers, job.spec.image) == (
        "digits",
        4,
        DistributedTrainingJob.model_validate(trainer_job()).spec.image,
    )


def test_all_problems_are_listed_in_the_order_of_their_lines() -> None:
    text = f"""\
{HEAD}metadata:
  name: Digits
  nmae: x
spec:
  workers: 0
  trainer:
    model:
      cnn:
        channels: [16, "32"]
    data: digit
    steps: 1.5
"""
    assert problems_of(text) == [
        "job.yaml:4:3: metadata.name: must consist of lower-case letters, digits and '-', begin with a letter "
        'and end with a letter or digit, got "Digits"',
        "job.yaml:5:3: metadata.nmae: unknown field; did you mean name?",
        "job.yaml:7:3: spec.workers: must be at least 1, got 0",
        'job.yaml:11:24: spec.trainer.model.cnn.channels[1]: must be a whole number, got "32"; '
        "if that is the value, write it without quotes",
        'job.yaml:12:5: spec.trainer.data: must be digits or python-text, got "digit"; did you mean digits?',
        "job.yaml:13:5: spec.trainer.steps: must be a whole number, got 1.5",
    ]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("command: [a]\nwrokers: 3", "job.yaml:7:3: spec.wrokers: unknown field; did you mean workers?"),
        ("command: [a]\nmax_failures: 3", "job.yaml:7:3: spec.max_failures: unknown field; did you mean "
         "spec.recovery.maxFailures?"),
        ("command: [a]\nsteps: 3", "job.yaml:7:3: spec.steps: unknown field; did you mean spec.trainer.steps?"),
        ("command: [a]\nimage: no", "job.yaml:7:3: spec.image: must be text, got false; YAML reads no as false; "
         'put it in quotes: "no"'),
        ("command: [a]\nimage: 1.10", 'job.yaml:7:3: spec.image: must be text, got 1.1; put it in quotes: "1.10"'),
        ("command: [a, 0x10]", 'job.yaml:6:16: spec.command[1]: must be text, got 16; put it in quotes: "0x10"'),
        ('command: [a]\nsuspend: "true"', 'job.yaml:7:3: spec.suspend: must be true or false, got "true"; if that '
         "is the value, write it without quotes"),
        ("command: [a]\nworkers: 5000", "job.yaml:7:3: spec.workers: must be at most 1024, got 5000"),
        ("command: []", "job.yaml:6:3: spec.command: must not be empty"),
        ("command: a", 'job.yaml:6:3: spec.command: must be a list, got "a"'),
        ("command: [a]\nimage: ''", "job.yaml:7:3: spec.image: must not be empty"),
        ("command: [a]\ntemplate: [a]", "job.yaml:7:3: spec.template: must be an object, got a list"),
        ("trainer: {data: digits, steps: 5}", "job.yaml:6:3: spec.trainer.model: is required"),
        ("workers: 3", "job.yaml:5:1: spec: exactly one of trainer and command must be set"),
        ("command: [a]\ncheckpoint: {storage: {size: 10 GB}}", "job.yaml:7:26: spec.checkpoint.storage.size: must "
         "be a quantity like 2, 500m or 10Gi, got '10 GB'"),
        ("command: [a]\ntemplate: {spec: {nodeSelector: {kubernetes.io/arch: 5}}}",
         'job.yaml:7:36: spec.template.spec.nodeSelector[kubernetes.io/arch]: must be text, got 5; '
         'put it in quotes: "5"'),
        ("trainer: {model: {mlp: {}}, data: digits, steps: 5}\nworkers: 3",
         "job.yaml:5:1: spec: trainer.globalBatchSize must be a multiple of workers x processesPerWorker x "
         "trainer.accumulationSteps: 64 is not a multiple of 3"),
    ],
)  # fmt: skip
def test_a_problem_is_said_in_plain_words(spec: str, said: str) -> None:
    assert problem_of(spec) == said


def test_a_long_value_is_cut() -> None:
    problem = problem_of(f"command: [a]\ncheckpoint: {{retention: {'x' * 5000}}}")
    assert len(problem) < 200


def test_of_another_kind_only_that_is_said() -> None:
    assert problems_of("apiVersion: batch/v1\nkind: Job\nspec: {parallelism: 3}\n") == [
        'job.yaml:1:1: apiVersion: must be rowlock.dev/v1alpha1, got "batch/v1"',
        'job.yaml:2:1: kind: must be DistributedTrainingJob, got "Job"',
    ]


def test_a_missing_kind_is_said() -> None:
    assert problems_of("apiVersion: rowlock.dev/v1alpha1\n") == [
        "job.yaml:1:1: kind: must be DistributedTrainingJob, is missing"
    ]


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words\n", "5\n"])
def test_what_is_no_object_is_refused(text: str) -> None:
    (problem,) = problems_of(text)
    assert problem.startswith("job.yaml:1:1: a DistributedTrainingJob is expected")


def test_what_the_cluster_adds_to_an_object_does_not_disturb() -> None:
    """So that `kubectl get -o yaml` can be run on a laptop."""
    manifest = command_job()
    manifest["metadata"] |= {"uid": "1", "resourceVersion": "5", "managedFields": [{}], "ownerReferences": []}
    manifest["status"] = {"phase": "Running"}
    assert parse_manifest(json.dumps(manifest).encode(), "job.json").status.phase == "Running"


# --- files --------------------------------------------------------------------------------------------


def refusal(path: Path) -> str:
    with pytest.raises(ManifestError) as caught:
        load_manifest(path)
    return str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "job.yaml") == f"{tmp_path}/job.yaml: no such file"


def test_a_directory_is_no_manifest(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path}: is a directory: name the manifest in it"


def test_an_unreadable_file_is_named() -> None:
    # The first page of a process's memory: nobody can read it, not even root.
    assert refusal(Path("/proc/self/mem")) == "/proc/self/mem: cannot be read: Input/output error"


def test_what_is_no_path_at_all_is_named(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 5000)
    assert refusal(path) == f"{path}: cannot be read: File name too long"


def test_a_huge_file_is_refused_without_reading_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    with path.open("wb") as file:
        file.truncate(10 * 2**30)  # sparse: takes no room
    assert "larger than 1024 KiB" in refusal(path)


# --- whatever comes -----------------------------------------------------------------------------------


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_nothing_but_a_manifest_error_comes_out_of_any_bytes(data: bytes) -> None:
    with pytest.raises(ManifestError):
        parse_manifest(data, "job.yaml")


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = st.sampled_from(["workers", "trainer", "command", "template", "checkpoint", "recovery", "image", "odd"])


@given(st.dictionaries(_FIELDS, _VALUES, max_size=4))
def test_any_json_below_spec_is_read_or_refused_with_a_place(spec: dict[str, object]) -> None:
    manifest = command_job() | {"spec": spec}
    try:
        parse_manifest(json.dumps(manifest, indent=1).encode(), "job.json")
        problems: tuple[Problem, ...] = ()
    except ManifestError as error:
        problems = error.problems
    assert all(problem.position is not None for problem in problems)
