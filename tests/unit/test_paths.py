"""What a dataset path is, how it is shown, and what patterns mean (SEMANTICS: add_files, remove_files, list_files)."""

import doctest
import unicodedata

import pytest

from dataset_tasks import paths
from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.paths import DatasetPattern, SourceFilter


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(paths).failed == 0


# --- what a path is --------------------------------------------------------------------------------------------------

GOOD = [
    b"a",
    b"a/b/c.txt",
    b".hidden",
    b"..a/...",
    b" lead/trail ",
    b"new\nline\ttab\x1b[31m",
    b"-rf",
    b"CON/aux.",
    b"a:b/c",
    b"sub/C:/x",
    b"'; DROP TABLE versions; --%_\"",
    "naïve/日本語/\u202eevil".encode(),
    b"x" * 255,
    b"/".join([b"d" * 200] * 50),
]
BAD = [
    (b"", "is empty"),
    (b"/", "is absolute"),
    (b"/etc/passwd", "is absolute"),
    (b"//host/share", "is absolute"),
    (b".", "has a part `.`"),
    (b"..", "has a part `..`"),
    (b"a/../b", "has a part `..`"),
    (b"../x", "has a part `..`"),
    (b"a/..", "has a part `..`"),
    (b"./a", "has a part `.`"),
    (b"a//b", "has an empty part"),
    (b"a/", "has an empty part"),
    (b"a\\b", "holds a backslash"),
    (b"\\\\?\\C:\\x", "holds a backslash"),
    (b"C:/x", "starts with a drive"),
    (b"c:", "starts with a drive"),
    (b"a\0b", "holds a NUL byte"),
    (b"latin\xe9", "is not UTF-8"),
    (b"\xed\xa0\x80", "is not UTF-8"),  # a surrogate
]


@pytest.mark.parametrize("path", GOOD)
def test_any_name_that_linux_takes_is_a_path_if_it_is_utf_8(path):
    assert paths.fault(path) == ""


@pytest.mark.parametrize(("path", "why"), BAD)
def test_what_leads_out_or_is_ambiguous_is_no_path(path, why):
    assert paths.fault(path) == why


@pytest.mark.parametrize(("path", "why"), BAD)
@pytest.mark.parametrize("place", [0, 7, 14])
def test_one_bad_path_among_many_is_found(path, why, place):
    many = [*GOOD[:place], path, *GOOD[place:]]
    assert paths.first_fault(many) == (path, why)


def test_many_good_paths_pass_together():
    assert paths.first_fault(GOOD) is None
    assert paths.first_fault([]) is None


def test_bytes_that_are_utf_8_only_together_are_not_taken_for_it():
    assert paths.first_fault([b"a\xc3", b"\xa9b"]) == (b"a\xc3", "is not UTF-8")


@pytest.mark.parametrize(
    ("written", "path"),
    [
        (None, b""),
        ("", b""),
        ("/", b""),
        (".", b""),
        ("./", b""),
        ("a", b"a"),
        ("/a", b"a"),
        ("a/", b"a"),
        ("a//b", b"a/b"),
        ("./a/./b/", b"a/b"),
        ("\\a\\b", b"a/b"),
        ("data/日本", "data/日本".encode()),
    ],
)
def test_a_dataset_path_is_brought_into_one_form(written, path):
    assert paths.normalise(written) == path


@pytest.mark.parametrize("written", ["..", "a/../b", "../a", "a\\..\\b", "C:\\data", "c:/data", "a\0b", "\ud800"])
def test_a_dataset_path_that_leads_out_is_refused(written):
    with pytest.raises(InvalidArgumentError) as caught:
        paths.normalise(written)
    assert caught.value.kind == "invalid_argument"
    assert caught.value.hint


def test_joining_with_the_root_adds_nothing():
    assert paths.join(b"", b"a") == b"a"
    assert paths.join(b"a", b"") == b"a"
    assert paths.join(b"a", b"b/c") == b"a/b/c"


