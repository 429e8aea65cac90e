"""Help and complaints of the command line in both languages, from the catalogue."""

from __future__ import annotations

import subprocess
import sys

import pytest

from app.cli import _environment_language as environment_language
from app.cli import build_parser
from app.help_texts import language_asked, speaking, texts_of
from i18n.catalogue import Catalogue


def test_every_text_of_the_parser_is_in_the_catalogue():
    """Whoever adds a flag adds its Arabic, and a text changed in one place only is found."""
    table = Catalogue().table("en")
    known = {text for key, text in table.items() if key.startswith("help.")}
    found = texts_of(build_parser())
    assert found - known == set()
    assert len(found) > 90


def test_another_language_lasts_no_longer_than_the_block():
    """A parser made afterwards speaks English again."""
    with speaking(build_parser(), "ar"):
        pass
    assert texts_of(build_parser()) <= set(Catalogue().table("en").values())


def said(*arguments, language="ar"):
    """Run the command as a process of its own; returns what it writes."""
    command = [sys.executable, "-m", "app", *arguments]
    environment = {"LANG": "ar_SA.UTF-8" if language == "ar" else "C.UTF-8", "PYTHONIOENCODING": "utf-8",
                   "PATH": "/usr/bin:/bin"}  # fmt: skip
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, encoding="utf-8"
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        (("--help",), 0, "افتح الصفحة"),
        (("history", "prune", "--help"), 0, "وبدونه تُسرد فقط"),
        (("encryption", "on", "--help"), 0, "الاستعمال: "),
        (("serve", "--port", "x"), 2, "قيمة غير صالحة"),
        (("serve", "--nothing"), 2, "وسائط غير معروفة"),
        (("nothing",), 2, "اختيار غير صالح"),
        (("ask",), 2, "هذه الوسائط مطلوبة"),
        (("history", "log", "--since", "now"), 2, "المتوقّع تاريخ بصيغة 2026-01-31، والموجود 'now'"),
        (("history", "prune", "--older-than", "x"), 2, "المتوقّع عدد أيام لا يقل عن 1"),
        (("volume", "in", "out.png"), 2, "المتوقّع اسم ينتهي بـ .nii"),
        (("render", "in", "out.nii"), 2, "المتوقّع اسم ينتهي بـ .png"),
        (("render", "in", "out.png", "--window", "40,0"), 2, "المتوقّع مركز وعرض أكبر من 0"),
        (("render", "in", "out.png", "--window", "nan,1"), 2, "المتوقّع مركز وعرض أكبر من 0"),
        (("ask", "in", " "), 2, "المتوقّع سؤال"),
        (("serve", "--port", "70000"), 1, "0-65535"),
        (("render", "in", "out.png", "--region", "1,2"), 2, "المتوقّع أعداد تفصل بينها فواصل، عددها 4"),
    ],
)
def test_arabic_help_and_complaints(arguments, status, expected):
    """On an Arabic terminal nothing of the program's own words is English."""
    returned, text = said(*arguments)
    assert returned == status
    assert expected in text
    for english in ("usage:", "options", "show this help", "error:", "positional", "required", "expected"):
        assert english not in text.replace("[options]", "")


def test_the_flag_counts_before_anything_is_parsed():
    """``--language`` anywhere decides, also in a line that is wrong; English stays English."""
    assert language_asked(["serve", "--language", "ar"], "en") == "ar"
    assert language_asked(["--language=en"], "ar") == "en"
    assert language_asked(["--language"], "ar") == "ar"
    assert language_asked(["--language", "de"], "en") == "en"
    assert "usage:" in said("--help", language="en")[1]
    assert "الاستعمال" in said("serve", "--help", "--language", "ar", language="en")[1]


def test_the_setting_in_the_environment_counts_before_anything_is_parsed(monkeypatch):
    """It is above the terminal's language; what it cannot be leaves that."""
    for terminal, setting, expected in (("C", "ar", "ar"), ("ar_SA", "en", "en"), ("ar_SA", "x", "ar")):
        monkeypatch.setenv("LC_ALL", terminal)
        monkeypatch.setenv("BIMEDIX2_LANGUAGE", setting)
        assert environment_language() == expected
