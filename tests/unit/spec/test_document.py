from __future__ import annotations

import pytest

from dataset_tasks.spec import document
from dataset_tasks.spec.document import Map, read_document
from dataset_tasks.spec.problems import Problems


def read(text):
    """The value and the problems of a YAML text."""
    problems = Problems("s")
    found = read_document(text.encode() if isinstance(text, str) else text, problems)
    return (found.root if found else None), [str(problem) for problem in problems.found]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True), ("false", False), ("True", "True"), ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"),
        ("NO", "NO"), ("y", "y"), ("null", None), ("~", None), ("1", 1), ("-7", -7), ("+7", 7), ("0", 0), ("1.10", 1.1),
        (".5", 0.5), ("1e3", 1000.0), ("1e-3", 0.001), ("0x1F", 31), ("0o17", 15), ("12:30:45", "12:30:45"),
        ("2013-01-01", "2013-01-01"), ("1_000", "1_000"), ("0b11", "0b11"), ("1.0.3", "1.0.3"), ("-", "-"), ("+", "+"),
        (".", "."), ("=", "="), ("6h", "6h"), ("0 6 * * *", "0 6 * * *"), ("'1'", "1"), ('"true"', "true"), ("''", ""),
        ("'0123'", "0123"),
    ],
)  # fmt: skip
def test_plain_scalars_are_read_by_the_core_rules_of_yaml_1_2(text, value):
    found, problems = read(f"- {text}" if text == "-" else f"a: {text}")
    if text == "-":
        return
    assert found == {"a": value}
    assert type(found["a"]) is type(value)
    assert problems == []


@pytest.mark.parametrize("text", ["0123", "-007", ".inf", "-.inf", ".nan", "1e999", "9" * 19])
def test_numbers_that_readers_differ_on_or_json_lacks_are_to_be_quoted(text):
    _, problems = read(f"a: {text}")

    assert len(problems) == 1
    assert problems[0].startswith("s:1:4: a: ")
    assert f'quote it: "{text}"' in problems[0]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: 2\na: 3", "s:3:1: the key 'a' stands twice, first in line 1; take one of them out"),
        ("x: {a: 1,\n  'a': 2}", "s:2:3: x: the key 'a' stands twice, first in line 1; take one of them out"),
        ("b: &b {c: 1}\na: {<<: *b}", "s:2:5: a: merge keys are not read; write the keys out"),
        ("a: !!python/name:os.system x", "s:1:4: a: tags such as !!python/name:os.system are not read"),
        ("a: !foo {}", "s:1:4: a: tags such as !foo are not read"),
        ("a: !!str 1", "s:1:4: a: tags such as !!str are not read"),
        ("1: x", 's:1:1: the key 1 is not text; quote it: "1"'),
        ("true: x", 's:1:1: the key true is not text; quote it: "true"'),
        ("? [a]\n: b", "s:1:3: a key must be text"),
        ("? {a: b}\n: c", "s:1:3: a key must be text"),
        ("a: &r {p: [*r]}", "s:1:12: a.p[0]: *r refers to itself"),
        ("a: *x", "s:1:4: a: no anchor &x stands above; if it is meant as text, quote it"),
        ("--- 1\n--- 2", "s:2:1: a second document starts here; a file holds one"),
        ("", "s:1:1: the file is empty"),
        ("# only this", "s:1:1: the file is empty"),
        ("a: [*.tmp]", "s:1:6: YAML can't read this"),
        ("a: *.csv", 'quote text that starts with *, such as "*.csv"'),
        ("remove: [ok, **/tmp/*]", 'quote text that starts with *, such as "*.csv"'),
        ("a: [@latest]", ('s:1:5: YAML can\'t read this: found character that cannot start any token; quote text that '
         'starts with @, such as "@latest"')),
        ("a: {c: ${x}}", ('s:1:9: YAML can\'t read this: did not find expected \',\' or \'}\'; a placeholder inside '
         'braces or brackets must be quoted: "${...}"')),
        ("a: [${x}, b]", 'a placeholder inside braces or brackets must be quoted: "${...}"'),
        ("a:\n\t- x", "indent with spaces, not tabs"),
        ("a: %foo", "quote text that starts with %"),
        ("a: 'open", "YAML can't read this"),
        ("a: \x01", "control characters are not allowed"),
    ],
)  # fmt: skip
def test_what_is_refused_says_where_and_what_to_do(text, problem):
    _, problems = read(text)

    assert len(problems) == 1
    assert problem in problems[0]


def test_all_problems_of_a_text_that_yaml_can_read_are_found():
    _, problems = read("a: 0123\na: 1\nb: !x 1\n2: c")

    assert [problem.split(": ")[0] for problem in problems] == ["s:1:4", "s:2:1", "s:3:4", "s:4:1"]


def test_an_alias_repeats_what_it_names():
    found, problems = read("a: &x [1, {b: 2}]\nc: *x\nd: &y text\ne: *y")

    assert problems == []
    assert found == {"a": [1, {"b": 2}], "c": [1, {"b": 2}], "d": "text", "e": "text"}


def test_aliases_that_multiply_are_stopped_before_they_do():
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 8)]
    found, problems = read("\n".join(levels))

    assert found is None
    assert "aliases repeat more than 10,000 values" in problems[0]


def test_depth_is_limited_without_recursion():
    for text in ("[" * 5000, "{a: " * 5000, "- " * 5000 + "x"):
        found, problems = read(text)
        assert found is None
        assert problems[0].endswith("more than 40 levels deep")


def test_the_size_of_a_file_is_limited(monkeypatch):
    monkeypatch.setattr(document, "MAX_BYTES", 10)

    assert read("a: 1")[1] == []
    assert read("a: 12345678")[1] == ["s:1:1: the file has 11 bytes; at most 10 are read"]


def test_the_number_of_values_is_limited(monkeypatch):
    monkeypatch.setattr(document, "MAX_NODES", 5)

    assert read("[1, 2, 3, 4]")[1] == []
    assert read("[1, 2, 3, 4, 5]")[1] == ["s:1:14: [4]: more than 5 values"]


def test_bytes_that_are_not_utf_8_are_refused_where_they_stand():
    assert read(b"a: 1\nb: \xff")[1] == ["s:2:4: the file is not UTF-8 text"]


def test_a_byte_order_mark_is_no_part_of_the_text():
    assert read(b"\xef\xbb\xbfa: 1") == ({"a": 1}, [])


def test_places_are_counted_from_one_in_characters():
    problems = Problems("s")
    found = read_document("ä: {ö: [1, ü]}\nb:\n  - c: d".encode(), problems)

    assert found.locate(("ä", "ö", 1)) == ((1, 12), ("ä", "ö", 1), "ü")
    assert found.locate(("b", 0, "c"))[0] == (2 + 1, 8)
    assert found.locate(("b", 7))[1] == ("b",)
    assert isinstance(found.root, Map)
    assert found.root.keys_at == {"ä": (1, 1), "b": (2, 1)}


def test_an_item_keeps_its_number_when_one_before_it_was_taken_out():
    found = read_document(b"a: [x, y, z]", Problems("s"))
    found.root["a"].remove_item(1)

    assert found.locate(("a", 1)) == ((1, 11), ("a", 2), "z")