# --- how it is shown -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (b"plain name.txt", "plain name.txt"),
        ("naïve/日本語".encode(), "naïve/日本語"),
        (b"a\nb\r\tc", r"a\nb\r\tc"),
        (b"\x1b[31mred\x07", r"\x1b[31mred\x07"),
        (b"back\\slash", r"back\\slash"),
        (b"latin\xe9", r"latin\xe9"),
        ("\u202etxt.exe", r"\u202etxt.exe"),
        ("line\u2028break\x85", r"line\u2028break\x85"),
        ("lone\udcff\ud800", r"lone\xff\ud800"),
    ],
)
def test_what_is_shown_can_not_move_a_cursor_or_break_a_line(path, shown):
    assert paths.show(path) == shown
    assert paths.show(path).isprintable()


def test_names_that_some_file_systems_can_not_tell_apart_have_one_key():
    composed, decomposed = (unicodedata.normalize(form, "Ångström.txt").encode() for form in ("NFC", "NFD"))
    assert composed != decomposed
    assert paths.fold(composed) == paths.fold(decomposed) == paths.fold("ÅNGSTRÖM.TXT".encode())
    assert paths.fold(b"ReadMe") == paths.fold(b"README")
    assert paths.fold("straße".encode()) == paths.fold(b"STRASSE")
    assert paths.fold(b"a") != paths.fold(b"b")
    assert paths.fold(b"a\xff") == paths.fold(b"A\xff")


@pytest.mark.parametrize(
    ("prefix", "span"),
    [(b"", (b"", None)), (b"sub/", (b"sub/", b"sub0")), (b"a\xff", (b"a\xff", b"b")), (b"\xff", (b"\xff", None))],
)
def test_a_prefix_is_a_range_of_paths(prefix, span):
    assert paths.prefix_range(prefix) == span


# --- patterns of files to add ----------------------------------------------------------------------------------------

TREE = [
    b"a.txt",
    b"b.csv",
    b".hid.txt",
    b"sub/a.txt",
    b"sub/deep/a.txt",
    b"x/sub/a.txt",
    b"x/sub/deep/b.txt",
    b"sub/[1].txt",
]


def taken(wildcards=None, exclude=(), recursive=True):
    wanted = SourceFilter(wildcards, exclude, recursive)
    found = [path.decode() for path in TREE if wanted.matches(path)]
    for path in map(str.encode, found):  # a walk that asks `enters` on its way down gets there
        parts = path.split(b"/")
        assert all(wanted.enters(b"/".join(parts[:depth])) for depth in range(1, len(parts)))
    return found


def test_without_wildcards_every_file_is_taken_hidden_ones_too():
    assert taken() == [path.decode() for path in TREE]
    assert SourceFilter().takes_all


def test_a_recursive_wildcard_matches_at_any_depth():
    assert taken("*.csv") == ["b.csv"]
    assert taken("a.txt") == ["a.txt", "sub/a.txt", "sub/deep/a.txt", "x/sub/a.txt"]


def test_a_recursive_wildcard_with_a_folder_matches_below_any_folder():
    assert taken("sub/*.txt") == ["sub/a.txt", "x/sub/a.txt", "sub/[1].txt"]


def test_a_star_does_not_cross_folders():
    assert taken("x/*.txt") == []
    assert taken("s*txt", recursive=False) == []


def test_without_recursion_a_wildcard_has_as_many_parts_from_the_top():
    assert taken("*.txt", recursive=False) == ["a.txt", ".hid.txt"]
    assert taken("*/*.txt", recursive=False) == ["sub/a.txt", "sub/[1].txt"]
    assert taken("sub/*.txt", recursive=False) == ["sub/a.txt", "sub/[1].txt"]


def test_without_recursion_and_wildcards_only_the_files_of_the_folder_itself_are_taken():
    assert taken(recursive=False) == ["a.txt", "b.csv", ".hid.txt"]


def test_several_wildcards_are_an_or():
    assert taken(["*.csv", "b.txt"]) == ["b.csv", "x/sub/deep/b.txt"]
    assert taken([]) == []


