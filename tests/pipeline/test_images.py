"""The images: what their files and their entry point promise. What a container does: test_container.py."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from retrace import environment
from retrace.documents.provenance import Images
from retrace.errors import UserError
from retrace.files import read_json
from retrace.provenance.run_log import journal
from retrace.report.made_from import origin
from tests.support.fixtures_documents import provenance
from tests.support.projects import ROOT

DOCKERFILES = ("Dockerfile.cpu", "Dockerfile.cuda")
LOCK = ROOT / "requirements" / "runtime.txt"
WITH_PYTHON = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # as in an activated environment
BAKED = ("RETRACE_IMAGE", "RETRACE_LOCK_SHA256", "RETRACE_GIT_REVISION")


def instructions(name):
    """[(instruction, its text)] of a Dockerfile, continued lines joined, comments left out."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_base_image_is_pinned_by_tag_with_a_digest_argument(name):
    parts = instructions(name)
    assert ("ARG", "PYTHON_VERSION=3.11") in parts
    assert ("ARG", "PYTHON_IMAGE=python:${PYTHON_VERSION}-slim-bookworm") in parts
    bases = [text.split(" AS ")[0] for word, text in parts if word == "FROM"]
    assert set(bases) == {"${PYTHON_IMAGE}${PYTHON_DIGEST}", "tools"}


@pytest.mark.parametrize("name", DOCKERFILES)
def test_what_changes_with_every_commit_is_the_last_layer(name):
    parts = instructions(name)
    words = [word for word, _ in parts]
    last_work = max(index for index, word in enumerate(words) if word in ("RUN", "COPY", "FROM", "WORKDIR"))
    for variable in BAKED:
        declared = [i for i, (word, text) in enumerate(parts) if word == "ARG" and text.startswith(f"{variable}=")]
        used = [i for i, (word, text) in enumerate(parts) if word == "ENV" and f"{variable}=${{{variable}}}" in text]
        assert len(declared) == len(used) == 1 and used[0] > declared[0] > last_work, variable
    # the lock itself comes into the last stage after every slow step of it
    slow = max(i for i, (word, text) in enumerate(parts) if word == "RUN" or "--from=build" in text)
    assert next(i for i, (word, text) in enumerate(parts) if "/retrace/runtime.txt" in text) > slow


@pytest.mark.parametrize("name", DOCKERFILES)
def test_pip_installs_uv_by_hash_and_uv_the_rest(name):
    text = " ".join(text for word, text in instructions(name) if word == "RUN")
    (tools,) = re.findall(r"pip install ([^&;]*)", text)
    assert {"--no-deps", "--require-hashes", "--only-binary"} <= set(tools.split()) and "tools.txt" in tools
    assert re.findall(r"install\.py (\w+) /lock", text) == ["torch", "locks"]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_torch_has_a_layer_of_its_own_that_another_pin_leaves_alone(name):
    steps = [text for word, text in instructions(name) if word == "RUN" and "install.py" in text and "/lock" in text]
    _split, torch, rest = steps
    mounted = [re.findall(r"from=(\w+),source=(\S+?),", text) for text in (torch, rest)]
    assert mounted == [[("tools", "/tools"), ("lock", part)] for part in ("/lock/torch", "/lock/rest.txt")]
    stages = re.split(r"^FROM .*$", (ROOT / name).read_text(), flags=re.M)
    assert "runtime.txt" not in stages[1] and "runtime.txt" in stages[2]  # the tools do not depend on the lock
    before = stages[3][: stages[3].index("/lock/torch")]
    assert "COPY" not in before and all("type=cache" in text for text in (torch, rest))


@pytest.mark.parametrize("name", DOCKERFILES)
def test_image_states_what_it_is(name):
    (labels,) = (text for word, text in instructions(name) if word == "LABEL")
    for key in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{key}=" in labels
    if name.endswith("cuda"):
        assert all(f'retrace.{key}="${{{key.upper()}}}"' in labels for key in ("cuda", "cudnn", "nccl"))
        text = (ROOT / name).read_text()
        assert "NVIDIA_VISIBLE_DEVICES=all" in text and "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in text


def make(*arguments):
    return subprocess.run(["make", "-n", *arguments], cwd=ROOT, text=True, capture_output=True)


def test_make_passes_the_cuda_line_and_the_versions_of_its_libraries():
    locked = environment.pins(LOCK)
    default, older, own = (
        make("image-cuda", *more).stdout for more in ([], ["CUDA=12.6"], ["CUDA=12.6", "TORCH_INDEX_URL=x"])
    )
    assert f"CUDNN{str(locked['nvidia-cudnn-cu13'].specifier)[1:]} " in default
    assert f"NCCL{str(locked['nvidia-nccl-cu13'].specifier)[1:]} " in default and "TORCH_INDEX_URL" not in default
    assert "retrace:cuda " in default and "retrace:cuda-12.6 " in older and "CUDNN" not in older
    assert "CUDA=12.6 --build-arg TORCH_INDEX_URL=https://download.pytorch.org/whl/cu126 " in older
    assert "CUDA=12.6 --build-arg TORCH_INDEX_URL=x " in own
    refused = make("image-cuda", "CUDA=11.8")
    assert refused.returncode and "allowed: 13.0" in refused.stderr
    assert "--build-arg TORCH_INDEX_URL= " in make("image-cpu", "TORCH_INDEX_URL=").stdout
    assert "TORCH_INDEX_URL" not in make("image-cpu").stdout


