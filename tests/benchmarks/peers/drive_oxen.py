"""One operation of Oxen through its Python package, on the folder `data` beside."""

from __future__ import annotations

import os
import sys

from oxen import Repo, user

repo, step = Repo(os.getcwd()), sys.argv[1]
match step:
    case "init":
        user.config_user("bench", "bench@example.org")
        repo.init()
    case "add v1" | "add v2":
        repo.add("data")
        repo.commit(step)
    case "nothing changed":
        repo.add("data")
        print(repo.status())
    case "get v2":
        repo.restore("data")
