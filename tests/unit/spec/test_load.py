from __future__ import annotations

import pytest

from dataset_tasks.errors import SpecError
from dataset_tasks.spec.load import load_spec

RAW = '  raw: {transform: {call: "m:f"}}\n'


def test_all_problems_of_a_file_come_at_once_with_their_places_and_suggestions(problems):
    found = problems(
        "version: 1\n"
        "name: flights\n"
        "project: nyc\n"
        "parms: {}\n"
        "datasets:\n"
        "  raw:\n"
        "    sync: {path: data/nyc}\n"
        "    tags: source\n"
        "  clean:\n"
        "    parnets: [raw]\n"
        "    inputs: [rwa]\n"
        '    transform: {call: "m:f"}\n'
        "  one: {parents: [two]}\n"
        "  two: {parents: [one]}\n"
        "  labels: {parents: [nyc/labels@], retries: many}\n",
        whole=True,
    )

    assert found == [
        "spec.yaml:4:1: parms: unknown key 'parms'; did you mean 'params'?",
        "spec.yaml:7:18: datasets.raw.sync.path: there is no 'data/nyc' in " + found[1].rpartition(" in ")[2],
        "spec.yaml:8:11: datasets.raw.tags: expected a list, found the text 'source'",
        "spec.yaml:10:5: datasets.clean.parnets: unknown key 'parnets'; did you mean 'parents'?",
        "spec.yaml:11:14: datasets.clean.inputs[0]: no dataset 'rwa' in this spec; did you mean 'raw'?",
        "spec.yaml:13:3: datasets.one: is part of a cycle: one needs two needs one",
        (
            "spec.yaml:15:22: datasets.labels.parents[0]: 'nyc/labels@' is not a reference to a version; write an id "
            "(32 hex digits), `project/name`, `project/name@1.0.3`, `@published`, `@latest` or `@alias`"
        ),
        "spec.yaml:15:45: datasets.labels.retries: expected a whole number, found the text 'many'",
    ]


def test_a_quoted_version_of_the_language_is_to_lose_its_quotes(problems):
    assert problems('version: "1"\nname: shop\nproject: shop\ndatasets:\n' + RAW, whole=True) == [
        "spec.yaml:1:10: version: expected 1, found the text '1'; write it without quotes"
    ]


def test_the_error_shows_all_problems_and_carries_them(write):
    path = write(RAW + "  b: {}\n  c: {}\n")

    with pytest.raises(SpecError) as caught:
        load_spec(path)
    error = caught.value

    assert error.kind == "spec"
    assert error.hint
    assert len(error.problems) == 2
    assert error.message.startswith(f"{path} has 2 problems:")
    assert all(problem in error.message for problem in error.problems)
    assert isinstance(error, ValueError)