def test_two_stars_are_any_number_of_folders():
    assert taken("x/**/b.txt") == ["x/sub/deep/b.txt"]
    assert taken("**/a.txt", recursive=False) == ["a.txt", "sub/a.txt", "sub/deep/a.txt", "x/sub/a.txt"]
    assert taken("sub/**", recursive=False) == ["sub/a.txt", "sub/deep/a.txt", "sub/[1].txt"]


def test_a_wildcard_that_ends_in_a_slash_means_what_lies_in_the_folder():
    assert taken("deep/") == ["sub/deep/a.txt", "x/sub/deep/b.txt"]
    assert taken("sub/", recursive=False) == ["sub/a.txt", "sub/[1].txt"]


def test_question_marks_and_sets_stand_for_one_character():
    assert taken("?.txt") == ["a.txt", "sub/a.txt", "sub/deep/a.txt", "x/sub/a.txt", "x/sub/deep/b.txt"]
    assert taken("[b-z].*") == ["b.csv", "x/sub/deep/b.txt"]
    assert taken("[!a].txt") == ["x/sub/deep/b.txt"]
    assert taken("[[]1].txt") == ["sub/[1].txt"]
    assert SourceFilter("?.txt").matches("é.txt".encode())
    assert SourceFilter("[à-ü].txt").matches("é.txt".encode())
    assert not SourceFilter("?.txt").matches("日本.txt".encode())


def test_a_set_that_does_not_close_is_a_plain_bracket():
    assert SourceFilter("a[b").matches(b"a[b")
    assert not SourceFilter("a[b").matches(b"ab")
    assert SourceFilter("[]]").matches(b"]")
    assert SourceFilter("[!]]").matches(b"x")
    assert not SourceFilter("[z-a]").matches(b"z")
    assert SourceFilter("[!z-a]").matches(b"z")
    assert SourceFilter("[a-]").matches(b"-")
    assert SourceFilter("[\\^&|~-]x/y").enters(b"q/[") is True  # `\` is a separator here as everywhere


@pytest.mark.parametrize("char", list("^$.|()+{}#&~- \n"))
def test_no_character_but_the_four_is_special(char):
    for pattern in (char + "x", f"[{char}]x", f"{char}*x", f"[!a{char}]?"):
        SourceFilter(pattern).matches(b"zz")
    assert SourceFilter(f"{char}?").matches(f"{char}y".encode())
    assert SourceFilter(f"[{char}b]").matches(char.encode())
    assert not SourceFilter(f"[!{char}]").matches(char.encode())
    assert not SourceFilter(f"{char}y").matches(b"zy")


def test_case_counts():
    assert not SourceFilter("*.TXT").matches(b"a.txt")
    assert not DatasetPattern("*.TXT").matches(b"a.txt")


def test_what_is_excluded_is_left_out_at_any_depth():
    assert taken(exclude="a.txt") == ["b.csv", ".hid.txt", "x/sub/deep/b.txt", "sub/[1].txt"]
    assert taken("a.txt", exclude=["sub/a.txt"]) == ["a.txt", "sub/deep/a.txt"]
    assert taken("*/*.txt", exclude="a.txt", recursive=False) == ["sub/[1].txt"]


def test_an_excluded_folder_takes_all_below_with_it_and_is_not_entered():
    assert taken(exclude="deep") == ["a.txt", "b.csv", ".hid.txt", "sub/a.txt", "x/sub/a.txt", "sub/[1].txt"]
    assert taken(exclude="sub") == ["a.txt", "b.csv", ".hid.txt"]
    wanted = SourceFilter(exclude=[".git", "x/cache/"])
    assert not wanted.enters(b".git")
    assert not wanted.enters(b"a/.git/objects")
    assert not wanted.enters(b"x/cache")
    assert wanted.enters(b"x")
    assert wanted.enters(b".gitx")


def test_an_exclude_that_ends_in_a_slash_means_folders_only():
    wanted = SourceFilter(exclude="cache/")
    assert wanted.matches(b"cache")
    assert not wanted.matches(b"cache/x")
    assert not wanted.matches(b"a/cache/b/x")


