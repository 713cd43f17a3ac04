"""`SpecDagBundle`: a folder of specs as a bundle of DAGs, one small DAG file a spec.

A spec with problems is then the import error of its own file, with line and column, and hides no other; and a worker
reads only the spec of its task.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.dag_processing.bundles.base import BaseDagBundle

from dataset_tasks.errors import InvalidArgumentError, SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SUFFIXES = (".yaml", ".yml")
_SETTINGS_FILE = "dataset-tasks.yaml"


class SpecDagBundle(BaseDagBundle):
    """Makes DAG files for the specs of a folder, and keeps them as the specs are.

    Configure it as any bundle, in `[dag_processor] dag_bundle_config_list`::

        [{"name": "specs", "classpath": "airflow_provider.bundles.specs.SpecDagBundle",
          "kwargs": {"specs": "/opt/airflow/specs", "conn_id": "lake"}}]

    Args:
        specs: Absolute path of the folder; folders in it are looked into.
        conn_id: Airflow connection of all tasks; default what each spec says.
        profile: Of `dataset-tasks.yaml`.
        tags: Of all DAGs, beside those of each spec.
        watched: Datasets that are published outside of this Airflow too; see `dag_from_spec`.
        kwargs: Of Airflow's bundles, `name` above all.

    Raises:
        InvalidArgumentError: The folder's path is not absolute.
    """

    supports_versioning = False

    def __init__(
        self,
        *,
        specs: str,
        conn_id: str | None = None,
        profile: str | None = None,
        tags: Sequence[str] = (),
        watched: Sequence[str] = (),
        **kwargs: Any,  # Any: the base class's own
    ) -> None:
        super().__init__(**kwargs)
        if not os.path.isabs(specs):
            raise InvalidArgumentError(
                f"bundle {self.name!r}: the path of the specs is relative: {specs!r}",
                hint="Airflow's processes run anywhere; write an absolute path.",
            )
        self._specs = Path(specs)
        self._options = {
            "conn_id": conn_id, "profile": profile, "tags": list(tags) or None, "watched": list(watched) or None,
        }  # fmt: skip

    @property
    def path(self) -> Path:
        """The folder with the DAG files."""
        return self.base_dir / "dags"

    def initialize(self) -> None:
        """Makes the files."""
        self.refresh()
        super().initialize()

    def get_current_version(self) -> None:
        """None: the files follow the folder as it is."""

    def refresh(self) -> None:
        """Makes the files of new and changed specs, and takes away those of specs that are gone.

        Called by the DAG processor, before it forks a process for each file: those find what the files import loaded.

        Raises:
            SourceError: The folder is not there: a mount that is missing takes no DAGs away.
        """
        if not self._specs.is_dir():
            raise SourceError(
                f"bundle {self.name!r}: the folder of the specs does not exist: {self._specs}",
                paths=(str(self._specs),),
                hint="Is it mounted here? The DAGs stay as they are until it is back.",
            )
        import_module("airflow_provider.dags")
        with self.lock():
            wanted = {self._place(spec): spec for spec in self._found()}
            for place, spec in wanted.items():
                # The digest changes the file with its spec, which is what makes Airflow read it again at once.
                digest = hashlib.sha256(spec.read_bytes()).hexdigest()
                _write(place, _stub(spec, self._options, f"SHA-256 {digest}"))
            for place in self.path.rglob("*.py"):
                if place not in wanted:
                    place.unlink()

    def _found(self) -> Iterator[Path]:
        for path in sorted(self._specs.rglob("*")):
            hidden = any(part.startswith(".") for part in path.relative_to(self._specs).parts)  # .github, say
            if path.suffix in _SUFFIXES and path.name != _SETTINGS_FILE and not hidden and path.is_file():
                yield path

    def _place(self, spec: Path) -> Path:
        relative = spec.relative_to(self._specs)
        return self.path / relative.with_name(f"{relative.name}.py")


def _stub(spec: Path, options: Mapping[str, object], note: str) -> str:
    """The DAG file of a spec: arguments of `dag_from_spec` that are None are left out, the note is beside its name."""
    given = "".join(f", {name}={value!r}" for name, value in options.items() if value is not None)
    return (
        f'"""The Airflow DAG of {spec.name} ({note}). Made by dataset-tasks: change the spec, not this file."""\n\n'
        "from airflow_provider.dags import dag_from_spec\n\n"
        f"dag = dag_from_spec({str(spec)!r}{given})\n"
    )


def _write(place: Path, text: str) -> None:
    """Puts a text where it is not yet, whole or not at all: other processes of Airflow do the same."""
    if place.exists() and place.read_text(encoding="utf-8") == text:
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=place.parent, suffix=".part", delete=False) as part:
        part.write(text)
    os.replace(part.name, place)
