r"""What a dataset path is, and which paths a pattern matches. Pure: no file system, standard library only.

A dataset path is UTF-8 bytes: parts joined by `/`, no part empty, `.` or `..`, no NUL, no `\`, not starting with a
drive such as `C:`. `fault` is the one place that decides; everything that takes a path in, from a user, a source
folder or a stored manifest, asks it.

In patterns `*` stands for any characters, `?` for one, `[a-c]` and `[!a-c]` for one of a set or outside it; case
counts everywhere. `?` and sets never match `/`; whether `*` does is what sets the two kinds of pattern apart:

- `SourceFilter` chooses files of a source folder: parts are matched one by one, `**` is any number of folders.
- `DatasetPattern` chooses paths of a version: when recursive, `*` also crosses `/`.

Both are compiled once and match in time linear in the path: what stands between two stars is taken at its first
place and never tried again (atomic groups), which is enough because the next star takes up the rest.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from dataset_tasks.errors import InvalidArgumentError

_DRIVE = re.compile(rb"[A-Za-z]:(?:/|\Z)")
_DRIVES = re.compile(rb"(?:\A|\0)/[A-Za-z]:/")


# --- paths -----------------------------------------------------------------------------------------------------------


def fault(path: bytes) -> str:
    r"""Why the bytes are no dataset path, as the end of a sentence about it; empty when they are one.

    >>> fault(b"images/a.png"), fault(b"../a.png")
    ('', 'has a part `..`')
    """
    if not path:
        return "is empty"
    if b"\0" in path:
        return "holds a NUL byte"
    if b"\\" in path:
        return "holds a backslash"
    if path.startswith(b"/"):
        return "is absolute"
    for part in path.split(b"/"):
        if part in (b"", b".", b".."):
            return f"has a part `{part.decode()}`" if part else "has an empty part"
    if _DRIVE.match(path):
        return "starts with a drive"
    try:
        path.decode()
    except UnicodeDecodeError:
        return "is not UTF-8"
    return ""


def first_fault(paths: Sequence[bytes]) -> tuple[bytes, str] | None:
    """The first path that is none and why, or None when all are dataset paths.

    Good paths cost well under 0.1 microseconds each, so a whole manifest can be checked whenever it is read.
    """
    if not paths:
        return None
    joined = b"/" + b"/\0/".join(paths) + b"/"
    if (
        joined.count(b"\0") == len(paths) - 1
        and not any(bad in joined for bad in (b"//", b"/./", b"/../", b"\\"))
        and not (b":/" in joined and _DRIVES.search(joined))
    ):
        try:
            joined.decode()
        except UnicodeDecodeError:
            pass
        else:
            return None
    return next(((path, why) for path in paths if (why := fault(path))), None)


def normalise(text: str | None) -> bytes:
    r"""The dataset path that a user wrote; empty for the root (None, ``, `/`, `.`).

    `\` becomes `/`; a leading `/`, repeated `/`, `.` parts and a trailing `/` are dropped.

    Raises:
        InvalidArgumentError: It has a `..` part, a drive, a NUL, or can't be written as UTF-8.

    >>> normalise("/images\\train//")
    b'images/train'
    """
    if text is None:
        return b""
    try:
        raw = text.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(
            f"The dataset path {show(text)} is not UTF-8", hint="Give it in characters that UTF-8 can hold."
        ) from error
    parts = [part for part in raw.replace(b"\\", b"/").split(b"/") if part not in (b"", b".")]
    path = b"/".join(parts)
    if path and (why := fault(path)):
        raise InvalidArgumentError(
            f"The dataset path {show(text)} {why}",
            hint="Dataset paths are relative to the root of the dataset and stay inside it, such as `images/train`.",
        )
    return path


def join(folder: bytes, rest: bytes) -> bytes:
    """`folder/rest`; either may be empty."""
    return folder + b"/" + rest if folder and rest else folder or rest


def to_text(path: bytes) -> str:
    """The path as a string. Dataset paths are always UTF-8; of anything else the bytes survive as surrogates."""
    return path.decode("utf-8", "surrogateescape")


def show(path: str | bytes) -> str:
    r"""The path as it can stand in a message or a log: nothing in it can move a cursor or break a line.

    Control characters, direction marks, line separators and bytes that are not UTF-8 are escaped, `\` is doubled.

    >>> print(show(b"a\nb\xff"))
    a\nb\xff
    """
    if isinstance(path, bytes):
        path = to_text(path)
    if path.isprintable() and "\\" not in path:
        return path
    return "".join(char if char.isprintable() and char != "\\" else _escape(char) for char in path)


def _escape(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # a byte that was not UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode()


def fold(path: bytes) -> bytes:
    """A key that is equal for paths which some file systems can't tell apart: by case or by Unicode form."""
    if path.isascii():
        return path.lower()
    folded = unicodedata.normalize("NFD", to_text(path)).casefold()
    return unicodedata.normalize("NFC", folded).encode("utf-8", "surrogateescape")


def prefix_range(prefix: bytes) -> tuple[bytes, bytes | None]:
    """The paths that start with `prefix` as a range: first (inclusive) and end (exclusive, None: no end).

    >>> prefix_range(b"sub/")
    (b'sub/', b'sub0')
    """
    stem = prefix.rstrip(b"\xff")
    return prefix, stem[:-1] + bytes([stem[-1] + 1]) if stem else None


# --- patterns --------------------------------------------------------------------------------------------------------


class SourceFilter:
    """Which files of a source folder are taken.

    Args:
        wildcards: One glob or several, relative to the folder; None takes every file. `sub/` is what lies in `sub`.
        exclude: Globs of what is left out, at any depth; one that names a folder leaves out all below it.
        recursive: Globs match at any depth (`*.txt`, and `sub/*.txt` below any folder); else from the top with as
            many parts (`**` is still any number of folders), and without globs the files directly in the folder.

    Raises:
        InvalidArgumentError: A glob is empty or has a `..` part.
    """

    __slots__ = ("_excluded", "_heads", "_taken", "takes_all")

    def __init__(
        self,
        wildcards: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] = (),
        recursive: bool = True,
    ) -> None:
        globs: list[list[str]] = [] if recursive or wildcards is not None else [["*"]]
        for wildcard in _several(wildcards):
            parts, is_folder = _parts(wildcard, "wildcard")
            below = ["**" if recursive else "*"] if is_folder else []
            globs.append([*(["**"] if recursive else []), *parts, *below])
        excluded = []
        for wildcard in _several(exclude):
            parts, is_folder = _parts(wildcard, "exclude pattern")
            excluded.append(_glob(["**", *parts], "/" if is_folder else r"(?:/|\Z)"))
        self._taken = None if wildcards is None and recursive else _any_of(_glob(glob, r"\Z") for glob in globs)
        self._heads = None if self._taken is None else [_heads(glob) for glob in globs]
        self._excluded = _any_of(excluded) if excluded else None
        #: Whether no file is left out, so that nobody need ask.
        self.takes_all = self._taken is None and self._excluded is None

    def matches(self, relpath: bytes) -> bool:
        """Whether the file at this path, relative to the source folder, is taken."""
        text = to_text(relpath)
        if self._taken is not None and self._taken.match(text) is None:
            return False
        return self._excluded is None or self._excluded.match(text) is None

    def enters(self, folder: bytes) -> bool:
        """Whether a folder, relative to the source folder, can hold files that are taken: if not, it need not be read."""
        text = to_text(folder)
        if self._excluded is not None and self._excluded.match(text + "/") is not None:
            return False
        if self._heads is None:
            return True
        depth = text.count("/")
        return any(
            heads[depth].match(text) is not None if depth < len(heads) else is_deep for heads, is_deep in self._heads
        )


class DatasetPattern:
    r"""Which paths of a version a pattern means.

    Recursive: the last part matches at any depth under its folder part, and `*` crosses `/`: `*.txt` is every text
    file, `sub/*` all below `sub`, `s*` also everything below a folder that it names. Not recursive: the pattern has as
    many parts as the path, each matched on its own. Either way a pattern that equals a path matches it, whatever
    characters it holds, and a plain folder name from the root means all below it, or with `recursive=False` the files
    directly in it; a trailing `/` says that a folder is meant. `**/` is any number of folders when recursive.

    Args:
        pattern: As the user wrote it: `\` counts as `/`, a leading `/` is dropped. None matches everything.
        recursive: See above.

    Raises:
        InvalidArgumentError: The pattern is empty, has a `..` part or can't be written as UTF-8.
    """

    __slots__ = ("_folder", "_literal", "_recursive", "_regex", "prefix")

    def __init__(self, pattern: str | None, recursive: bool = True) -> None:
        self._regex: re.Pattern[str] | None = None
        self._literal: bytes | None = None
        self._folder: bytes | None = None
        self._recursive = recursive
        #: What every path that matches starts with; empty when that can be anything.
        self.prefix = b""
        if pattern is None:
            return
        parts, is_folder = _parts(pattern, "pattern")
        text = "/".join(parts)
        try:
            literal = text.encode()
        except UnicodeEncodeError as error:
            raise InvalidArgumentError(
                f"The pattern {show(pattern)} is not UTF-8", hint="Give it in characters that UTF-8 can hold."
            ) from error
        if is_folder:
            parts = [*parts, "*"]
        else:
            self._literal = literal
            self._folder = literal + b"/" if _wild_at(text) < 0 else None
        fixed = "".join(part + "/" for part in parts[:-1]) if recursive else "/".join(parts)
        wild = _wild_at(fixed)
        self.prefix = (fixed if wild < 0 else fixed[:wild]).encode()
        self._regex = re.compile(_crossing(parts) if recursive else "/".join(map(_part, parts)) + r"\Z", re.DOTALL)

    def matches(self, path: bytes) -> bool:
        """Whether the pattern means this dataset path."""
        if self._regex is None or path == self._literal:
            return True
        if (
            self._folder is not None
            and path.startswith(self._folder)
            and (self._recursive or b"/" not in path[len(self._folder) :])
        ):
            return True
        return self._regex.match(to_text(path)) is not None

    def span(self) -> tuple[bytes, bytes | None]:
        """The range that holds every path that matches: first (inclusive), end (exclusive, None: no end).

        Only this part of a sorted manifest has to be read.
        """
        return prefix_range(self.prefix)


def _several(patterns: str | Sequence[str] | None) -> Sequence[str]:
    return [patterns] if isinstance(patterns, str) else patterns or ()


def _parts(pattern: str, what: str) -> tuple[list[str], bool]:
    """The parts of a pattern, and whether it ended in `/`."""
    if not isinstance(pattern, str):
        raise InvalidArgumentError(f"The {what} {pattern!r} is no text", hint="Give a str.")
    slashed = pattern.replace("\\", "/")
    parts = [part for part in slashed.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise InvalidArgumentError(
            f"The {what} {show(pattern)} has a part `..`", hint="Patterns look only below the folder they belong to."
        )
    if not parts:
        raise InvalidArgumentError(
            f"The {what} {show(pattern)!r} is empty", hint="Write `*` for every file, or leave it out."
        )
    return parts, slashed.endswith("/")


# --- patterns to regular expressions ---------------------------------------------------------------------------------


def _any_of(regexes: Iterable[str]) -> re.Pattern[str]:
    """One pattern that matches where one of several does; of none, one that never matches."""
    return re.compile("|".join(f"(?:{regex})" for regex in regexes) or "(?!)", re.DOTALL)


def _set_end(text: str, start: int) -> int:
    """Where the set that opens at `start` closes, or -1: then its `[` is a plain character."""
    first = start + 2 if text.startswith("!", start + 1) else start + 1
    return text.find("]", first + 1 if text.startswith("]", first) else first)


def _wild_at(text: str) -> int:
    """Where the first wildcard stands, or -1. A set can't span a `/`."""
    offset = 0
    for part in text.split("/"):
        for at, char in enumerate(part):
            if char in "*?" or (char == "[" and _set_end(part, at) >= 0):
                return offset + at
        offset += len(part) + 1
    return -1


def _set_regex(inside: str) -> str:
    """`a-c` or `!a-c` as a regular expression for one character; never `/`."""
    negated = inside.startswith("!")
    rest, allowed = inside.removeprefix("!"), []
    while rest:
        if len(rest) > 2 and rest[1] == "-":
            if rest[0] <= rest[2]:  # else it holds nothing
                allowed.append(f"{re.escape(rest[0])}-{re.escape(rest[2])}")
            rest = rest[3:]
        else:
            allowed.append(re.escape(rest[0]))
            rest = rest[1:]
    if negated:
        return f"[^/{''.join(allowed)}]"
    return f"(?!/)[{''.join(allowed)}]" if allowed else "(?!)"


def _tokens(part: str) -> Iterator[str | None]:
    """Regular expressions for the characters of a part, None for each run of stars."""
    at = 0
    while at < len(part):
        char = part[at]
        end = _set_end(part, at) if char == "[" else -1
        if char == "*":
            while part.startswith("*", at + 1):
                at += 1
            yield None
        elif end >= 0:
            yield _set_regex(part[at + 1 : end])
            at = end
        else:
            yield "[^/]" if char == "?" else re.escape(char)
        at += 1


def _chunks(part: str) -> list[str]:
    """What stands before, between and after the stars: one more than there are stars."""
    chunks = [""]
    for token in _tokens(part):
        if token is None:
            chunks.append("")
        else:
            chunks[-1] += token
    return chunks


def _part(part: str) -> str:
    """One part, whole, with stars that stay inside it."""
    first, *rest = _chunks(part)
    middle = "".join(f"(?>[^/]*?{chunk})" for chunk in rest[:-1])
    last = f"[^/]*{rest[-1]}" if rest else ""
    return rf"(?>{first}{middle}{last}(?=/|\Z))"


def _glob(parts: Sequence[str], tail: str) -> str:
    """Parts with `**` for any number of folders; `tail` is what must follow the last one."""
    runs: list[list[str]] = [[]]
    for part in parts:
        if part == "**":
            runs.append([])
        else:
            runs[-1].append(_part(part))
    if len(runs) == 1:
        return "/".join(runs[0]) + tail
    top = "".join(part + "/" for part in runs[0])
    middle = "".join(f"(?>(?:[^/]*/)*?{'/'.join(run)}/)" for run in runs[1:-1] if run)
    if runs[-1]:
        last = f"(?:[^/]*/)*{'/'.join(runs[-1])}{tail}"
    else:  # a last `**` is whatever lies below: something there must be
        last = "[^/]+/" if tail == "/" else "."
    return top + middle + last


def _heads(parts: Sequence[str]) -> tuple[list[re.Pattern[str]], bool]:
    """Which folders a glob can match below, by their depth; and whether it can at any greater depth too."""
    is_deep = "**" in parts
    fixed = parts[: parts.index("**")] if is_deep else parts[:-1]
    return [re.compile(_glob(fixed[: n + 1], r"\Z"), re.DOTALL) for n in range(len(fixed))], is_deep


def _crossing(parts: Sequence[str]) -> str:
    """Parts of which the last one may lie at any depth, with stars that cross `/`."""
    regex, chunk, wild = "", "", ""
    # What a star, and `**/` at the start of a part, may take up before the chunk that follows: as little as possible.
    star, folders = ".*?", "(?:.*?/)??"

    def close(following: str) -> None:
        nonlocal regex, chunk, wild
        regex += f"(?>{wild}{chunk})" if wild else chunk
        chunk, wild = "", following

    *above, last = parts
    for part in above:
        if part == "**":
            close(folders)
            continue
        first, *rest = _chunks(part)
        chunk += first
        for piece in rest:
            close(star)
            chunk += piece
        chunk += "/"
    close(folders)
    first, *rest = _chunks(last)
    chunk += first
    for piece in rest:
        close(star)
        chunk += piece
    greedy = {star: ".*", folders: "(?:.*/)?"}[wild]
    return rf"{regex}{greedy}{chunk}\Z"
