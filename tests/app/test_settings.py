"""Settings: four places in order, types, and mistakes that name their place."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
from pathlib import Path

import pytest

import app.settings
from app.errors import SettingsError
from app.settings import Settings, load_settings


def test_each_place_overrides_the_one_before(tmp_path: Path) -> None:
    """Defaults, then file, then environment, then flags."""
    file = tmp_path / "settings.toml"
    file.write_text('port = 1\nhost = "a"\ndevice = "cpu"\n', encoding="utf-8")

    settings = load_settings(
        file=file, environment={"BIMEDIX2_PORT": "2", "BIMEDIX2_HOST": "b"}, flags={"port": 3, "host": None}
    )

    assert (settings.device, settings.host, settings.port) == ("cpu", "b", 3)
    assert settings.max_new_tokens == Settings().max_new_tokens


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("PORT", "8080", 8080),
        ("SECURE_COOKIES", "yes", True),
        ("SECURE_COOKIES", "0", False),
        ("DATA_FOLDER", "/tmp/x", Path("/tmp/x")),  # noqa: S108
        (
            "FRAME_ANCESTORS",
            "https://a.example https://b.example",
            ("https://a.example", "https://b.example"),
        ),
        ("TEMPERATURE", "0.1", 0.1),
        ("OWNERSHIP", "visitor", "visitor"),
    ],
)
def test_environment_values_get_the_type_of_their_field(name: str, text: str, value: object) -> None:
    """Strings of the environment become numbers, truth values, paths and lists."""
    settings = load_settings(environment={f"BIMEDIX2_{name}": text})

    assert getattr(settings, name.lower()) == value


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"BIMEDIX2_PROT": "1"}, "environment.*the name prot"),
        ({"BIMEDIX2_PORT": "many"}, "port = 'many'.*expected int"),
        ({"BIMEDIX2_SECURE_COOKIES": "maybe"}, "secure_cookies = 'maybe'.*expected bool"),
        ({"BIMEDIX2_OWNERSHIP": "all"}, "ownership = 'all'.*single or visitor"),
        ({"BIMEDIX2_CONFIG": "/nowhere.toml"}, "nowhere.toml.*readable TOML file"),
    ],
)
def test_a_mistake_is_named_with_its_place(environment: dict[str, str], message: str) -> None:
    """An unknown name, a wrong value or a missing file says where, what and what instead."""
    with pytest.raises(SettingsError, match=message):
        load_settings(environment=environment)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    """A file that is not TOML says so."""
    file = tmp_path / "settings.toml"
    file.write_text("port = ", encoding="utf-8")

    with pytest.raises(SettingsError, match=r"settings\.toml.*expected TOML"):
        load_settings(file=file, environment={})


def test_every_field_says_its_unit_and_reason() -> None:
    """A docstring stands under each field."""
    tree = ast.parse(inspect.getsource(app.settings))
    (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef))
    documented = [
        before.target.id  # type: ignore[union-attr]
        for before, after in itertools.pairwise(body)
        if isinstance(before, ast.AnnAssign) and isinstance(after, ast.Expr)
    ]

    assert documented == [field.name for field in dataclasses.fields(Settings)]


def test_the_data_folder_defaults_to_the_system_s_place() -> None:
    """Without a choice the folder is absolute and the application's own."""
    folder = load_settings(environment={}).folder

    assert folder.is_absolute()
    assert "bimedix2-workstation" in folder.parts
