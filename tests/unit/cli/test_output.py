"""What may reach a terminal or a pipe, and how."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_tasks.cli.output import Output, shown
from dataset_tasks.cli.words import count, moment, seconds, size

from .conftest import Command


@given(st.text())
def test_nothing_that_moves_a_cursor_is_shown(text: str) -> None:
    safe = shown(text)
    assert not {unicodedata.category(c) for c in safe} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert not any(c in safe for c in "\x00\x07\x08\x1b\x7f\x9b\r\n\u202e\u2066\u2028")


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_plain_text_is_shown_as_it_is(text: str) -> None:
    assert shown(text) == text


def test_letters_of_any_script_are_shown_as_they_are() -> None:
    assert shown("Zürich/データ/مرحبا.csv") == "Zürich/データ/مرحبا.csv"


def test_a_surrogate_from_a_file_name_is_escaped() -> None:
    assert shown(os.fsdecode(b"a\xffb")) == "a\\udcffb"


def test_layout_is_kept_where_it_is_asked_for() -> None:
    assert shown("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"


def test_a_stream_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output(as_json=True)
    out.stream({"a": 1}, "items", ({"n": n} for n in range(3)))
    assert json.loads(capsys.readouterr().out) == {"a": 1, "items": [{"n": 0}, {"n": 1}, {"n": 2}]}
    out.stream({}, "items", ())
    assert json.loads(capsys.readouterr().out) == {"items": []}


def test_under_json_only_the_document_reaches_stdout_whoever_prints(capfd: pytest.CaptureFixture[str]) -> None:
    out = Output(as_json=True)
    with out.guarded():
        print("printed")
        os.write(1, b"written\n")
        subprocess.run([sys.executable, "-c", "print('by a child')"], check=True)
        out.document({"a": 1})
    print("after")
    seen = capfd.readouterr()
    assert seen.out == '{\n  "a": 1\n}\nafter\n'
    assert sorted(seen.err.splitlines()) == ["by a child", "printed", "written"]


def test_without_json_what_is_printed_stays_where_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    with Output().guarded():
        print("printed")
    assert capfd.readouterr().out == "printed\n"


def test_markup_in_names_is_no_markup(call: Command, done: Command, data: Path) -> None:
    (data / "[red]x.txt").write_text("x")
    (data / "e\x1b[31mvil").write_text("x")
    done("build", "demo/raw", "--sync", data, "--description", "[bold]raw[/bold]\x1b[2J")
    assert done("ls", "demo/raw@latest").lines[:2] == ["[red]x.txt", "a.txt"]
    assert "e\\x1b[31mvil" in done("ls", "demo/raw@latest").lines
    assert "[bold]raw[/bold]\\x1b[2J" in done("log", "demo/raw").out
    assert "\x1b" not in call("list", "x/[red]y").err


def test_quantities_read_well() -> None:
    assert [size(n) for n in (0, 999, 1000, 12_345_678, 999_960, 5 * 10**17)] == [
        "0 B", "999 B", "1.0 kB", "12.3 MB", "1.0 MB", "500.0 PB",
    ]  # fmt: skip
    assert [count(n, "file") for n in (0, 1, 1200)] == ["0 files", "1 file", "1,200 files"]
    assert [seconds(n) for n in (0.04, 59.9, 61, 3700)] == ["0.0 s", "59.9 s", "1 min 1 s", "1 h 1 min"]
    assert moment(None) == ""
