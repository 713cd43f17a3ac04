"""Matching against a slow oracle that tries every way, and the one rule of what a dataset path is."""

from functools import cache

from hypothesis import example, given, settings
from hypothesis import strategies as st

from dataset_tasks import paths
from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.paths import DatasetPattern, SourceFilter

PIECES = ["a", "b", "é", "-", "\n", "*", "**", "?", "/", "/", "[", "]", "!", "[a-b]", "[!a]", "[]a]", "[!]]"]
patterns = st.lists(st.sampled_from(PIECES), min_size=1, max_size=9).map("".join)
names = st.text(alphabet="abé-\n[]!*", min_size=1, max_size=3)
good_paths = st.lists(names, min_size=1, max_size=4).map("/".join)


# --- the oracle: no regular expression, nothing shared with what it checks -------------------------------------------


def tokens(part):
    """Characters of one part as predicates; `*` as None."""
    found, at = [], 0
    while at < len(part):
        char = part[at]
        if char == "[":
            first = at + 2 if part[at + 1 : at + 2] == "!" else at + 1
            end = part.find("]", first + 1)
            if end >= 0:
                found.append(in_set(part[first:end], negated=first == at + 2))
                at = end + 1
                continue
        if char == "*":
            found.append(None)
        elif char == "?":
            found.append(lambda c: c != "/")
        else:
            found.append(lambda c, char=char: c == char)
        at += 1
    return found


def in_set(inside, *, negated):
    members, at = set(), 0
    while at < len(inside):
        if inside[at + 1 : at + 2] == "-" and at + 2 < len(inside):
            members.update(chr(code) for code in range(ord(inside[at]), ord(inside[at + 2]) + 1))
            at += 3
        else:
            members.add(inside[at])
            at += 1
    return lambda c: c != "/" and (c in members) != negated


def matches(wanted, text, *, crossing):
    """Whether the tokens match the whole text, by trying everything."""

    @cache
    def from_here(i, j):
        if i == len(wanted):
            return j == len(text)
        if wanted[i] is None:
            return from_here(i + 1, j) or (j < len(text) and (crossing or text[j] != "/") and from_here(i, j + 1))
        return j < len(text) and wanted[i](text[j]) and from_here(i + 1, j + 1)

    return from_here(0, 0)


def by_parts(wanted, found):
    """Part by part; `**` is any number of parts, but at the end at least one."""
    if not wanted:
        return not found
    if wanted[0] == "**":
        if len(wanted) == 1:
            return bool(found)
        return any(by_parts(wanted[1:], found[n:]) for n in range(len(found) + 1))
    return bool(found) and matches(tokens(wanted[0]), found[0], crossing=False) and by_parts(wanted[1:], found[1:])


def parts_of(pattern):
    return [part for part in pattern.split("/") if part]


def source_oracle(pattern, recursive, path):
    wanted = parts_of(pattern)
    if pattern.endswith("/"):
        wanted += ["**"] if recursive else ["*"]
    return by_parts(["**", *wanted] if recursive and wanted != ["**"] else wanted, path.split("/"))


def exclude_oracle(pattern, path, *, is_folder=False):
    found = path.split("/")
    depths = range(1, len(found) + (is_folder or not pattern.endswith("/")))
    return any(by_parts(["**", *parts_of(pattern)], found[:depth]) for depth in depths)


def dataset_oracle(pattern, recursive, path):
    wanted = parts_of(pattern)
    text = "/".join(wanted)
    plain = all(token is not None for part in wanted for token in tokens(part)) and "?" not in text
    plain = plain and not any("[" in part and matches_as_set(part) for part in wanted)
    if not pattern.endswith("/"):
        if path == text:
            return True
        below = path.removeprefix(text + "/")
        if plain and below != path and (recursive or "/" not in below):
            return True
    else:
        wanted = [*wanted, "*"]
    found = path.split("/")
    if not recursive:
        return len(wanted) == len(found) and all(
            matches(tokens(part), name, crossing=False) for part, name in zip(wanted, found, strict=True)
        )
    return any(
        folder_oracle(wanted[:-1], "".join(name + "/" for name in found[:start]))
        and matches(tokens(wanted[-1]), "/".join(found[later:]), crossing=True)
        for start in range(len(found))
        for later in range(start, len(found))
    )


