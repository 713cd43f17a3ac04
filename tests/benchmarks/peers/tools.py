"""The tools that are compared: how each is installed and which command does what.

Every command runs in `$WORK/space`, with the files in `data` beside it and the store in `$WORK/store`. A copy of v2 must
appear in `$WORK/out/data` (Oxen: in place).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
STEPS = (
    "init", "add v1", "push v1", "build v1", "nothing changed", "add v2", "push v2", "diff", "get v2", "verify",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool and its commands by step.

    `packages` are installed from PyPI into an environment of their own, `$BIN` is its folder of programs; `program` must be
    on the PATH (`apt-get install` brings it). `out` is where the copy of v2 appears. `version` prints it.
    `data`: what it is tried on unless all is asked for; elsewhere it takes minutes.
    """

    name: str
    commands: Mapping[str, str]
    version: str
    packages: tuple[str, ...] = ()
    program: str = ""
    data: str = "SML"
    out: str = "out/data"
    stores: tuple[str, ...] = ("store",)
    env: Mapping[str, str] = field(default_factory=dict)

    def binaries(self, folder: Path) -> Path | None:
        """The programs of the tool's own environment, made when it is not there; None when it can't be had."""
        if self.program:
            found = shutil.which(self.program)
            return Path(found).parent if found else None
        if not self.packages:
            return Path(sys.executable).parent
        place = folder / f"venv-{self.name}"
        if not (place / "whole").exists():
            shutil.rmtree(place, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", place], check=True)
            subprocess.run([place / "bin/pip", "install", "-q", *self.packages], check=True)
            (place / "whole").touch()
        return place / "bin"


def _driven(driver: str, *steps: str) -> dict[str, str]:
    return {step: f'"$BIN/python" "{HERE / driver}" "{step}"' for step in steps}


_PUSHED = ("add v1", "push v1", "nothing changed", "add v2", "push v2", "get v2")

OURS = Tool(
    "dataset-tasks",
    _driven("drive_ours.py", *(step for step in STEPS if step != "init")),
    '"$BIN/dataset-tasks" --version',
)

TOOLS: tuple[Tool, ...] = (
    OURS,
    Tool(
        "clearml",
        _driven("drive_clearml.py", *_PUSHED),
        '"$BIN/pip" list 2>/dev/null | grep "^clearml "',
        packages=("clearml==2.1.12",),
        data="SM",
        env={"CLEARML_CACHE_DIR": "$WORK/home/.clearml"},
    ),
    Tool(
        "dvc",
        {
            "init": "git init -q && $BIN/dvc init -q && $BIN/dvc config core.analytics false && $BIN/dvc config "
            "core.check_update false && $BIN/dvc remote add -q -d store $WORK/store && git add .dvc .dvcignore && git commit -qm init",
            "add v1": "$BIN/dvc add data && git add -A && git commit -qm v1 && git tag v1",
            "push v1": "$BIN/dvc push",
            "nothing changed": "$BIN/dvc add data",
            "add v2": "$BIN/dvc add data && git add -A && git commit -qm v2 && git tag v2",
            "push v2": "$BIN/dvc push",
            "diff": "$BIN/dvc diff v1 v2 --json",
            "get v2": "git clone -q $WORK/space $WORK/out && cd $WORK/out && $BIN/dvc pull",
        },
        "$BIN/dvc --version",
        packages=("dvc==3.67.1",),
        data="SM",
        stores=("store", "space/.dvc/cache"),
        env={"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": "$WORK/home/site"},
    ),
    Tool(
        "oxen",
        _driven("drive_oxen.py", "init", "add v1", "nothing changed", "add v2", "get v2"),
        '"$BIN/pip" list 2>/dev/null | grep "^oxenai "',
        packages=("oxenai==0.65.1",),
        data="S",
        out="space/data",
        stores=("space/.oxen",),
    ),
    Tool(
        "restic",
        {
            "init": "restic init -q",
            "add v1": "restic backup -q data",
            "nothing changed": "restic backup -q data",
            "add v2": "restic backup -q data",
            "diff": "restic diff $(restic snapshots -c | grep -oE '^[0-9a-f]{8}' | sed -n '1p;$p')",
            "get v2": "restic restore -q latest --target $WORK/out",
            "verify": "restic check -q --read-data",
        },
        "restic version",
        program="restic",
        env={"RESTIC_PASSWORD": "bench", "RESTIC_REPOSITORY": "$WORK/store/repository"},
    ),
    Tool(
        "git",
        {
            "init": "git init -q -b main && git init -q --bare $WORK/store/r.git && git remote add origin "
            "$WORK/store/r.git && git config gc.auto 0",
            "add v1": "git add -A && git commit -qm v1",
            "push v1": "git push -q origin main",
            "nothing changed": "git add -A && git status --porcelain",
            "add v2": "git add -A && git commit -qm v2",
            "push v2": "git push -q origin main",
            "diff": "git diff --name-status --no-renames HEAD~1 HEAD",
            "get v2": "git clone -q -b main file://$WORK/store/r.git $WORK/out",
            "verify": "git fsck --full --no-progress",
        },
        "git --version",
        program="git",
        data="SM",
        stores=("store", "space/.git"),
    ),
)

#: What the machine can do with the same bytes; each stands beside the operations that need at least that.
LIMITS: Mapping[str, str] = {
    "walk + stat": f'"{sys.executable}" "{HERE / "limits.py"}" walk $DATA/v1',
    "sha256": f'"{sys.executable}" "{HERE / "limits.py"}" hash $DATA/v1',
    "tar": "tar -cf $WORK/out.tar -C $DATA v1",
    "cp -r": "cp -r $DATA/v1 $WORK/copy",
}


def environment(work: Path, data: Path, binaries: Path, own: Mapping[str, str]) -> dict[str, str]:
    """What a tool's commands see; nothing of the user's own configuration."""
    known = {"WORK": str(work), "DATA": str(data), "BIN": str(binaries)}
    person = {f"GIT_{who}_{what}": "bench@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    common = {
        "HOME": str(work / "home"), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TMPDIR": str(work / "tmp"),
        "GIT_TERMINAL_PROMPT": "0", "TQDM_DISABLE": "1",
    }  # fmt: skip
    expanded = {name: _filled(value, known) for name, value in own.items()}
    return {**common, **person, **known, **expanded}


def _filled(text: str, known: Mapping[str, str]) -> str:
    for name, value in known.items():
        text = text.replace(f"${name}", value)
    return text
