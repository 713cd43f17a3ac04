"""The rows of the fault catalogue, and the tests that hold each: what the scorecard counts.

A test names its rows at the start of its docstring (`R08. ...`); those that stood before are listed here. A row without a
test says why there is none.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
_ROW = re.compile(r"\b([RS]\d\d)\b")


@dataclass(frozen=True, slots=True)
class Row:
    """A fault. `tests` are functions of `tests/` beside those that name the row themselves; `reason` stands for none."""

    title: str
    tests: tuple[str, ...] = ()
    reason: str = ""


ROWS: Mapping[str, Row] = {
    "R01": Row("killed around create", ("faults/test_crashes.py::test_an_operation_that_was_interrupted_",)),
    "R02": Row("killed while files are added", ("faults/test_crashes.py::test_an_operation_that_was_interrupted_",)),
    "R03": Row("killed in upload", ("faults/test_crashes.py::test_an_operation_that_was_interrupted_",
                                    "unit/ops/test_reuse.py::test_files_that_failed_between_stored_ones_are_stored_by_the_next_call")),
    "R04": Row("killed in a multipart upload"),
    "R05": Row("killed in finalize", ("faults/test_crashes.py::test_an_operation_that_was_interrupted_",)),
    "R06": Row("killed in publish, squash or delete", ("faults/test_crashes.py::test_an_operation_that_was_interrupted_",)),
    "R07": Row("killed while a copy is made", ("faults/test_storage.py::test_a_maker_of_a_tree_killed_at_any_call_leaves_no_half_tree",
                                               "unit/cache/test_cache.py::test_what_a_killed_maker_left_goes_with_the_next_one")),
    "R08": Row("the parent of workers killed"),
    "R09": Row("told to stop: SIGTERM, cancel"),
    "R10": Row("retried after a success whose answer was lost", ("unit/ops/test_repeats.py::test_every_step_gives_what_it_gave_and_nothing_is_made",
                                                                "unit/ops/test_repeats.py::test_a_step_that_would_change_a_final_version_is_refused")),
    "R11": Row("the connection lost during COMMIT", ("contract/test_catalog.py::test_a_commit_that_landed_though_its_answer_was_lost_is_not_done_twice",
                                                     "contract/test_catalog.py::test_a_commit_whose_outcome_can_not_be_read_back_is_unknown")),
    "R12": Row("the answer of a conditional put lost"),
    "R13": Row("two workers finalize one version", ("faults/test_crashes.py::test_two_workers_lose_nothing_whatever_their_order",
                                                    "contract/test_catalog.py::test_one_of_two_writers_wins")),
    "R14": Row("two workers publish, upload or add at once", ("faults/test_crashes.py::test_eight_processes_that_add_to_one_draft_lose_nothing",
                                                              "contract/test_catalog.py::test_there_is_one_publish_event_a_version",
                                                              "semantics/test_mistakes_of_others.py::test_what_two_handles_add_at_once_is_all_there")),
    "R15": Row("two runs make the same version", ("contract/test_catalog.py::test_sixteen_writers_at_once_number_without_gaps_or_doubles",
                                                  "contract/test_catalog.py::test_ids_follow_from_the_operation_key")),
    "R16": Row("a version made while its parent is deleted", ("contract/test_catalog.py::test_a_child_of_a_version_that_is_not_final_is_refused",
                                                              "faults/test_crashes.py::test_two_workers_lose_nothing_whatever_their_order")),
    "R17": Row("deleted or collected while it is read"),
    "R18": Row("collected while it is written"),
    "R19": Row("a stopped worker goes on after its retry", ("faults/test_crashes.py::test_a_worker_that_goes_on_after_its_retry_ended_changes_nothing",)),
    "R20": Row("clocks that jump or differ"),
    "R21": Row("out of memory, a crash in native code"),
    "R22": Row("forks and other processes"),
    "R23": Row("fifty windows at once"),
    "R24": Row("many mapped tasks add to one version", ("faults/test_crashes.py::test_eight_processes_that_add_to_one_draft_lose_nothing",)),
    "R25": Row("the orchestrator's database restored from a copy", ("unit/ops/test_repeats.py::test_a_build_done_again_under_its_key_gives_its_version",)),
    "R26": Row("SQLite locked", ("contract/test_catalog.py::test_a_locked_database_is_a_clear_and_retryable_error",)),
    "R27": Row("the holder of a lock stopped", ("contract/test_catalog.py::test_a_locked_database_is_a_clear_and_retryable_error",)),
    "R28": Row("SQLite on a network, truncated or overwritten", ("contract/test_catalog.py::test_sqlite_on_a_network_file_system_is_refused",
                                                                 "contract/test_catalog.py::test_a_file_that_is_no_database_is_an_error_and_stays",
                                                                 "unit/test_beginning.py::test_a_catalog_file_that_was_cut_off_is_never_begun_anew")),
    "R29": Row("PostgreSQL down or restarted"),
    "R30": Row("a PostgreSQL backend killed, deadlocks, lock time-outs"),
    "R31": Row("PostgreSQL without its last transactions"),
    "R32": Row("older and newer schemas, migrations killed", ("contract/test_catalog.py::test_a_newer_catalog_is_refused",)),
    "R33": Row("connections run out"),
    "R34": Row("NUL bytes and lone surrogates", ("contract/test_catalog.py::test_text_that_no_database_can_hold_is_refused",
                                                 "semantics/test_names.py::test_texts_that_no_catalog_can_hold_are_refused_by_name")),
    "R35": Row("a million entries", ("unit/manifest/test_reading.py::test_opening_and_asking_for_totals_reads_nothing",
                                     "semantics/test_graph_entries_logger.py::test_iterating_a_large_version_does_not_build_all_entries_at_once")),
    "R36": Row("an object store fails once"),
    "R37": Row("an object store says slow down for ever"),
    "R38": Row("an object store hangs"),
    "R39": Row("an answer cut short"),
    "R40": Row("bits that flip on the way or at rest"),
    "R41": Row("a part that fails for ever"),
    "R42": Row("200 with an error in it"),
    "R43": Row("a conditional put on a taken key", ("contract/test_store.py::test_of_many_create_only_at_once_exactly_one_wins",)),
    "R44": Row("an object seen late"),
    "R45": Row("credentials that expire, 403, no bucket"),
    "R46": Row("a clock that the object store refuses"),
    "R47": Row("bit rot in a chunk", ("semantics/test_mistakes_of_others.py::test_whatever_rots_in_the_store_a_read_gives_the_right_bytes_or_an_error_that_names_it",
                                      "unit/test_members.py::test_any_flipped_bit_is_found")),
    "R48": Row("a missing chunk or manifest", ("unit/test_copies.py::test_a_missing_chunk_damages_all_that_it_held",
                                               "unit/manifest/test_overlay.py::test_a_damaged_pack_is_told_from_a_missing_one")),
    "R49": Row("a manifest that was tampered with", ("unit/manifest/test_packs.py::test_paths_are_checked_when_they_are_read",
                                                     "unit/manifest/test_packs.py::test_a_segment_that_is_not_what_the_index_says_is_an_integrity_error",
                                                     "unit/manifest/test_index.py::test_an_index_that_does_not_add_up_is_an_integrity_error")),
    "R50": Row("the catalog lost"),
    "R51": Row("the store lost"),
    "R52": Row("other file systems, no links", ("unit/store/test_local.py::test_create_only_works_without_hard_links",
                                                "unit/cache/test_cache.py::test_without_hard_links_files_are_copied")),
    "R53": Row("a cached file edited", ("unit/cache/test_cache.py::test_a_file_that_changed_is_brought_back",
                                        "semantics/test_copies.py::test_a_cached_file_that_changed_since_is_found_and_fetched_again")),
    "R54": Row("full disks", ("faults/test_disks.py::test_an_upload_to_a_full_disk_goes_on_once_there_is_space",
                              "faults/test_disks.py::test_a_catalog_on_a_full_disk_says_so_and_goes_on_once_there_is_space",
                              "faults/test_storage.py::test_a_full_disk_under_a_store_loses_nothing_and_leaves_nothing")),
    "R55": Row("no inodes", ("faults/test_storage.py::test_a_disk_without_inodes_is_named_as_such",)),
    "R56": Row("a disk that fails", ("unit/store/test_local.py::test_a_failed_fsync_is_not_tried_again",)),
    "R57": Row("read-only disks", ("faults/test_storage.py::test_a_read_only_disk_is_told_before_anything_is_read",
                                   "faults/test_disks.py::test_an_upload_to_a_read_only_store_is_refused_and_works_once_it_is_writable")),
    "R58": Row("no file descriptors, interrupted calls", ("faults/test_disks.py::test_without_open_files_an_upload_fails_with_an_error_of_ours_and_succeeds_when_there_are_some",
                                                          "unit/test_scan.py::test_few_open_files_are_enough")),
    "R59": Row("a source that changes while it is read", ("unit/test_scan.py::test_a_file_that_changes_while_it_is_read_is_an_error",
                                                          "unit/test_scan.py::test_files_touched_just_before_they_were_read_are_read_again",
                                                          "semantics/test_mistakes_of_others.py::test_a_file_that_changed_between_add_and_upload_never_gets_the_old_hash")),
    "R60": Row("a source that goes or becomes something else", ("unit/test_scan.py::test_a_file_that_is_gone_or_something_else_when_it_is_opened_is_an_error",
                                                                "unit/test_scan.py::test_a_folder_that_is_gone_or_something_else_when_it_is_entered_is_an_error",
                                                                "semantics/test_upload.py::test_sources_that_vanished_are_all_named")),
    "R61": Row("sources that can't be read", ("unit/test_scan.py::test_all_that_can_not_be_read_is_named_at_once",
                                              "semantics/test_add_files.py::test_unreadable_sources_are_one_error_that_lists_them_all_and_nothing_changes")),
    "R62": Row("loops of links, links that lead out", ("unit/test_scan.py::test_loops_and_dangling_links_are_errors_that_name_them",
                                                       "unit/test_scan.py::test_linked_folders_are_not_entered_but_noted")),
    "R63": Row("pipes, sockets, devices, files of /proc", ("unit/test_scan.py::test_fifos_sockets_and_devices_are_left_out_never_opened_and_noted",
                                                          "unit/test_scan.py::test_files_that_hold_more_than_their_size_are_errors")),
    "R64": Row("sparse and huge files", ("unit/test_scan.py::test_sparse_files_are_read_without_holding_them_in_memory",
                                         "unit/test_zipformat.py::test_tools_read_a_member_of_5_gib_and_one_beyond_4_gib",
                                         "unit/test_chunks.py::test_memory_does_not_grow_with_large_files")),
    "R65": Row("very many files", ("unit/test_scan.py::test_depth_costs_neither_recursion_nor_open_files",
                                   "unit/test_scan.py::test_what_waits_behind_a_slow_file_is_bounded")),
    "R66": Row("paths longer than the system takes", ("unit/test_scan.py::test_a_tree_deeper_than_a_path_can_be_is_scanned_whole",
                                                      "semantics/test_names.py::test_a_path_longer_than_the_system_takes_at_once_reads_back")),
    "R67": Row("empty files, folders and versions", ("semantics/test_add_files.py::test_empty_files_are_kept",
                                                     "semantics/test_add_files.py::test_empty_folders_are_not_kept",
                                                     "semantics/test_finalize_publish.py::test_an_empty_version_finalizes")),
    "R68": Row("names of every kind", ("semantics/test_names.py::test_files_of_every_name_read_back_byte_for_byte_by_every_way",
                                       "semantics/test_names.py::test_no_name_moves_the_cursor_of_a_terminal")),
    "R69": Row("names that differ by case or Unicode form", ("semantics/test_names.py::test_twins_by_unicode_form_or_case_are_two_files",
                                                             "semantics/test_copies.py::test_names_that_the_target_can_not_tell_apart_are_an_error_naming_the_pair")),
    "R70": Row("names that would be bad object keys", ("semantics/test_names.py::test_no_name_of_a_file_becomes_the_name_of_an_object",
                                                       "contract/test_store.py::test_what_is_no_key_is_refused_by_every_call")),
    "S01": Row("paths that lead out", ("unit/test_paths.py::test_what_leads_out_or_is_ambiguous_is_no_path",
                                       "unit/test_copies.py::test_a_manifest_with_a_path_that_is_none_is_refused_before_anything_is_written")),
    "S02": Row("links planted in targets", ("unit/test_copies.py::test_a_link_in_place_of_a_folder_is_not_followed",
                                            "unit/test_mutable.py::test_a_link_is_refused_wherever_it_points",
                                            "unit/test_mutable.py::test_the_root_the_home_and_the_working_folder_are_refused_and_those_above")),
    "S03": Row("archives that write elsewhere"),
    "S04": Row("zip bombs", ("unit/test_members.py::test_a_bomb_is_never_inflated_beyond_the_size_of_the_manifest",)),
    "S05": Row("data that inflates beyond its size", ("unit/test_members.py::test_a_large_member_that_inflates_much_is_read_in_small_pieces",
                                                      "unit/test_members.py::test_a_manifest_that_lies_about_the_size_is_found")),
    "S06": Row("tags of YAML", ("unit/spec/test_document.py::test_what_is_refused_says_where_and_what_to_do",)),
    "S07": Row("bombs of YAML", ("unit/spec/test_document.py::test_aliases_that_multiply_are_stopped_before_they_do",
                                 "unit/spec/test_document.py::test_depth_is_limited_without_recursion")),
    "S08": Row("YAML that refers to itself"),
    "S09": Row("keys that stand twice", ("unit/spec/test_document.py::test_what_is_refused_says_where_and_what_to_do",)),
    "S10": Row("numbers and words that YAML turns into something else", ("unit/spec/test_document.py::test_numbers_that_readers_differ_on_or_json_lacks_are_to_be_quoted",
                                                                        "unit/spec/test_document.py::test_plain_scalars_are_read_by_the_core_rules_of_yaml_1_2")),
    "S11": Row("lineage that goes in circles, or is wrong in other ways", ("unit/spec/test_load.py::test_a_problem_of_a_dataset",
                                                                          "unit/spec/test_load.py::test_ten_thousand_datasets_in_a_line_load_without_recursion")),
    "S12": Row("text that would be evaluated"),
    "S13": Row("wildcards of SQL in names", ("contract/test_catalog.py::test_a_part_of_a_name_is_literal",
                                             "semantics/test_mistakes_of_others.py::test_a_partial_name_is_no_regular_expression")),
    "S14": Row("patterns that blow up", ("unit/test_paths.py::test_a_pattern_made_to_blow_up_is_matched_in_linear_time",)),
    "S15": Row("secrets in URLs, logs, errors, rows and results"),
    "S16": Row("pickles and other code in data"),
    "S17": Row("URLs that lead inside", ("unit/external/test_policy.py::test_where_clouds_keep_credentials_nothing_is_read", "unit/external/test_policy.py::test_other_hosts_are_no_metadata_services", "unit/external/test_policy.py::test_only_what_lies_below_the_list_is_read_where_there_is_one", "unit/external/test_policy.py::test_files_are_read_below_the_folders_of_the_list_wherever_links_lead", "unit/external/test_policy.py::test_what_a_transform_writes_is_added_whatever_the_list_says", "unit/external/test_policy.py::test_an_empty_list_allows_nothing", "unit/external/test_policy.py::test_a_link_that_somebody_else_added_is_not_read_either" )),
    "S18": Row("files that others may write"),
    "S19": Row("markup in users' texts"),
    "S20": Row("digests that mean two things", ("unit/manifest/test_digest.py::test_digests_never_change",
                                                "unit/manifest/test_digest.py::test_digests_are_equal_exactly_when_the_content_is")),
    "S21": Row("code that a spec or a package brings in"),
}  # fmt: skip


@cache
def functions() -> Mapping[str, str]:
    """Every test of the project as `file::name`, with its docstring."""
    found = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                found[f"{path.relative_to(TESTS)}::{node.name}"] = ast.get_docstring(node) or ""
    return found


def named(row: str) -> Iterator[str]:
    """The tests whose docstring begins with the row."""
    for name, text in functions().items():
        head = text.partition(".")[0] if text else ""
        if row in _ROW.findall(head):
            yield name


def held_by(row: str) -> list[str]:
    """Every test that holds a row, each once; a listed one may be the beginning of a name."""
    listed = [name for part in ROWS[row].tests for name in functions() if name.startswith(part)]
    return list(dict.fromkeys((*listed, *named(row))))