def matches_as_set(part):
    """Whether some `[` of the part opens a set."""
    at = 0
    while (at := part.find("[", at)) >= 0:
        first = at + 2 if part[at + 1 : at + 2] == "!" else at + 1
        if part.find("]", first + 1) >= 0:
            return True
        at += 1
    return False


def folder_oracle(wanted, folder):
    """The folder part, with `**/` there or not there, against a folder with its trailing slash."""
    if "**" in wanted:
        at = wanted.index("**")
        return any(
            folder_oracle([*wanted[:at], *extra, *wanted[at + 1 :]], folder) for extra in ([], ["*"])
        )  # one `*` is enough: it crosses
    text = [token for part in wanted for token in [*tokens(part), lambda c: c == "/"]]
    return matches(text, folder, crossing=True)


# --- the properties --------------------------------------------------------------------------------------------------


@settings(max_examples=400)
@given(pattern=patterns, recursive=st.booleans(), path=good_paths)
@example(pattern="a*b*", recursive=True, path="aab/b")
@example(pattern="**/a", recursive=False, path="a")
@example(pattern="a/**", recursive=True, path="a")
@example(pattern="**/**", recursive=False, path="a")
def test_a_wildcard_takes_what_the_oracle_takes(pattern, recursive, path):
    if not parts_of(pattern):
        return
    wanted = SourceFilter(pattern, recursive=recursive)
    assert wanted.matches(path.encode()) == source_oracle(pattern, recursive, path)
    if wanted.matches(path.encode()):
        folder = path
        while "/" in folder:
            folder = folder.rpartition("/")[0]
            assert wanted.enters(folder.encode())


@settings(max_examples=400)
@given(pattern=patterns, path=good_paths)
@example(pattern="a/", path="a")
@example(pattern="**", path="a/b")
@example(pattern="**/", path="a")
def test_an_exclude_leaves_out_what_the_oracle_leaves_out(pattern, path):
    if not parts_of(pattern):
        return
    wanted = SourceFilter(exclude=pattern)
    assert wanted.matches(path.encode()) != exclude_oracle(pattern, path)
    assert wanted.enters(path.encode()) != exclude_oracle(pattern, path, is_folder=True)


@settings(max_examples=600)
@given(pattern=patterns, recursive=st.booleans(), path=good_paths)
@example(pattern="s/s*", recursive=True, path="s/x")
@example(pattern="*/", recursive=True, path="a/b/c")
@example(pattern="a/**/b", recursive=True, path="a/b")
@example(pattern="[a", recursive=True, path="[a/b")
def test_a_dataset_pattern_means_what_the_oracle_means(pattern, recursive, path):
    if not parts_of(pattern):
        return
    wanted = DatasetPattern(pattern, recursive)
    assert wanted.matches(path.encode()) == dataset_oracle(pattern, recursive, path)
    if wanted.matches(path.encode()):
        start, end = wanted.span()
        assert start <= path.encode()
        assert end is None or path.encode() < end


@given(path=good_paths, recursive=st.booleans())
def test_a_path_as_a_pattern_matches_itself(path, recursive):
    assert DatasetPattern(path, recursive).matches(path.encode())


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=12) | good_paths.map(str.encode), max_size=5))
def test_many_paths_are_judged_as_one_by_one(many):
    alone = next(((path, why) for path in many if (why := paths.fault(path))), None)
    assert paths.first_fault(many) == alone


@settings(max_examples=300)
@given(st.text(alphabet=st.sampled_from("ab./\\:C\0\ud800é\n"), max_size=10))
def test_what_a_user_writes_becomes_a_path_the_root_or_an_error(text):
    try:
        path = paths.normalise(text)
    except InvalidArgumentError:
        return
    assert path == b"" or paths.fault(path) == ""
    assert paths.normalise(path.decode()) == path


@given(st.binary() | st.text(alphabet=st.characters()))
def test_whatever_is_shown_is_printable_and_tells_different_names_apart(name):
    shown = paths.show(name)
    assert shown.isprintable()
    raw = name if isinstance(name, bytes) else name.encode("utf-8", "surrogatepass")
    other = raw + b"\x01"
    assert paths.show(other) != paths.show(raw)


@given(st.lists(good_paths.map(str.encode), unique=True), st.binary(max_size=3))
def test_the_range_of_a_prefix_holds_just_the_paths_that_start_with_it(many, prefix):
    start, end = paths.prefix_range(prefix)
    assert [path for path in many if path >= start and (end is None or path < end)] == [
        path for path in many if path.startswith(prefix)
    ]