CASES = {
    # --- the head
    "unquoted version number": (
        "version: 1.10\nname: x\nproject: p\ndatasets:\n" + RAW,
        "1:10: version: expected 1, found the number 1.1",
    ),
    "quoted language version": (
        'version: "1"\nname: x\nproject: p\ndatasets:\n' + RAW,
        "1:10: version: expected 1, found the text '1'",
    ),
    "a name that is a number": (
        "version: 1\nname: 3.10\nproject: p\ndatasets:\n" + RAW,
        '2:7: name: expected text, found the number 3.10; quote it: "3.10"',
    ),
    "a name no orchestrator takes": (
        "version: 1\nname: my flights\nproject: p\ndatasets:\n" + RAW,
        "2:7: name: 'my flights' can't be a name; use letters, digits, '.', '_' and '-'",
    ),
    "no name": ("version: 1\nproject: p\ndatasets:\n" + RAW, "1:1: the key 'name' is missing"),
    "no datasets": ("version: 1\nname: x\n", "1:1: the key 'datasets' is missing"),
    "empty datasets": ("version: 1\nname: x\ndatasets: {}\n", "3:11: datasets: is empty"),
    "datasets without value": (
        "version: 1\nname: x\ndatasets:\n",
        "3:10: datasets: has no value; expected a mapping, or leave the key out",
    ),
    "a list": ("- version: 1\n", "1:1: expected a mapping with the keys version, name and datasets at the top"),
    "no project": ("version: 1\nname: x\ndatasets:\n" + RAW, "4:3: datasets.raw: has no project; give one here or at"),
    # --- schedule
    "two schedules": ('schedule: {cron: "0 6 * * *", every: 6h}', "4:11: schedule: expected one of cron, every and after, found cron and every"),
    "no schedule in it": ("schedule: {timezone: UTC}", "4:11: schedule: expected one of cron, every and after, found none"),
    "bad cron": ('schedule: {cron: "0 25 * * *"}', "4:18: schedule.cron: '0 25 * * *' is not a cron expression: Bad hour"),
    "six fields": ('schedule: {cron: "0 0 6 * * *"}', "expected 5 fields (minute, hour, day, month, weekday), found 6"),
    "bad zone": ('schedule: {cron: "0 6 * * *", timezone: America/New_Yrok}', "4:41: schedule.timezone: 'America/New_Yrok' is not a time zone"),
    "bad start": ('schedule: {cron: "0 6 * * *", start: "1.1.2013"}', "4:38: schedule.start: '1.1.2013' is not a date"),
    "catchup without start": ('schedule: {cron: "0 6 * * *", catchup: true}', "4:40: schedule.catchup: catchup needs start"),
    "catchup yes": ('schedule: {cron: "0 6 * * *", catchup: yes}', "4:40: schedule.catchup: expected true or false, found the text 'yes'; write it as true or false, in small letters"),
    "every without unit": ("schedule: {every: 6}", "4:19: schedule.every: expected a duration such as 30s, 15m, 6h or 1d, found 6; write a unit"),
    "too often": ("schedule: {every: 5s}", "4:19: schedule.every: the shortest distance of runs is 1m"),
    "after itself": ("schedule: {after: [raw]}", "4:20: schedule.after[0]: 'raw' is made by this spec"),
    "after a version": ("schedule: {after: nyc/weather@prod}", "schedule.after: expected a dataset as project/name, found 'nyc/weather@prod'"),
    # --- params
    "param type": ("params: {late: {type: integer}}", "4:23: params.late.type: expected 'str', 'int', 'float', 'bool', 'list', 'dict' or 'date', found the text 'integer'"),
    "param default": ("params: {late: {type: int, default: many}}", "4:37: params.late.default: expected int, found 'many'"),
    "param default to quote": ("params: {code: {default: 12}}", '4:26: params.code.default: expected str, found 12; quote it: "12"'),
    "param name": ("params: {La-te: {}}", "4:10: params.La-te: 'La-te' can't be a parameter"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_problem_of_the_head_of_a_file(case, problems):
    text, expected = CASES[case]
    if not text.startswith(("version", "- ")):
        text = f"version: 1\nname: x\nproject: p\n{text}\ndatasets:\n{RAW}"

    found = problems(text, whole=True)

    assert len(found) == 1
    assert expected in found[0]


# The datasets begin in line 5.
DATASETS = {
    "key": ("  Raw: {previous: true}\n", "5:3: datasets.Raw: 'Raw' can't be a key"),
    "name": ("  raw: {name: my raw, previous: true}\n", "5:15: datasets.raw.name: 'my raw' can't be a name"),
    "project": ("  raw: {project: a//b, previous: true}\n", "5:18: datasets.raw.project: 'a//b' can't be a project"),
    "nothing in it": ("  raw: {tags: [a]}\n", "5:3: datasets.raw: nothing fills it; give it parents, add, external, sync"),
    "no value": ("  raw:\n", "5:7: datasets.raw: has no value; expected a mapping"),
    "made twice": (RAW + "  other: {name: raw, previous: true}\n", "6:3: datasets.other: makes crm/raw, as 'raw' in line 5 does"),
    "names too alike": ("  a_b: {previous: true}\n  other: {name: a-b, previous: true}\n", "6:3: datasets.other: crm/a-b and crm/a_b of line 5 differ only by '_' and '-'"),
    "unknown parent": (RAW + "  b: {parents: [raws]}\n", "6:17: datasets.b.parents[0]: no dataset 'raws' in this spec; did you mean 'raw'?"),
    "parent of another world": (RAW + "  b: {parents: [labels]}\n", "no dataset 'labels' in this spec; there are raw, b; a dataset made elsewhere is written project/name"),
    "own dataset with a selector": (RAW + "  b: {parents: [raw@latest]}\n", "'raw' is a dataset of this spec and means the version of this run"),
    "a step as parent": (RAW + "  b: {parents: ['step:raw.build']}\n", "'step:raw.build' is not a reference; write the key of the dataset"),
    "parent twice": (RAW + "  b: {parents: [raw, raw]}\n", "6:22: datasets.b.parents[1]: 'raw' is listed twice"),
    "unquoted number as parent": (RAW + "  b: {parents: [raw, 1.10]}\n", 'datasets.b.parents[1]: expected text, found the number 1.10; quote it: "1.10"'),
    "own parent": ("  a: {parents: [a]}\n", "5:3: datasets.a: needs itself; previous: true starts it from its own last version"),
    "long cycle": ("  a: {parents: [c]}\n  b: {parents: [a]}\n  c: {parents: [b]}\n  d: {parents: [a]}\n", "5:3: datasets.a: is part of a cycle: a needs c needs b needs a"),
    "inputs that nothing reads": (RAW + "  b: {parents: [raw], inputs: [crm/x]}\n", "6:23: datasets.b.inputs: inputs are only read by a transform, and there is none"),
    "two inputs of a name": ('  b: {inputs: [x/orders, y/orders], transform: {call: "m:f"}}\n', "5:26: datasets.b.inputs[1]: two inputs are named 'orders'; name them in a mapping"),
    "inputs of one variable": ('  b: {inputs: {a-b: x/y, a_b: x/z}, transform: {call: "m:f"}}\n', "datasets.b.inputs.a_b: the inputs 'a-b' and 'a_b' differ too little"),
    "an id without name": ('  b: {inputs: ["0123456789abcdef0123456789abcdef"], transform: {call: "m:f"}}\n', "gives the input no name; write it as a mapping: {name: reference}"),
    "input of a wrong form": ('  b: {inputs: {x: 3}, transform: {call: "m:f"}}\n', 'datasets.b.inputs.x: expected text, found the number 3; quote it: "3"'),
    "input without ref": ('  b: {inputs: {x: {files: "*"}}, transform: {call: "m:f"}}\n', "datasets.b.inputs.x: the key 'ref' is missing"),
    "input with a wrong key": ('  b: {inputs: {x: {ref: a/b, fiels: "*"}}, transform: {call: "m:f"}}\n', "unknown key 'fiels'; did you mean 'files'?"),
    "inputs of a wrong form": ('  b: {inputs: 3, transform: {call: "m:f"}}\n', "datasets.b.inputs: expected a list or a mapping, found the number 3"),
    "sync beside parents": (RAW + "  b: {parents: [raw], sync: {path: .}}\n", "6:29: datasets.b.sync: sync beside parents needs dataset_path"),
    "squash beside parents": (RAW + "  b: {squash: [raw], parents: [raw]}\n", "6:22: datasets.b.parents: parents can't stand beside squash"),
    "squash of nothing": ("  b: {squash: []}\n", "5:15: datasets.b.squash: names no version to squash"),
    "squash with a check": (RAW + "  b: {squash: [raw], check: {min_files: 1}}\n", "datasets.b.check: check can't stand beside squash"),
    "no source": ("  b: {add: [{path: no/such}]}\n", "5:20: datasets.b.add[0].path: there is no 'no/such' in "),
    "no path": ("  b: {add: [{wildcard: a}]}\n", "5:13: datasets.b.add[0]: the key 'path' is missing"),
    "both ways to transform": ('  b: {transform: {call: "m:f", run: [x]}}\n', "5:18: datasets.b.transform: expected one of call and run, found call and run"),
    "no way to transform": ("  b: {transform: {env: {A: b}}}\n", "expected one of call and run, found none"),
    "no function": ("  b: {transform: {call: module.f}}\n", "5:25: datasets.b.transform.call: expected \"module:function\", found 'module.f'"),
    "a shell": ("  b: {transform: {run: make all}}\n", "datasets.b.transform.run: expected a list, found the text 'make all'"),
    "arguments of a program": ("  b: {transform: {run: [x], with: {a: 1}}}\n", "5:29: datasets.b.transform.with: with gives a call its arguments"),
    "a value in env_from": ("  b: {transform: {run: [x], env_from: [A=b]}}\n", "'A=b' is not the name of a variable; values go under env"),
    "a number in env": ("  b: {transform: {run: [x], env: {A: 1}}}\n", 'datasets.b.transform.env.A: expected text, found the number 1; quote it: "1"'),
    "an empty check": ("  b: {previous: true, check: {severity: warn}}\n", "5:30: datasets.b.check: holds no gate"),
    "a check that nothing passes": ("  b: {previous: true, check: {min_files: 3, max_files: 2}}\n", "is less than min_files, 3: no version could pass"),
    "a share above one": ("  b: {previous: true, check: {max_change: 20}}\n", "datasets.b.check.max_change: expected at most 1.0, found 20"),
    "a reserved alias": ("  b: {previous: true, publish: {alias: latest}}\n", "5:40: datasets.b.publish.alias: 'latest' can't be an alias"),
    "an alias like a version": ('  b: {previous: true, publish: {alias: "1.0"}}\n', "'1.0' can't be an alias"),
    "publish of a wrong form": ("  b: {previous: true, publish: prod}\n", "datasets.b.publish: expected true, false or a mapping, found the text 'prod'"),
    "verify of a wrong form": ("  b: {previous: true, verify: fast}\n", "datasets.b.verify: expected true, false, 'hash' or 'size', found the text 'fast'"),
    "granularity": ("  b: {previous: true, granularity: datset}\n", "found the text 'datset'; did you mean 'dataset'?"),
    "negative retries": ("  b: {previous: true, retries: -1}\n", "5:32: datasets.b.retries: expected at least 0, found -1"),
    "true as a number": ("  b: {previous: true, retries: true}\n", "datasets.b.retries: expected a whole number, found the boolean true"),
    "option of the whole DAG": ("  b: {previous: true, airflow: {max_active_runs: 1}}\n", "is an option of the whole pipeline; write it under airflow at the top"),
    "unknown option": ("  b: {previous: true, airflow: {poll: x}}\n", "datasets.b.airflow.poll: unknown key 'poll'; did you mean 'pool'?"),
    "partition without start": ("  b: {previous: true, partition: '${run.date}'}\n", "partition needs schedule.start"),
    # --- not yet
    "external at a URL of another name": ("  b: {external: [{url: gcs://a/b}]}\n", "5:24: datasets.b.external[0].url: gcs:// URLs are not read"),
    "external where credentials are": ("  b: {external: [{url: 'http://169.254.169.254/b'}]}\n", "5:24: datasets.b.external[0].url: http://169.254.169.254/b leads to 169.254.169.254, where clouds keep the credentials of their machines"),
    "external with credentials": ("  b: {external: [{url: 'https://ana:pw@h/b'}]}\n", "5:24: datasets.b.external[0].url: the https URL at h holds credentials before its host"),
    "connection of a web page": ("  b: {external: [{url: 'http://a/b', connection: lake}]}\n", "5:24: datasets.b.external[0].url: http://a/b is read without a connection"),
    "keep of nothing": ("  b: {previous: true, keep: {}}\n", "5:29: datasets.b.keep: says nothing; give it last, published or for"),
    "keep of no version": ("  b: {previous: true, keep: {last: 0}}\n", "5:36: datasets.b.keep.last: expected at least 1, found 0"),
    "unknown key of keep": ("  b: {previous: true, keep: {lasts: 1}}\n", "5:30: datasets.b.keep.lasts: unknown key 'lasts'; did you mean 'last'?"),
    "keep for a number": ("  b: {previous: true, keep: {for: 90}}\n", "datasets.b.keep.for: expected a duration such as 30s, 15m, 6h or 1d, found 90; write a unit"),
    "partition of a dataset of this spec": ("  a: {previous: true}\n  b: {inputs: {a: {ref: a, partition: x}}, transform: {call: 'm:f'}}\n", "datasets.b.inputs.a.partition: 'a' is made by this spec: its version of this run is read"),
    "brackets in a partition": ("  b: {inputs: {a: {ref: c/a, partition: 'x]'}}, transform: {call: 'm:f'}}\n", "datasets.b.inputs.a.partition: 'x]' can't be a partition; it is text without brackets"),
    "approval of a wrong form": ("  b: {previous: true, publish: {approval: ana}}\n", "5:43: datasets.b.publish.approval: expected true, false or a mapping, found the text 'ana'"),
    "unknown key of an approval": ("  b: {previous: true, publish: {approval: {timout: 1d}}}\n", "5:44: datasets.b.publish.approval.timout: unknown key 'timout'; did you mean 'timeout'?"),
    "time to answer without a unit": ("  b: {previous: true, publish: {approval: {timeout: 30}}}\n", "5:53: datasets.b.publish.approval.timeout: expected a duration such as 30s, 15m, 6h or 1d, found 30; write a unit"),
    "another answer": ("  b: {previous: true, publish: {approval: {otherwise: no}}}\n", "datasets.b.publish.approval.otherwise: expected 'reject' or 'approve', found the text 'no'"),
    "connection of a source": ("  b: {add: [{path: ., connection: lake}]}\n", "5:23: datasets.b.add[0].connection: is for URLs, and '.' is a path of this machine"),
    "a source at a web server": ("  b: {sync: {path: 'http://a/b'}}\n", "5:20: datasets.b.sync.path: http://a/b can't be imported: http:// is no object store"),
    "credentials of a source": ("  b: {add: [{path: 's3://ana:pw@h/b'}]}\n", "5:20: datasets.b.add[0].path: the s3 URL at h holds credentials before its host"),
    "no table schema": ('  b: {previous: true, check: {tables: [{files: "*", schema: no.yaml}]}}\n', "datasets.b.check.tables[0].schema: there is no 'no.yaml' in "),
    # --- placeholders
    "unknown param": ("  b: {transform: {call: 'm:f', with: {x: '${params.lat}'}}}\n", "5:43: datasets.b.transform.with.x: no parameter 'lat'; declare it under params"),
    "unknown placeholder": ("  b: {transform: {run: [x, '${HOME}']}}\n", "datasets.b.transform.run[1]: unknown placeholder ${HOME}; environment variables are passed on with transform.env_from"),
    "nearly a placeholder": ("  b: {transform: {run: [x, '${run.dat}']}}\n", "unknown placeholder ${run.dat}; did you mean 'run.date'?"),
    "open placeholder": ("  b: {previous: true, description: 'a ${run.id'}\n", "a placeholder ${ is not closed by }"),
    "format of a param": ("  b: {previous: true, description: '${run.id:%Y}'}\n", "only run.date, run.interval_start and run.interval_end take a format"),
    "output outside": ("  b: {previous: true, description: '${output}'}\n", "${output} exists only in the arguments of transform.run"),
    "folder in an argument": ("  b: {inputs: [x/y], transform: {call: 'm:f', with: {a: '${inputs.y}'}}}\n", "${inputs.y} exists only in the arguments of transform.run"),
    "unknown input": ("  b: {inputs: [x/y], transform: {run: [a, '${inputs.z}']}}\n", "no input 'z'"),
    "code by placeholder": ("  b: {transform: {call: '${run.id}:f'}}\n", "placeholders are not read here: code is named, not computed"),
    "name by placeholder": ("  b: {previous: true, name: '${run.id}'}\n", "placeholders are not read here: the asset of a dataset has one name"),
}  # fmt: skip


@pytest.mark.parametrize("case", DATASETS)
def test_a_problem_of_a_dataset(case, problems):
    text, expected = DATASETS[case]

    found = [problem for problem in problems(text) if expected in problem]

    assert len(found) == 1, problems(text)


def test_what_is_wrong_with_a_dataset_is_told_once_where_it_stands(problems):
    assert problems("  b: {publish: {alais: x}, parents: [1]}\n  c: {parents: [b]}\n") == [
        "spec.yaml:5:17: datasets.b.publish.alais: unknown key 'alais'; did you mean 'alias'?",
        'spec.yaml:5:38: datasets.b.parents[0]: expected text, found the number 1; quote it: "1"',
    ]


def test_a_window_after_another_dataset_is_refused(problems):
    found = problems(
        "version: 1\nname: x\nproject: p\nschedule: {after: nyc/weather}\ndatasets:\n"
        "  b: {add: [{path: 'a/${run.date}'}]}\n",
        whole=True,
    )

    assert found == [
        "spec.yaml:6:23: datasets.b.add[0].path: ${run.date} has no value: a run after nyc/weather stands for no window"
    ]


def test_texts_that_can_not_be_meant_are_told(problems):
    found = problems(
        "version: true\nname: x\nproject: ''\nconnection: '${params.x}'\nstore: 's3://${params.x}/${profile.nam}'\n"
        "airflow: {owner: '${run.id}', on_failure_callback: tell, tags: ['']}\nprefect: {task_runner: my.threads}\n"
        "params: {y: {default: ''}}\n"
        "datasets:\n"
        "  b:\n"
        "    description: ''\n"
        "    metadata: {x: ''}\n"
        "    partition: ''\n"
        "    inputs: [p/a]\n"
        "    transform: {run: ['', ''], env: {A: ''}, env_from: [a-b, '', '${params.y}'], python: ''}\n"
        "    airflow: {on_failure_callback: 'm:'}\n"
        "    timeout: true\n",
        whole=True,
    )

    assert [problem.removeprefix("spec.yaml:") for problem in found] == [
        "1:10: version: expected 1, found true",
        "3:10: project: is empty; give it a value, or leave the key out",
        "4:13: connection: placeholders are not read here: it is used before the run",
        "5:14: store: no parameter 'x'; declare it under params",
        "5:26: store: unknown placeholder ${profile.nam}; did you mean 'profile.name'?",
        "6:18: airflow.owner: placeholders are not read here: it is used before the run",
        "6:52: airflow.on_failure_callback: expected \"module:function\", found 'tell'",
        "6:65: airflow.tags[0]: is empty; give it a value, or leave the key out",
        "7:24: prefect.task_runner: expected \"module:name\", found 'my.threads'",
        "10:3: datasets.b: has no project; give one here or at the top of the file",
        "13:16: datasets.b.partition: partition needs schedule.start, the first window",
        "15:23: datasets.b.transform.run[0]: is empty; the first item is the program",
        "15:57: datasets.b.transform.env_from[0]: 'a-b' is not the name of a variable; values go under env",
        "15:62: datasets.b.transform.env_from[1]: '' is not the name of a variable; values go under env",
        "15:66: datasets.b.transform.env_from[2]: '${params.y}' is not the name of a variable; values go under env",
        "15:90: datasets.b.transform.python: is empty; give it a value, or leave the key out",
        "16:36: datasets.b.airflow.on_failure_callback: expected \"module:function\", found 'm:'",
        "17:14: datasets.b.timeout: expected a duration such as 30s, 15m, 6h or 1d, found true; write a unit, such as 30s",
    ]


def test_every_placeholder_that_is_wrong_is_told_where_it_stands(problems):
    found = problems(
        "  b:\n"
        "    description: 'of ${run.dat}, ${run.date}, ${run.dat} and ${params.x}'\n"
        "    metadata:\n"
        "      long: >\n"
        "        ${run.id} here\n"
        "        and ${env.HOME} there ${run.id\n"
        "      same: &same a ${user}\n"
        "      alias: *same\n"
        '      hidden: "\\x24{group}"\n'
        "    previous: true\n"
    )

    assert [problem.removeprefix("spec.yaml:").partition(";")[0] for problem in found] == [
        "6:22: datasets.b.description: unknown placeholder ${run.dat}",
        "6:47: datasets.b.description: unknown placeholder ${run.dat}",
        "6:62: datasets.b.description: no parameter 'x'",
        "10:13: datasets.b.metadata.long: unknown placeholder ${env.HOME}",
        "10:31: datasets.b.metadata.long: a placeholder ${ is not closed by }",
        "11:21: datasets.b.metadata.same: unknown placeholder ${user}",
        "12:14: datasets.b.metadata.alias: unknown placeholder ${user}",
        "13:15: datasets.b.metadata.hidden: unknown placeholder ${group}",
    ]


#: What a field of numbers or flags says about the parameter that stands in it.
FILLED = {
    "a word as a number": ("{default: two}", 'check: {min_files: "${params.it}"}', "datasets.b.check.min_files: expected a whole number of at least 0, found ${params.it}, whose type is str; declare it with type: int in line 4"),
    "a word with digits": ('{default: "8"}', 'upload: {chunk_size: "${params.it}"}', "7:44: datasets.b.upload.chunk_size: expected a number above 0, found ${params.it}, whose type is str; declare it with type: float in line 4"),
    "a share as a whole number": ("{type: float}", 'upload: {max_workers: "${params.it}"}', "expected a whole number of at least 1, found ${params.it}, whose type is float; declare it with type: int in line 4"),
    "a number as a flag": ("{type: int, default: 1}", 'add: [{path: ., recursive: "${params.it}"}]', "datasets.b.add[0].recursive: expected true or false, found ${params.it}, whose type is int; declare it with type: bool in line 4"),
    "a flag as a number": ("{type: bool}", 'check: {max_files: "${params.it}"}', "whose type is bool; declare it with type: int"),
    "a list as a share": ("{type: list}", 'check: {max_change: "${params.it}"}', "expected a number of at least 0 and at most 1, found ${params.it}, whose type is list"),
    "no value as a number": ("{type: int, default: null}", 'check: {min_bytes: "${params.it}"}', "found ${params.it}, which may be null; give its default in line 4 a value"),
    "a default that is too small": ("{type: int, default: 0}", 'upload: {max_workers: "${params.it}"}', "datasets.b.upload.max_workers: expected a whole number of at least 1, found 0, the default of ${params.it} in line 4"),
    "a default that is too large": ("{type: float, default: 1.5}", 'check: {max_change: "${params.it}"}', "expected a number of at least 0 and at most 1, found 1.5, the default of ${params.it} in line 4"),
    "a day as a number": ("{type: int}", 'check: {min_files: "${run.date}"}', "expected a whole number of at least 0, found ${run.date}, which is text"),
}  # fmt: skip


@pytest.mark.parametrize("case", FILLED)
def test_a_parameter_that_can_not_fill_its_field_is_found_before_any_run(case, problems):
    param, field, expected = FILLED[case]

    found = problems(
        f"version: 1\nname: x\nproject: p\nparams: {{it: {param}}}\ndatasets:\n"
        f"  raw: {{transform: {{call: 'm:f'}}}}\n  b: {{previous: true, {field}}}\n",
        whole=True,
    )

    assert len(found) == 1
    assert expected in found[0]


@pytest.mark.parametrize("param", ["{type: integer}", "{type: int, default: many}", "{type: int, dflt: 3}"])
def test_a_parameter_that_is_wrong_itself_is_not_told_of_where_it_is_used(param, problems):
    found = problems(
        f"version: 1\nname: x\nproject: p\nparams: {{it: {param}}}\ndatasets:\n"
        "  b: {previous: true, check: {min_files: '${params.it}'}}\n",
        whole=True,
    )

    assert len(found) == 1
    assert found[0].startswith("spec.yaml:4:")


def test_a_number_may_fill_a_share_and_a_profile_may_mend_a_default(write, tmp_path):
    (tmp_path / "dataset-tasks.yaml").write_text("profiles: {small: {params: {it: 1}}, large: {params: {it: 2}}}\n")
    path = write(
        "version: 1\nname: x\nproject: p\nparams: {it: {type: int, default: 2}}\ndatasets:\n"
        "  b: {previous: true, check: {max_change: '${params.it}'}}\n",
        whole=True,
    )

    (param,) = load_spec(path, profile="small").params
    assert [(use.path, use.line, use.column) for use in param.uses] == [("datasets.b.check.max_change", 6, 43)]
    with pytest.raises(SpecError, match="found 2, the default of"):
        load_spec(path, profile="large")


def test_a_good_spec_with_every_key_has_no_problem(write, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "schema.yaml").touch()
    spec = load_spec(
        write(
            """\
version: 1
name: all
project: crm/eu
description: Everything
schedule: {cron: "0 6 * * 1-5", timezone: Europe/Berlin, start: "2013-01-01", catchup: true}
params:
  word: {type: str, default: x, description: A word}
  count: {type: int}
store: s3://lake/datasets
connection: lake
defaults: {retries: 3, retry_delay: 30s, timeout: 2h, granularity: dataset, on_unchanged: skip}
airflow: {owner: ana, tags: [a], pool: p, queue: q, priority_weight: 3, max_active_runs: 1, on_failure_callback: "m:f"}
prefect: {tags: [b], work_pool: w, task_runner: "m:r"}
datasets:
  raw:
    sync: {path: data, dataset_path: in, wildcard: ["*.csv"], exclude: "*.tmp"}
    name: raw.files
    project: other
    description: from ${params.word}
    doc: "Costs ${1}"
    tags: [a]
    metadata: {a: [1, null, {b: "${params.count}"}]}
    store: s3://elsewhere/x
    connection: other
    partition: "${run.date}"
    previous: false
    add: [{path: data, wildcard: "*.csv", exclude: [a], local_base_folder: data, dataset_path: x, recursive: false, on_error: skip}]
    upload: {compression: store, chunk_size: 0.5, max_workers: 3}
    retries: 1
    retry_delay: 1m
    timeout: 1h30m
    granularity: operation
    on_unchanged: version
    airflow: {pool: big}
    prefect: {tags: [c]}
  made:
    inputs: {raw: raw, old: {ref: "crm/orders@1.0.3", files: ["2026/*"]}}
    transform: {run: [python, "made.py", "${inputs.raw}", "${output}"], env: {A: "${run.id}"}, env_from: [HOME], python: python3, code_version: "1", always: true}
    check: {min_files: 1, max_files: 9, min_bytes: 1, max_change: 0.5, tables: [{files: "*.csv", schema: schema.yaml}], call: "m:f", severity: warn}
    remove: "**/tmp/*"
    verify: size
    publish: {alias: "prod"}
  flat: {squash: [made, crm/x@latest], verify: true, publish: true}
""",
            whole=True,
        ),
        environ={},
    )

    assert [definition.key for definition in spec.definitions] == ["raw", "made", "flat"]


def test_local_sources_are_not_looked_for_when_told_so(write):
    path = write("  b: {add: [{path: no/such}]}\n")

    assert load_spec(path, check_sources=False).definitions[0].key == "b"


def test_paths_with_placeholders_are_not_looked_for(write):
    load_spec(write("  b: {add: [{path: 'data/${run.id}'}]}\n"))


def test_a_file_that_is_not_there_is_a_problem_of_the_spec(tmp_path):
    with pytest.raises(SpecError, match="can't be read: No such file"):
        load_spec(tmp_path / "none.yaml")


def test_ten_thousand_datasets_in_a_line_load_without_recursion(write):
    lines = [RAW.replace("raw", "d0", 1)] + [f"  d{i}: {{parents: [d{i - 1}]}}\n" for i in range(1, 10_000)]
    spec = load_spec(write("".join(reversed(lines))))

    assert spec.definitions[0].key == "d0"
    assert len(spec.definitions) == 10_000


# --- dataset-tasks.yaml ----------------------------------------------------------------------------------------------

SHARED = """\
store: s3://shared/store
connection: shared
defaults: {retries: 7, timeout: 1h}
profiles:
  prod: {store: s3://prod/store, project_prefix: live/, connection: prod, params: {word: there}, airflow: {pool: big},
         schedule: {every: 6h}}
  hand: {schedule: false}
"""
WITH_PARAM = (
    'version: 1\nname: x\nproject: p\nschedule: {cron: "0 6 * * *"}\nparams: {word: {default: here}}\n'
    'defaults: {retries: 3}\nairflow: {pool: small, owner: ana}\ndatasets:\n  raw: {transform: {call: "m:f"}}\n'
)


@pytest.fixture
def shared(tmp_path):
    (tmp_path / "dataset-tasks.yaml").write_text(SHARED)


def test_settings_of_the_folder_stand_in_for_what_the_spec_leaves_open(shared, write):
    spec = load_spec(write(WITH_PARAM, whole=True), environ={})
    (raw,) = spec.definitions

    assert (spec.store, raw.store, raw.connection) == ("s3://shared/store", "s3://shared/store", "shared")
    assert (raw.retries, raw.timeout) == (3, 3600.0)
    assert raw.project == "p"


def test_settings_are_found_in_a_folder_above(shared, tmp_path):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "spec.yaml").write_text(WITH_PARAM)

    assert load_spec(inner / "spec.yaml", environ={}).store == "s3://shared/store"


@pytest.mark.parametrize("how", [{"profile": "prod"}, {"environ": {"DATASET_TASKS_PROFILE": "prod"}}])
def test_a_profile_replaces_what_the_spec_says(how, shared, write):
    spec = load_spec(write(WITH_PARAM, whole=True), **({"environ": {}} | how))
    (raw,) = spec.definitions

    assert (raw.project, raw.store, raw.connection) == ("live/p", "s3://prod/store", "prod")
    assert spec.params[0].default == "there"
    assert spec.airflow == {"pool": "big", "owner": "ana"}
    assert (spec.schedule.cron, spec.schedule.every) == (None, 21600.0)
    assert spec.profile == "prod"


def test_a_profile_can_take_the_schedule_away(shared, write):
    assert load_spec(write(WITH_PARAM, whole=True), profile="hand").schedule is None


def test_an_unknown_profile_is_a_problem_with_a_suggestion(shared, problems):
    found = problems(WITH_PARAM, whole=True, profile="prdo")

    assert found == ["dataset-tasks.yaml:5:3: profiles: no profile 'prdo'; did you mean 'prod'?"]


def test_a_profile_without_any_settings_is_a_problem(problems):
    assert "no dataset-tasks.yaml is in" in problems(WITH_PARAM, whole=True, profile="prod")[0]


def test_problems_of_the_settings_and_of_the_spec_come_together(tmp_path, problems):
    (tmp_path / "dataset-tasks.yaml").write_text("stroe: x\nprofiles: {prod: {params: {word: 3}, shcedule: false}}\n")

    assert problems(WITH_PARAM + "  b: {}\n", whole=True, profile="prod") == [
        "dataset-tasks.yaml:1:1: stroe: unknown key 'stroe'; did you mean 'store'?",
        "dataset-tasks.yaml:2:38: profiles.prod.shcedule: unknown key 'shcedule'; did you mean 'schedule'?",
        "spec.yaml:1:1: params.word: the profile 'prod' gives it: expected str, found 3; quote it: \"3\"",
        "spec.yaml:10:3: datasets.b: nothing fills it; give it parents, add, external, sync, transform, previous or squash",
    ]