def test_folders_in_which_nothing_can_match_are_not_entered():
    assert not SourceFilter(recursive=False).enters(b"sub")
    wanted = SourceFilter("a*/b/*.txt", recursive=False)
    assert wanted.enters(b"ax")
    assert wanted.enters(b"ax/b")
    assert not wanted.enters(b"b")
    assert not wanted.enters(b"ax/c")
    assert not wanted.enters(b"ax/b/c")
    deep = SourceFilter("a/**/x", recursive=False)
    assert deep.enters(b"a/b/c/d")
    assert not deep.enters(b"b")


@pytest.mark.parametrize("pattern", ["", "/", ".", "./", "\\"])
def test_an_empty_pattern_is_refused(pattern):
    for make in (lambda: SourceFilter(pattern), lambda: SourceFilter(exclude=pattern), lambda: DatasetPattern(pattern)):
        with pytest.raises(InvalidArgumentError, match="is empty") as caught:
            make()
        assert caught.value.hint


@pytest.mark.parametrize("pattern", ["..", "../*.txt", "a/../b", "a\\..\\*"])
def test_a_pattern_that_leads_out_is_refused(pattern):
    for make in (lambda: SourceFilter(pattern), lambda: SourceFilter(exclude=pattern), lambda: DatasetPattern(pattern)):
        with pytest.raises(InvalidArgumentError, match=r"a part `\.\.`"):
            make()


def test_a_pattern_that_is_not_utf_8_can_not_mean_a_dataset_path():
    with pytest.raises(InvalidArgumentError, match=r"latin\\xe9 is not UTF-8"):
        DatasetPattern("latin\udce9")
    assert SourceFilter("latin\udce9").matches(b"latin\xe9")


# --- patterns of paths in a version ----------------------------------------------------------------------------------

VERSION = [
    "a.txt",
    "c.txt",
    "data[1].csv",
    "other/sub/s.bin",
    "s",
    "sub/a.csv",
    "sub/c.txt",
    "sub/deep/c.txt",
    "sub/deep/er/d.txt",
    "sub/x",
    "subs/y",
]


def meant(pattern, recursive=True):
    wanted = DatasetPattern(pattern, recursive)
    found = [path for path in VERSION if wanted.matches(path.encode())]
    start, end = wanted.span()
    assert all(start <= path.encode() and (end is None or path.encode() < end) for path in found)
    return found


def test_none_means_everything():
    assert meant(None) == meant(None, False) == VERSION


def test_the_last_part_matches_at_any_depth():
    assert meant("*.txt") == ["a.txt", "c.txt", "sub/c.txt", "sub/deep/c.txt", "sub/deep/er/d.txt"]
    assert meant("c.txt") == ["c.txt", "sub/c.txt", "sub/deep/c.txt"]


def test_the_last_part_matches_under_its_folder_part_only():
    assert meant("sub/c.txt") == ["sub/c.txt", "sub/deep/c.txt"]
    assert meant("sub/deep/*.txt") == ["sub/deep/c.txt", "sub/deep/er/d.txt"]
    assert meant("other/c.txt") == []


def test_the_folder_part_is_not_matched_by_the_last_part():
    assert meant("sub/s*") == []


def test_a_star_after_a_folder_is_everything_below():
    assert meant("sub/*") == ["sub/a.csv", "sub/c.txt", "sub/deep/c.txt", "sub/deep/er/d.txt", "sub/x"]


def test_a_star_crosses_folders():
    assert meant("s*") == [
        "other/sub/s.bin",
        "s",
        "sub/a.csv",
        "sub/c.txt",
        "sub/deep/c.txt",
        "sub/deep/er/d.txt",
        "sub/x",
        "subs/y",
    ]
    assert meant("s*d.txt") == ["sub/deep/er/d.txt"]
    assert meant("s*p/c.txt") == ["sub/deep/c.txt"]


def test_a_leading_slash_is_ignored_and_a_backslash_separates():
    assert meant("/sub/x") == meant("sub\\x") == meant("./sub//x") == ["sub/x"]


