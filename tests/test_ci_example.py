"""The workflow of docs/pytest.md in a driver's repository: its shell commands, in a virtual
environment where blkbox is installed, with the test of that page."""

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml

from tests.kit.faulty.workload import WORKLOAD, make_trace
from tests.kit.peers import PEER_ENV, need
from tests.kit.project import BAD, PLUGIN, Commit, project

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "pytest.md").read_text()
WORKFLOW = ROOT / "docs" / "examples" / "github-actions.yml"
SYSTEM = "sudo apt-get "


def block(language: str) -> str:
    """The first block of a language on the page."""
    found = re.search(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def steps() -> list[str]:
    """The shell commands of the workflow."""
    jobs = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    return [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]


def environment(folder: Path) -> dict[str, str]:
    """A virtual environment with blkbox, which takes all else from the one of the tests; the
    variables that activate it."""
    source, env = folder / "source", folder / "env"
    for name in ("blkbox", "tracer", "replay", "analysis", "docs/man"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", env], check=True)
    site = env / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    # a .pth file in a folder that a .pth file names is not read: an editable blkbox stays out
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(env / "bin" / "python")]
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--ignore-installed",
               "--no-compile"]  # fmt: skip
    subprocess.run([*pip, "install", *options, source], check=True)
    for name, script in {
        "pip": f'exec {" ".join(pip)} "$@"',
        "pytest": f'exec "{env}/bin/python" -m pytest "$@"',
    }.items():
        (env / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (env / "bin" / name).chmod(0o755)
    clean = {name: value for name, value in PEER_ENV.items() if not name.startswith("PYTHON")}
    return {**clean, "PATH": f"{env}/bin:{PEER_ENV['PATH']}", "PIP_NO_INDEX": "1"}


def run(step: str, folder: Path, variables: dict[str, str], code: int = 0) -> str:
    """Run a step as the runner does; return what it printed."""
    done = subprocess.run(
        ["bash", "-e", "-c", step],
        cwd=folder, env=variables, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == code, f"{step}\n{done.stdout}"
    return done.stdout


def test_the_page_shows_the_workflow() -> None:
    assert block("yaml") == WORKFLOW.read_text()
    assert block("sh").splitlines() == [step for step in steps() if step.startswith("pip")] + [
        step for step in steps() if step.startswith("pytest")
    ]


def test_what_the_workflow_installs_is_what_the_tests_need() -> None:
    [system] = [step for step in steps() if step.startswith(SYSTEM)]
    assert system.startswith("sudo apt-get update && sudo apt-get install --yes ")
    peers = re.search(r"^PEERS\s*:=(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert peers is not None
    assert set(system.partition("--yes ")[2].split()) <= set(peers[1].split())


def test_the_workflow_passes_a_good_build_and_keeps_the_page_of_a_bad_one(tmp_path: Path) -> None:
    need("git", "make", "bash", "python3", "nbdkit", "qemu-img")
    variables = environment(tmp_path)
    driver = tmp_path / "driver"
    project(driver, [Commit()])
    (driver / "tests" / "traces").mkdir(parents=True)
    (driver / "tests" / "test_driver.py").write_text(block("python"))
    make_trace(driver / "tests" / "traces" / "install.trace", WORKLOAD, payloads="hash")
    shell = [step for step in steps() if not step.startswith(SYSTEM)]
    said = [run(step, driver, variables) for step in shell]
    assert "1 passed" in said[-1]

    (driver / "plugin.py").write_text(PLUGIN.replace("{change}", BAD))
    *others, tests = shell
    for step in others:
        run(step, driver, variables)
    said = [run(tests, driver, variables, code=1)]
    assert "culprit:  #0 write" in said[-1]
    [page] = (driver / "failures").glob("*.html")
    assert "#0 write" in page.read_text()
    assert (
        '<property name="blkbox_verdict" value="damaged" />' in (driver / "blkbox.xml").read_text()
    )
