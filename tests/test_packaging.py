"""What the project says of itself in several places agrees."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def lines_of(path: str) -> list[str]:
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_spaces_install_what_the_project_needs() -> None:
    """requirements.txt, the only file a Space installs from, lists the project's dependencies."""
    assert lines_of("requirements.txt") == PROJECT["project"]["dependencies"]


def test_spaces_run_the_pinned_gradio() -> None:
    """The README's front matter names a gradio the pin admits, and the file that starts the page."""
    front_matter = (ROOT / "README.md").read_text(encoding="utf-8").split("---")[1]
    (version,) = re.findall(r"sdk_version: (\S+)", front_matter)
    (start,) = re.findall(r"app_file: (\S+)", front_matter)
    (pin,) = (line for line in PROJECT["project"]["dependencies"] if line.startswith("gradio"))

    assert version.startswith(pin.removeprefix("gradio==").removesuffix("*"))
    assert (ROOT / start).is_file()


def test_constraints_pin_the_same_versions() -> None:
    """CPU and GPU machines differ in torch alone."""
    cpu, gpu = set(lines_of("constraints/cpu.txt")), set(lines_of("constraints/gpu.txt"))

    assert gpu < cpu
    assert all(line.startswith("torch==") for line in cpu - gpu)


def test_every_dependency_says_why_and_under_which_licence() -> None:
    """Beside each default dependency stand its licence and reason, and none is GPL."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = text.split("dependencies = [", 1)[1].split("\n]", 1)[0]
    for line in block.splitlines():
        if line.strip().startswith('"'):
            comment = line.partition("#")[2]
            assert ";" in comment, line
            assert not re.search(r"\bA?GPL", comment), line


def test_the_readme_tree_names_what_exists() -> None:
    """Every file and folder in the README's tree is there."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = readme.split("## What is where", 1)[1].split("```")[1]
    package = ""
    for line in tree.splitlines():
        if found := re.match(r"(\w+)/", line):
            package = found[1]
            assert (ROOT / package).is_dir()
        else:
            for name in re.findall(r"\b([\w-]+(?:/|\.py))", line.split("   ")[0] + line[2:40]):
                assert (ROOT / package / name).exists() or (ROOT / name).exists(), (package, name)


def test_every_make_target_is_written_out() -> None:
    """The README shows each target as plain commands, for machines without make."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    for command in (
        "bimedix2 serve",
        "-m pytest",
        "ruff check",
        "mypy",
        "lint-imports",
        "tests.benchmarks",
        "demo_model",
    ):
        assert command in readme