def test_without_recursion_the_pattern_has_as_many_parts_as_the_path():
    assert meant("*.txt", False) == ["a.txt", "c.txt"]
    assert meant("*/*.txt", False) == ["sub/c.txt"]
    assert meant("s*/?", False) == ["sub/x", "subs/y"]
    assert meant("*/*/*", False) == ["other/sub/s.bin", "sub/deep/c.txt"]
    assert meant("**", False) == ["a.txt", "c.txt", "data[1].csv", "s"]


def test_a_plain_folder_name_means_everything_below_it():
    below = ["sub/a.csv", "sub/c.txt", "sub/deep/c.txt", "sub/deep/er/d.txt", "sub/x"]
    assert meant("sub") == meant("sub/") == meant("/sub/") == below
    assert meant("sub/deep") == meant("sub/deep/") == ["sub/deep/c.txt", "sub/deep/er/d.txt"]


def test_a_plain_folder_name_counts_from_the_root():
    assert meant("deep") == []
    assert meant("er/") == []


def test_without_recursion_a_plain_folder_name_means_the_files_directly_in_it():
    assert meant("sub", False) == meant("sub/", False) == ["sub/a.csv", "sub/c.txt", "sub/x"]
    assert meant("sub/deep/", False) == ["sub/deep/c.txt"]


def test_a_trailing_slash_never_means_a_file():
    assert meant("s/") == meant("s/", False) == []
    assert meant("s") == meant("s", False) == ["s"]


def test_a_pattern_that_equals_a_path_matches_it_whatever_it_holds():
    assert meant("data[1].csv") == meant("data[1].csv", False) == ["data[1].csv"]
    for path in ("a*b", "what?", "[", "[!x]", "x/**/y", "we[ird]/*"):
        for recursive in (True, False):
            pattern = DatasetPattern(path, recursive)
            start, end = pattern.span()
            assert pattern.matches(path.encode())
            assert start <= path.encode() < (end or b"\xff")


def test_two_stars_and_a_slash_are_any_number_of_folders():
    assert meant("**/c.txt") == ["c.txt", "sub/c.txt", "sub/deep/c.txt"]
    assert meant("sub/**/er/d.txt") == ["sub/deep/er/d.txt"]
    assert meant("sub/**/deep/c.txt") == ["sub/deep/c.txt"]
    assert meant("sub/**") == meant("sub/*")


def test_a_set_or_a_question_mark_is_never_a_slash():
    assert meant("sub?x") == meant("sub[!a]x") == meant("sub[./]x") == []


@pytest.mark.parametrize(
    ("pattern", "recursive", "prefix"),
    [
        ("*.txt", True, b""),
        ("c.txt", True, b""),
        ("sub/c.txt", True, b"sub/"),
        ("sub/de*/x", True, b"sub/de"),
        ("sub/", True, b"sub/"),
        ("sub/[x]/y", True, b"sub/"),
        ("sub/[x/y", True, b"sub/[x/"),
        ("sub", False, b"sub"),
        ("sub/c*", False, b"sub/c"),
        (None, True, b""),
    ],
)
def test_only_the_part_of_a_version_that_can_match_must_be_read(pattern, recursive, prefix):
    assert DatasetPattern(pattern, recursive).prefix == prefix


# --- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a" * 30 + "b", "a" * 20_000),
        ("*" * 1000 + "b", "a" * 20_000),
        ("*?" * 30 + "[!a]", "a" * 20_000),
        ("**/" * 30 + "b", "a/" * 10_000 + "a"),
        ("**/a/" * 30 + "b", "a/" * 10_000 + "a"),
        ("**/*a*/" * 20 + "b", "aa/" * 7_000 + "a"),
        ("[" * 500, "[" * 499),
        ("*[a-b]*[!c]" * 20 + "c", "ab" * 10_000),
    ],
)
def test_a_pattern_made_to_blow_up_is_matched_in_linear_time(pattern, path):
    """With a matcher that tries every way to split the path among the stars, this would not end."""
    for matcher in (SourceFilter(pattern), SourceFilter(exclude=pattern), DatasetPattern(pattern)):
        matcher.matches(path.encode())
        matcher.matches(path.encode() + b"/" + path.encode())
    DatasetPattern(pattern, recursive=False).matches(path.encode())
    SourceFilter(pattern).enters(path.encode())
