"""The names, parameters, order and defaults of the reference API, written down by hand; what is more comes after, by name."""

from __future__ import annotations

import inspect
from inspect import Parameter

import pytest

from dataset_tasks import Dataset

REQUIRED = Parameter.empty

CLASS_METHODS = {
    "create": {
        "dataset_name": REQUIRED,
        "dataset_project": None,
        "parent_datasets": None,
        "use_current_task": False,
    },
    "delete": {"dataset_id": None, "dataset_project": None, "dataset_name": None, "force": False},
    "get": {
        "dataset_id": None,
        "dataset_project": None,
        "dataset_name": None,
        "dataset_tags": None,
        "only_completed": False,
        "only_published": False,
    },
    "list_datasets": {
        "dataset_project": None,
        "partial_name": None,
        "tags": None,
        "ids": None,
        "only_completed": True,
    },
    "squash": {
        "dataset_name": REQUIRED,
        "dataset_ids": None,
        "dataset_project_name_pairs": None,
        "output_url": None,
    },
}

METHODS = {
    "add_files": {
        "path": REQUIRED,
        "wildcard": None,
        "local_base_folder": None,
        "dataset_path": None,
        "recursive": True,
        "verbose": False,
    },
    "finalize": {"verbose": False, "raise_on_error": True},
    "get_default_storage": {},
    "get_dependency_graph": {},
    "get_local_copy": {"use_soft_links": None, "raise_on_error": True},
    "get_logger": {},
    "get_mutable_local_copy": {"target_folder": REQUIRED, "overwrite": False, "raise_on_error": True},
    "is_dirty": {},
    "is_final": {},
    "list_added_files": {"dataset_id": None},
    "list_files": {"dataset_path": None, "recursive": True, "dataset_id": None},
    "list_modified_files": {"dataset_id": None},
    "list_removed_files": {"dataset_id": None},
    "publish": {"raise_on_error": True},
    "remove_files": {"dataset_path": None, "recursive": True, "verbose": False},
    "sync_folder": {"local_path": REQUIRED, "dataset_path": None, "verbose": False},
    "upload": {"show_progress": True, "verbose": False, "output_url": None, "compression": None},
    "verify_dataset_hash": {"local_copy_path": None, "skip_hash": False, "verbose": False},
    # more than the reference, as today's reference client has them
    "add_tags": {"tags": REQUIRED},
    "remove_tags": {"tags": REQUIRED},
    "set_description": {"description": REQUIRED},
    "set_metadata": {"metadata": REQUIRED, "metadata_name": "metadata"},
    "get_metadata": {"metadata_name": "metadata"},
    "get_num_chunks": {"include_parents": True},
}

#: Keyword-only parameters that SEMANTICS promises beside the reference's.
EXTRAS = {
    "create": {"dataset_tags", "dataset_version", "output_uri", "description"},
    "add_files": {"max_workers", "on_error"},
    "sync_folder": {"wildcard", "exclude"},
    "upload": {"chunk_size", "max_workers", "retries", "preview"},
    "get": {"dataset_version", "as_of"},
    "get_local_copy": {"part", "num_parts", "files", "max_workers"},
    "get_mutable_local_copy": {"part", "num_parts", "files", "max_workers"},
}

PROPERTIES = {
    "file_entries_dict",
    "id",
    "name",
    "project",
    "version",
    "state",
    "tags",
    "description",
    "created",
    "parents",
}


def parameters(name: str) -> list[Parameter]:
    found = list(inspect.signature(getattr(Dataset, name)).parameters.values())
    return found[1:] if name in METHODS else found


@pytest.mark.parametrize("name", sorted(CLASS_METHODS | METHODS))
def test_names_order_and_defaults_are_those_of_the_reference(name):
    expected = (CLASS_METHODS | METHODS)[name]
    ordinary = [each for each in parameters(name) if each.kind is Parameter.POSITIONAL_OR_KEYWORD]
    assert [(each.name, each.default) for each in ordinary] == list(expected.items())


@pytest.mark.parametrize("name", sorted(CLASS_METHODS | METHODS))
def test_what_is_more_is_keyword_only_has_a_default_and_comes_after(name):
    more = parameters(name)[len((CLASS_METHODS | METHODS)[name]) :]
    assert all(each.kind is Parameter.KEYWORD_ONLY and each.default is not REQUIRED for each in more)
    assert {each.name for each in more} >= EXTRAS.get(name, set())


def test_class_methods_are_class_methods():
    assert [name for name in CLASS_METHODS if not inspect.ismethod(getattr(Dataset, name))] == []


def test_properties_are_read_only(draft):
    version = draft()
    for name in PROPERTIES:
        assert isinstance(inspect.getattr_static(Dataset, name), property), name
        with pytest.raises(AttributeError):
            setattr(version, name, "x")


def test_everything_public_says_what_it_does():
    public = [name for name in dir(Dataset) if not name.startswith("_")]
    assert [name for name in public if not inspect.getdoc(inspect.getattr_static(Dataset, name))] == []


def test_logger_methods_have_the_arguments_of_the_reference_client(draft):
    logger = draft().get_logger()
    expected = {
        "report_text": ["msg"],
        "report_scalar": ["title", "series", "value", "iteration"],
        "report_table": ["title", "series", "iteration", "table_plot"],
        "report_histogram": ["title", "series", "values", "iteration"],
        "report_image": ["title", "series", "iteration", "local_path"],
        "report_media": ["title", "series", "iteration", "local_path"],
    }
    for name, names in expected.items():
        found = inspect.signature(getattr(logger, name)).parameters.values()
        assert [each.name for each in found if each.kind is Parameter.POSITIONAL_OR_KEYWORD] == names, name