@pytest.mark.parametrize("name", DOCKERFILES)
def test_runs_without_root_and_with_signals_passed_on(name):
    parts = instructions(name)
    assert ("USER", "1000:1000") in parts and ("STOPSIGNAL", "SIGINT") in parts
    assert parts[-2:] == [("ENTRYPOINT", '["tini", "-g", "--", "entrypoint"]'), ("CMD", '["dvc", "repro"]')]


def test_build_context_is_what_the_dockerfiles_copy_and_nothing_else():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert patterns[0] == "*"  # everything out: data, caches, .git, results
    allowed = {pattern.removeprefix("!") for pattern in patterns[1:]}
    copied = [
        source
        for name in DOCKERFILES
        for word, text in instructions(name)
        if word == "COPY" and not text.startswith("--from=")
        for source in text.split()[:-1]
    ]
    assert all((ROOT / source).is_file() for source in copied)
    assert {source.split("/")[0] for source in copied} == allowed == {"requirements", "docker"}


def docker_lines(text):
    """The `docker run` commands of a Markdown file, continued lines joined."""
    joined = re.sub(r"\\\n\s*", "", text)
    return [line.split("  #")[0].rstrip() for line in joined.splitlines() if line.startswith("docker run --rm ")]


def test_readme_has_the_lines_of_the_containers_page():
    ours, page = (docker_lines((ROOT / name).read_text()) for name in ("README.md", "docs/containers.md"))
    assert ours and set(ours) <= set(page)
    for wanted in (
        " --gpus all ",
        " --shm-size ",
        " --network none ",
        ":/work/.dvc/cache ",
        "dvc exp run ",
        "retrace:cpu",
    ):
        assert any(wanted in line for line in page), wanted
    assert all(' --user "$(id -u):$(id -g)" ' in line and ' -v "$PWD":/work ' in line for line in ours)


def entrypoint(*command, cwd="/", **env):
    env = {"PATH": WITH_PYTHON, "RETRACE_LOCK_SHA256": "0" * 64, "HOME": "/nonexistent", **env}
    script = ["sh", str(ROOT / "docker" / "entrypoint.sh"), *command]
    return subprocess.run(script, env=env, text=True, capture_output=True, cwd=cwd, stdin=subprocess.DEVNULL)


def test_entrypoint_gives_a_writable_home_and_passes_arguments_and_exit_code_on(tmp_path):
    result = entrypoint("sh", "-c", 'touch "$HOME/x" && echo "$1|$2" && exit 7', "-", "a b", "c", TMPDIR=str(tmp_path))
    assert (result.returncode, result.stdout) == (7, "a b|c\n"), result.stderr
    assert list(tmp_path.glob("home.*/x"))
    kept = entrypoint("sh", "-c", 'echo "$HOME"', HOME=str(tmp_path))
    assert kept.stdout.strip() == str(tmp_path)


def test_entrypoint_says_what_a_read_only_container_lacks(tmp_path):
    result = entrypoint("true", TMPDIR=str(tmp_path / "missing"))
    assert result.returncode == 1 and "--tmpfs /tmp:exec" in result.stderr


def test_entrypoint_takes_its_own_flag_only(tmp_path):
    show = ("sh", "-c", 'echo "${RETRACE_ALLOW_UNPINNED:-no} $*"', "-")
    assert entrypoint("--allow-unpinned", *show, "x", HOME=str(tmp_path)).stdout == "1 x\n"
    assert entrypoint(*show, "--allow-unpinned", HOME=str(tmp_path)).stdout == "no --allow-unpinned\n"


def programs(folder, *names):
    """PATH with programs of these names that only say that they ran."""
    for name in names:
        (folder / name).write_text("#!/bin/sh\necho ran\n")
        (folder / name).chmod(0o755)
    return f"{folder}{os.pathsep}{WITH_PYTHON}"


REFUSED = (
    *("dvc repro", "dvc exp run -n x", "dvc -q repro", "python -m dvc repro", "sh -c 'dvc repro rebalance'"),
    *("make repro", "./script", "retrace ablate", "bash -lc x"),
)
ALLOWED = ("retrace doctor", "git status", "git", "sh", "bash")


