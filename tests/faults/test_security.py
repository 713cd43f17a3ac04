"""What an attacker's file name, archive, folder or text might do, and does not."""

from __future__ import annotations

import ast
import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from dataset_tasks import Dataset

ROOT = Path(__file__).resolve().parent.parent.parent
MODULES = sorted(
    path
    for package in ("dataset_tasks", "airflow_provider", "prefect_blocks")
    for path in (ROOT / package).rglob("*.py")
)
#: Calls that run what they are given, or write where an archive says.
FORBIDDEN_CALLS = {
    "eval", "exec", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "pd.read_pickle",
    "tarfile.open", "shutil.unpack_archive",
}  # fmt: skip
FORBIDDEN_METHODS = {"extractall", "to_pickle", "read_pickle"}
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "tarfile", "joblib"}


def dangers(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found += [each.name for each in names if each.name.split(".")[0] in FORBIDDEN_MODULES]
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in FORBIDDEN_MODULES:
                found.append(module)
            case ast.Call(func=func, keywords=keywords):
                name = ast.unparse(func)
                if name in FORBIDDEN_CALLS or name.rpartition(".")[2] in FORBIDDEN_METHODS:
                    found.append(name)
                found += [
                    "shell=True" for each in keywords if each.arg == "shell" and ast.unparse(each.value) != "False"
                ]
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_unpickled_evaluated_unpacked_or_given_to_a_shell(module: Path) -> None:
    """S03, S06, S12, S16."""
    assert dangers(ast.parse(module.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "code",
    ["import pickle", "from dill import loads", "eval('1')", "yaml.load(t)", "zipfile.ZipFile(x).extractall(y)",
     "subprocess.run('ls', shell=True)", "import tarfile"],
)  # fmt: skip
def test_each_danger_would_be_seen(code: str) -> None:
    """S16. The gate itself."""
    assert dangers(ast.parse(code))


def test_a_spec_can_name_no_class_to_be_made(tmp_path: Path) -> None:
    """S06, S21. A tag in YAML is refused, and only a transform or a check names code: the user's own function."""
    from dataset_tasks.errors import SpecError
    from dataset_tasks.spec.load import load_spec

    spec = tmp_path / "s.yaml"
    spec.write_text(
        "version: 1\nname: s\nproject: p\ndatasets:\n  a:\n    description: !!python/object/apply:os.getcwd []\n"
    )
    with pytest.raises(SpecError, match="tag"):
        load_spec(spec)


EVERYTHING = """
import os, sys
os.umask(0)
from dataset_tasks import Dataset
made = Dataset.create("d", "p")
made.add_files(sys.argv[1])
made.upload(show_progress=False)
made.finalize()
made.get_logger().report_text("x")
made.get_local_copy()
made.get_mutable_local_copy(sys.argv[2])
"""


def writable_by_others(folder: Path) -> list[Path]:
    """What others may write to, as far as they can get to it."""
    found = []
    for top, folders, files in os.walk(folder):
        if not stat.S_IMODE(os.stat(top).st_mode) & stat.S_IXOTH:
            folders.clear()
            continue
        paths = [Path(top, name) for name in (*folders, *files)]
        found += [each for each in paths if not each.is_symlink() and each.lstat().st_mode & stat.S_IWOTH]
    return found


def test_with_any_umask_nothing_of_ours_can_be_written_by_others(tmp_path: Path) -> None:
    """S18. Home and cache are for their user alone; a store may be read by others, as its folder says."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a").write_text("1")
    home, cache, store = tmp_path / "home", tmp_path / "cache", tmp_path / "store"
    subprocess.run(
        [sys.executable, "-c", EVERYTHING, str(tmp_path / "source"), str(tmp_path / "copy")],
        env={
            **os.environ, "DATASET_TASKS_HOME": str(home), "DATASET_TASKS_CACHE_DIR": str(cache),
            "DATASET_TASKS_STORE_URL": str(store),
        }, check=True,
    )  # fmt: skip
    assert [stat.S_IMODE(place.stat().st_mode) & 0o077 for place in (home, cache)] == [0, 0]
    assert writable_by_others(store) == []
    assert writable_by_others(tmp_path / "copy") == []


@pytest.mark.parametrize("planted", ["folder", "file", "itself"])
def test_a_copy_never_writes_through_a_link_planted_in_its_target(tmp_path: Path, planted: str) -> None:
    """S02. Not into what a link leads to, and nothing that it leads to is removed."""
    from dataset_tasks.errors import DatasetError

    (tmp_path / "source" / "sub").mkdir(parents=True)
    (tmp_path / "source" / "sub" / "a").write_text("new")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a").write_text("theirs")
    target = tmp_path / "target"
    match planted:
        case "folder":
            target.mkdir()
            (target / "sub").symlink_to(outside)
        case "file":
            (target / "sub").mkdir(parents=True)
            (target / "sub" / "a").symlink_to(outside / "a")
        case "itself":
            target.symlink_to(outside)
    made = Dataset.create("d", "p")
    made.add_files(tmp_path / "source")
    made.upload(show_progress=False)
    made.finalize()
    try:
        made.get_mutable_local_copy(target, overwrite=True)
    except DatasetError:
        assert planted == "itself"
    else:
        assert (target / "sub" / "a").read_text() == "new"
        assert not (target / "sub").is_symlink()
    assert (outside / "a").read_text() == "theirs"
    assert [each.name for each in outside.iterdir()] == ["a"]


def test_a_chunk_whose_members_lead_out_is_read_by_the_manifest_alone(tmp_path: Path) -> None:
    """S03, S04. Where a file goes is said by the manifest, whose paths are checked; what a zip calls its members never is."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a").write_bytes(os.urandom(2000))
    made = Dataset.create("d", "p")
    made.add_files(tmp_path / "source")
    made.upload(show_progress=False)
    made.finalize()
    chunk = next(Path(made.get_default_storage().removeprefix("file://")).rglob("*.zip"))
    data = bytearray(chunk.read_bytes())
    for at in (30, data.rindex(b"PK\x01\x02") + 46):  # the name in the member's own header, and in the directory
        assert data[at : at + 1] == b"a"
        data[at : at + 1] = b"/"
    chunk.unlink()
    chunk.write_bytes(data)
    assert zipfile.ZipFile(chunk).namelist() == ["/"]
    made.get_mutable_local_copy(tmp_path / "copy")
    assert [each.relative_to(tmp_path / "copy").as_posix() for each in (tmp_path / "copy").rglob("*")] == ["a"]
    assert (tmp_path / "copy" / "a").read_bytes() == (tmp_path / "source" / "a").read_bytes()


def test_text_of_users_is_escaped_where_it_is_drawn() -> None:
    """S19. A picture of lineage shows a script, and does not hold one."""
    from dataset_tasks.spec import explain
    from dataset_tasks.spec.graph import Graph, Node
    from dataset_tasks.spec.svg import draw

    drawn = draw(Graph(nodes=(Node("a", "a"),), edges=()), {"a": ("<script>alert(1)</script>", "</text><b>")})
    assert "<script" not in drawn
    assert "<b>" not in drawn
    assert "&lt;script&gt;" in drawn
    said = explain._mermaid_text('<script>alert(1)</script> "a"')
    assert "<" not in said
    assert '"' not in said
