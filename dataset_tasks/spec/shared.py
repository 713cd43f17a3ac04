"""`dataset-tasks.yaml`: settings that the specs of a folder share, and profiles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Final

from dataset_tasks.nearest import did_you_mean
from dataset_tasks.spec import schema
from dataset_tasks.spec.document import Document, Map, read_document
from dataset_tasks.spec.problems import Problem, Problems
from dataset_tasks.spec.validate import read_model

FILE_NAME: Final = "dataset-tasks.yaml"


@dataclass(frozen=True, slots=True)
class Settings:
    """The shared settings and the profile that was chosen; both empty where there is no file."""

    shared: schema.Shared
    profile: schema.Profile
    profile_name: str = ""
    path: FilePath | None = None
    document: Document | None = None


def read_settings(folder: FilePath, profile: str, shown_spec: str) -> tuple[Settings, list[Problem]]:
    """Reads the nearest settings file of a folder.

    Args:
        folder: Where to begin to look; then upwards.
        profile: Name of the profile, empty for none.
        shown_spec: The spec as the reader calls it, for a problem that has no place in a settings file.

    Returns:
        The settings as far as they could be understood, and what is wrong with them.
    """
    path = next((held / FILE_NAME for held in (folder, *folder.parents) if (held / FILE_NAME).is_file()), None)
    if path is None:
        if not profile:
            return Settings(schema.Shared(), schema.Profile()), []
        message = f"the profile {profile!r} was asked for, but no {FILE_NAME} is in {folder} or above"
        return Settings(schema.Shared(), schema.Profile(), profile), [Problem(shown_spec, 1, 1, "", message)]
    problems = Problems(str(path))
    try:
        data = path.read_bytes()
    except OSError as error:
        problems.add((1, 1), (), f"can't be read: {error.strerror}")
        return Settings(schema.Shared(), schema.Profile(), profile), problems.found
    document = read_document(data, problems)
    if document is None:
        return Settings(schema.Shared(), schema.Profile(), profile, path), problems.found
    if not isinstance(document.root, Map):
        problems.add((1, 1), (), "expected a mapping at the top")
        return Settings(schema.Shared(), schema.Profile(), profile, path), problems.found
    names = list(document.root["profiles"]) if isinstance(document.root.get("profiles"), Map) else []
    shared = read_model(schema.Shared, document, problems) or schema.Shared()
    if profile and profile not in names:
        at = document.locate(("profiles",))[0]
        known = did_you_mean(profile, names) or (f"; there are {', '.join(names)}" if names else "")
        problems.add(at, ("profiles",), f"no profile {profile!r}{known}")
    chosen = shared.profiles.get(profile) or schema.Profile()
    return Settings(shared, chosen, profile, path, document), problems.found