@pytest.mark.parametrize("command", [*REFUSED, *ALLOWED])
def test_entrypoint_checks_the_lock_before_any_command_that_may_end_in_dvc(tmp_path, command):
    words = shlex.split(command)
    (tmp_path / "bin").mkdir()
    (tmp_path / "script").symlink_to(tmp_path / "bin" / "script")
    checker = {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    (tmp_path / "retrace").symlink_to(ROOT / "retrace")  # the project has another lock than the image: none
    path = programs(tmp_path / "bin", *({Path(words[0]).name} - {"python", "sh"}))
    done = entrypoint(*words, cwd=tmp_path, PATH=path, **checker)
    if command in ALLOWED:
        assert done.returncode == 0 and (done.stdout == "ran\n" or command == "sh")
        assert ("built from another" in done.stderr) == (command in ("sh", "bash"))
    else:
        assert (done.returncode, done.stdout) == (1, "") and "built from another" in done.stderr
    allowed = entrypoint("--allow-unpinned", *words, cwd=tmp_path, PATH=path, **checker)
    assert "built from another" not in allowed.stderr


@pytest.mark.parametrize("command", [("dvc", "queue", "start", "-j", "2"), ("dvc", "-q", "queue", "start")])
def test_entrypoint_says_what_runs_the_queue_in_a_container(tmp_path, command):
    path = programs(tmp_path, "dvc")
    done = entrypoint(*command, HOME=str(tmp_path), PATH=path)
    assert (done.returncode, done.stdout) == (1, "") and len(done.stderr.splitlines()) == 1
    assert "dvc exp run --run-all" in done.stderr
    assert entrypoint("dvc", "queue", "status", HOME=str(tmp_path), PATH=path).stdout == "ran\n"


@pytest.fixture
def locked(tmp_path, monkeypatch):
    """A folder with a lock, inside an image that was built from another one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "runtime.txt").write_text("numpy==1.0\n")
    monkeypatch.setenv("RETRACE_LOCK_SHA256", "f" * 64)
    monkeypatch.setenv("RETRACE_IMAGE", "retrace:old")
    monkeypatch.setenv("RETRACE_GIT_REVISION", "")
    monkeypatch.delenv("RETRACE_ALLOW_UNPINNED", raising=False)
    return tmp_path


def test_another_lock_is_refused_in_one_message(locked):
    with pytest.raises(UserError, match=r"retrace:old.*ffffffffffff.*make image-cpu.*--allow-unpinned"):
        environment.require_matching_image()
    with pytest.raises(UserError), journal("lanes", "collect"):
        raise AssertionError("the stage ran")
    assert not (locked / "logs").exists()


def test_the_entry_point_refuses_without_a_traceback(locked):
    command = [sys.executable, "-m", "retrace.environment"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, env=env, text=True, capture_output=True)
    assert result.returncode == 1 and result.stderr.startswith("error: this image (retrace:old)")
    assert subprocess.run(command, env={**env, "RETRACE_ALLOW_UNPINNED": "1"}).returncode == 0


def test_an_image_whose_entry_point_is_bypassed_is_known_by_its_lock_file(locked, monkeypatch):
    monkeypatch.setenv("RETRACE_LOCK_SHA256", "")
    monkeypatch.setattr(environment, "IMAGE_LOCK", locked / "baked.txt")
    assert environment.describe_image() is None
    (locked / "baked.txt").write_text("numpy==0.9\n")
    with pytest.raises(UserError, match="was built from another"):
        environment.require_matching_image()
    shutil.copyfile(environment.LOCK, locked / "baked.txt")
    assert environment.describe_image().unpinned is False
    for name in DOCKERFILES:
        assert any(text.endswith(" /usr/local/share/retrace/runtime.txt") for _, text in instructions(name))


def test_the_same_lock_or_no_image_passes(locked, monkeypatch):
    monkeypatch.setenv("RETRACE_LOCK_SHA256", environment.lock_hash() or "")
    environment.require_matching_image()
    assert environment.describe_image().unpinned is False
    monkeypatch.delenv("RETRACE_LOCK_SHA256")
    environment.require_matching_image()
    assert environment.describe_image() is None


def test_allow_unpinned_is_recorded_by_every_step_and_shown_in_the_report(locked, monkeypatch):
    monkeypatch.setenv("RETRACE_ALLOW_UNPINNED", "1")
    with journal("lanes", "collect"):
        pass
    image = read_json(Path("logs/lanes/collect.json"))["image"]
    assert image == {"name": "retrace:old", "lock_sha256": "f" * 64, "git_revision": None, "unpinned": True}
    text = str(origin(None, provenance(image=Images(report=None, unpinned_steps=["collect"]))))
    assert "in these steps: collect" in text
    assert "--allow-unpinned" not in str(origin(None, provenance()))


def test_differences_name_what_is_not_as_locked(tmp_path):
    lock = tmp_path / "lock.txt"
    lines = LOCK.read_text()
    lock.write_text(f"no-such-package==1.0 \\\n    --hash=sha256:00\n{lines}")
    assert environment.differences(lock) == ["no-such-package: locked 1.0, installed nothing"]
    lock.write_text(re.sub(r"^numpy==\S+", "numpy==0.1", lines, flags=re.M))
    (line,) = environment.differences(lock)
    assert line.startswith("numpy: locked 0.1, installed ")
