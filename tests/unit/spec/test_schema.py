from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from dataset_tasks.spec.schema import json_schema, seconds

GOLDEN = Path(__file__).parent / "golden" / "every_step.yaml"


@pytest.fixture
def validator():
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(json_schema())
    return jsonschema.Draft202012Validator(json_schema())


def test_the_json_schema_takes_what_the_loader_takes(validator):
    assert list(validator.iter_errors(yaml.safe_load(GOLDEN.read_text()))) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("snyc", {}),
        ("retries", -1),
        ("inputs", 3),
        ("publish", "prod"),
        ("timeout", 30),
        ("verify", "fast"),
        ("remove", [1]),
    ],
)
def test_the_json_schema_refuses_what_the_loader_refuses(validator, key, value):
    document = yaml.safe_load(GOLDEN.read_text())
    document["datasets"]["raw"][key] = value

    assert list(validator.iter_errors(document)) != []


@pytest.mark.parametrize(
    ("text", "found"),
    [("30s", 30), ("15m", 900), ("6h", 21600), ("1d", 86400), ("2w", 1209600), ("1h30m", 5400), ("0.5s", 0.5)],
)
def test_durations_are_read_in_seconds(text, found):
    assert seconds(text) == found


@pytest.mark.parametrize("text", ["30", "", "h", "-1h", "1 h", "1y", 30, None])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="expected a duration such as"):
        seconds(text)
