from __future__ import annotations

from zlib import crc32

from dataset_tasks.manifest.segments import CUTS, CutRule, PathRange

PATHS = [b"images/%06d.jpg" % n for n in range(20_000)]


def _lengths(rule: CutRule, paths: list[bytes]) -> list[int]:
    start, lengths = 0, []
    while (end := rule.next_cut(paths, start)) is not None:
        lengths.append(end - start)
        start = end
    return [*lengths, len(paths) - start]


def test_the_rule_of_layout_1_is_512_512_4096():
    assert (CUTS.least, CUTS.modulus, CUTS.most) == (512, 512, 4096)


def test_segments_end_before_a_path_whose_crc_is_0_within_the_limits():
    *lengths, _ = _lengths(CUTS, PATHS)
    assert all(512 <= length <= 4096 for length in lengths)
    start = 0
    for length in lengths:
        inside = PATHS[start + 512 : start + length]
        assert all(crc32(path) % 512 for path in inside)
        start += length
        assert length == 4096 or crc32(PATHS[start]) % 512 == 0


def test_a_segment_that_meets_no_such_path_ends_at_the_limit():
    never = CutRule(least=1, modulus=2**33, most=10)
    paths = [path for path in PATHS if crc32(path)]
    assert _lengths(never, paths[:25]) == [10, 10, 5]
    assert _lengths(never, paths[:20]) == [10, 10, 0]


def test_where_a_segment_ends_may_be_open():
    rule = CutRule(least=2, modulus=2**33, most=4)
    assert rule.next_cut(PATHS[:3], 0) is None
    assert rule.next_cut(PATHS[:4], 0) == 4
    assert rule.next_cut(PATHS[:4], 1) is None


def test_a_run_closes_at_the_limit_at_a_cut_or_at_the_end():
    cut = next(path for path in PATHS if crc32(path) % 512 == 0)
    no_cut = next(path for path in PATHS if crc32(path) % 512)
    assert CUTS.closes(1, None)
    assert CUTS.closes(512, cut)
    assert not CUTS.closes(511, cut)
    assert not CUTS.closes(4095, no_cut)
    assert CUTS.closes(4096, no_cut)


def test_a_folder_is_the_range_of_what_lies_below_it():
    below = PathRange.under(b"/labels/")
    assert below == PathRange.under(b"labels")
    assert below.contains(b"labels/a")
    assert below.contains(b"labels/\xff")
    for other in (b"labels", b"labels-1/a", b"labels.txt", b"labels0", b"a", b"z"):
        assert not below.contains(other)


def test_the_root_is_everything():
    assert PathRange.under(b"") == PathRange() == PathRange.under(b"/")
    assert PathRange().covers(b"\0", b"\xff")


def test_one_path_is_a_range_too():
    only = PathRange.only(b"a")
    assert only.contains(b"a")
    assert not only.contains(b"a\0")
    assert not only.contains(b"a/b")
    assert only.covers(b"a", b"a")
    assert not only.covers(b"a", b"b")
