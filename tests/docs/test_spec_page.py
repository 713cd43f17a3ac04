"""The reference of the spec says what the schema and the rules say."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from dataset_tasks.errors import SpecError
from dataset_tasks.spec import rules, schema
from dataset_tasks.spec.compiler import compile_spec
from dataset_tasks.spec.document import MAX_BYTES, MAX_DEPTH, MAX_NODES

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "spec.md").read_text(encoding="utf-8")


def test_the_tables_are_those_of_the_schema():
    found = importlib.util.spec_from_file_location("spec_reference", ROOT / "scripts" / "spec_reference.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)

    assert module.page(PAGE) == PAGE, "run scripts/spec_reference.py"


def test_every_mapping_of_the_schema_has_a_table():
    models = [
        held
        for held in vars(schema).values()
        if isinstance(held, type) and issubclass(held, BaseModel) and held not in (BaseModel, schema.Part)
    ]

    assert [model.__name__ for model in models if f"<!-- keys of {model.__name__} -->" not in PAGE] == []


def test_every_link_leads_to_a_heading():
    headings = {
        re.sub(r"[^a-z -]", "", line.lstrip("# ").lower()).strip().replace(" ", "-")
        for line in PAGE.splitlines()
        if line.startswith("#")
    }

    assert set(re.findall(r"\(#([\w-]+)\)", PAGE)) <= headings


def test_the_spec_on_the_page_has_no_problem(tmp_path):
    (block,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    (tmp_path / "shop.yaml").write_text(block)

    plan = compile_spec(tmp_path / "shop.yaml", environ={})

    assert [dataset.key for dataset in plan.datasets] == ["orders", "totals", "archive"]


def test_what_squash_leaves_no_room_for_is_named():
    (sentence,) = re.findall(r"`squash` takes whole versions and leaves no room for (.*?)\.\n", PAGE, re.DOTALL)

    assert set(re.findall(r"`(\w+)`", sentence)) == set(rules.NOT_WITH_SQUASH)


def test_the_limits_are_the_ones_that_hold():
    assert (MAX_BYTES, MAX_DEPTH, MAX_NODES) == (8 * 2**20, 40, 10**6)
    assert "at most 8 MiB, 40 levels and a million values" in " ".join(PAGE.split())


@pytest.mark.parametrize("text", ["1.10", "0123", "*.csv", "@x", "%x", "!x", "{x: ${params.x}}"])
def test_what_must_be_quoted_is_a_problem_when_it_is_not(text, tmp_path):
    spec = tmp_path / "s.yaml"
    head = "version: 1\nname: n\nproject: p\nparams: {x: {default: a}}\ndatasets:\n  d:\n    previous: true\n"
    spec.write_text(f"{head}    metadata: {{a: {text}}}\n    tags: [{text}]\n")

    with pytest.raises(SpecError, match="quote"):
        compile_spec(spec)
