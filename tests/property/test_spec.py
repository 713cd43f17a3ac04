"""Properties of the spec: no input breaks the reader, and what it accepts is what another reader sees."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import yaml
from hypothesis import given
from hypothesis import strategies as st

from dataset_tasks.errors import SpecError
from dataset_tasks.spec.compiler import compile_spec
from dataset_tasks.spec.document import Map, Seq, read_document
from dataset_tasks.spec.explain import explain
from dataset_tasks.spec.problems import Problems
from dataset_tasks.spec.sources import sorted_by_need

texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Cn", "Cf", "Zl", "Zp"]), max_size=12)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


def read(text):
    problems = Problems("s")
    found = read_document(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text, problems)
    return found, problems.found


@given(values)
def test_every_json_document_is_read_as_it_is(value):
    found, problems = read(json.dumps(value, ensure_ascii=False))

    assert problems == []
    assert found.root == value


words = texts.filter(
    lambda text: text[:1] not in "0123456789+-." or text == ""
)  # numbers are written another way in 1.1


@given(st.dictionaries(words, st.lists(words | st.booleans() | st.none()) | words, max_size=5))
def test_text_that_a_writer_of_yaml_1_1_leaves_plain_is_read_as_it_was_meant(value):
    found, problems = read(yaml.safe_dump(value, allow_unicode=True))

    assert problems == []
    assert found.root == value


@given(st.binary(max_size=200) | st.text("{}[]:,-&*!|>'\"%@`#? \n\tab1.${}~", max_size=60).map(str.encode))
def test_any_bytes_give_a_document_or_problems_and_nothing_else(data):
    found, problems = read(data)

    assert found is not None or problems
    for problem in problems:
        assert problem.line >= 1
        assert problem.column >= 1


@given(values)
def test_every_value_has_a_place_in_the_text(value):
    text = json.dumps({"top": value}, indent=1, ensure_ascii=False)
    found, _ = read(text)
    lines = text.split("\n")

    def look(here, path):
        (line, column), shown, held = found.locate(path)
        assert held == here
        assert shown == path
        if isinstance(here, str):
            assert lines[line - 1][column - 1] == '"'
        inner = here.items() if isinstance(here, Map) else enumerate(here) if isinstance(here, Seq) else ()
        for key, child in inner:
            look(child, (*path, key))

    look(found.root["top"], ("top",))


WORDS = ["a", "b", "c", "raw", "parents", "inputs", "transform", "call", "m:f", "x/y", "x/y@prod", "sync", "path", "1.10",
         "version", "name", "project", "datasets", "${run.date}", "${params.x}", "publish", "alias", "verify", "squash", ""]  # fmt: skip
shapes = st.recursive(
    st.sampled_from([*WORDS, 1, 2.5, True, None]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=12,
)
KEYS = ["parents", "inputs", "previous", "add", "external", "sync", "remove", "transform", "squash", "upload", "check", "verify",
        "publish", "partition", "keep", "retries", "timeout", "granularity", "airflow", "tags", "metadata", "store", "name"]  # fmt: skip


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "c", "D"]), st.dictionaries(st.sampled_from(KEYS), shapes, max_size=4) | shapes
    ),
    shapes,
)
def test_any_shape_of_a_spec_compiles_or_is_refused_with_places(datasets, schedule):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.yaml"
        path.write_text(
            json.dumps({"version": 1, "name": "n", "project": "p", "schedule": schedule, "datasets": datasets})
        )
        problems = ()
        try:
            plan = compile_spec(path, environ={})
        except SpecError as error:
            problems = error.problems

        if not problems:
            assert json.loads(explain(plan, "json"))["name"] == "n"
        assert all(problem.startswith(f"{path}:1:") for problem in problems)


graphs = st.integers(1, 12).flatmap(
    lambda size: st.lists(st.lists(st.integers(0, size - 1), max_size=4), min_size=size, max_size=size)
)


@given(graphs)
def test_an_order_of_need_is_one_and_cycles_are_cycles(edges):
    needs = {str(node): [str(held) for held in below] for node, below in enumerate(edges)}

    order, cycles = sorted_by_need(needs)

    assert sorted(order) == sorted(needs)
    for cycle in cycles:
        assert all(after in needs[here] for here, after in zip(cycle, [*cycle[1:], cycle[0]], strict=True))
    if not cycles:
        seen = set()
        for key in order:
            assert seen.issuperset(needs[key])
            seen.add(key)
    members = [member for cycle in cycles for member in cycle]
    assert len(members) == len(set(members))


@given(graphs.map(lambda edges: [[held for held in below if held < node] for node, below in enumerate(edges)]))
def test_without_a_way_back_there_is_no_cycle(edges):
    assert sorted_by_need({str(node): [str(held) for held in below] for node, below in enumerate(edges)})[1] == []


DATASET = {
    "parents": '["x/y"]', "inputs": '["x/z"]', "transform": '{"call": "m:f"}', "remove": '"a"', "verify": "true",
    "publish": "true", "tags": '["t"]', "check": '{"min_files": 1}', "retries": "2", "granularity": '"operation"',
}  # fmt: skip


@given(
    st.sets(st.sampled_from(sorted(DATASET))).filter(lambda keys: "inputs" not in keys or "transform" in keys),
    st.randoms(),
)
def test_the_order_of_keys_means_nothing(keys, random):
    shuffled = sorted(keys)
    random.shuffle(shuffled)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.yaml"

        def compiled(order):
            body = "".join(f', "{key}": {DATASET[key]}' for key in order)
            head = '"version": 1, "name": "n", "project": "p"'
            path.write_text(f'{{{head}, "datasets": {{"d": {{"previous": true{body}}}}}}}')
            return compile_spec(path, environ={}).steps

        assert compiled(sorted(keys)) == compiled(shuffled)
