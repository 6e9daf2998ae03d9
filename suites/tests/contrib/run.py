# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
"""Tests of contrib/ and of the parsers of TAP, with the programs from PyPI: ReFrame, tmt, meson and tap.py.

    python3 run.py DFR0

runs in a Python that has them (`make test-contrib` makes one), from the top of the tree. DFR0 is a dfr0 for this machine. Lab hosts
stand for the nodes.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from mesonbuild.mtest import TAPParser
from tap.parser import Parser

TOP = Path.cwd()
DFR0 = Path(sys.argv[1]).absolute()
BIN = Path(sys.executable).parent
IN_LAB_HOST = TOP / 'contrib/in-lab-host'
EXAMPLE = TOP / 'docs/results.example.jsonl'


def run(*command, **options):
    """The exit status and the output of a command."""
    ended = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)
    return ended.returncode, ended.stdout + ended.stderr


def check(what, good, shown=''):
    print(f'contrib: {"ok" if good else "FAILED"}: {what}', flush=True)
    if not good:
        sys.exit(f'{shown}\n{what}')


def dies(folder):
    """A program that leaves what a host that died left: two of five results, and the start of the third."""
    program = folder / 'dies'
    begun = folder / 'begun.jsonl'
    lines = EXAMPLE.read_text(encoding='utf-8').splitlines(keepends=True)
    begun.write_text(''.join(lines[:3]) + lines[3][:40], encoding='utf-8')
    program.write_text(f'#!/bin/sh\ncat {begun}\n', encoding='utf-8')
    program.chmod(0o755)
    return program, begun


def passes(folder):
    """A program whose host has no failing case, but each other outcome."""
    results = folder / 'good.jsonl'
    records = [json.loads(line) for line in EXAMPLE.read_text(encoding='utf-8').splitlines()]
    records[-1]['totals'].update({'pass': 2, 'fail': 0})
    records[2].update({'outcome': 'pass', 'findings': [], 'deviations': []})
    results.write_text(''.join(json.dumps(record) + '\n' for record in records), encoding='utf-8')
    program = folder / 'passes'
    program.write_text(f'#!/bin/sh\ncat {results}\n', encoding='utf-8')
    program.chmod(0o755)
    return program


def parsers(folder, begun):
    whole, dead = folder / 'whole.tap', folder / 'dead.tap'
    whole.write_text(run(DFR0, 'report', 'ktap', EXAMPLE)[1], encoding='utf-8')
    dead.write_text(subprocess.run([DFR0, 'report', 'ktap', begun], stdout=subprocess.PIPE, text=True, check=False).stdout,
                    encoding='utf-8')

    def meson(path):
        with path.open(encoding='utf-8') as file:
            events = list(TAPParser().parse(file))
        tests = [(event.name, event.result.name) for event in events if isinstance(event, TAPParser.Test)]
        return tests, [type(event).__name__ for event in events]

    expected = [('s.a', 'OK'), ('s.b', 'FAIL'), ('s.c', 'SKIP'), ('s.d', 'OK'), ('s.e', 'OK')]
    tests, events = meson(whole)
    check('meson reads each outcome', tests == expected and 'Error' not in events, tests)
    tests, events = meson(dead)
    check('meson sees that a host died', tests == expected[:2] and 'Bailout' in events, events)

    def tap_py(path):
        lines = list(Parser().parse_file(str(path)))
        tests = [(line.description, line.ok, line.skip) for line in lines if line.category == 'test']
        return tests, [line.category for line in lines]

    expected = [('s.a', True, False), ('s.b', False, False), ('s.c', True, True), ('s.d', True, False), ('s.e', True, False)]
    tests, _ = tap_py(whole)
    check('tap.py reads each outcome', tests == expected, tests)
    tests, categories = tap_py(dead)
    check('tap.py sees that a host died', tests == expected[:2] and 'bail' in categories, categories)


def reframe(folder, dfr0, *options, nodes=''):
    here = TOP / 'contrib/reframe'
    return run(BIN / 'reframe', '--nocolor', '--prefix', folder, '-C', here / 'settings.py', '-c', here / 'dfr0.py', '--system', 'here',
               '-S', f'dfr0={dfr0}', *options, cwd=folder, env=os.environ | {'DFR0_NODES': nodes})


def reframe_checks(folder, good, bad):
    listed = json.loads(run(DFR0, 'list', '--format', 'json')[1])
    suites = sorted({case['suite'] for case in listed})
    status, said = reframe(folder, good, '-n', 'dfr0_suite', '-l')
    check('ReFrame knows each suite', status == 0 and all(f'%suite={suite} ' in said for suite in suites)
          and f'Found {len(suites)} check(s)' in said, said)
    one = ('-n', '%suite=os_lock', '-r', '--performance-report')
    status, said = reframe(folder, good, *one)
    check('ReFrame passes a host without a failure and reads its numbers', status == 0 and 'known_deviations: 1 cases' in said, said)
    status, said = reframe(folder, f'{DFR0} report ktap', *one)
    check('ReFrame fails what are not results', status != 0, said)
    status, said = reframe(folder, bad, *one)
    check('ReFrame fails a host that died', status != 0 and 'the run did not end: 2 cases did' in said, said)
    example = folder / 'example'
    example.write_text(f'#!/bin/sh\ncat {EXAMPLE}\n', encoding='utf-8')
    example.chmod(0o755)
    status, said = reframe(folder, example, *one)
    check('ReFrame names what failed', status != 0 and 'failed: s.b' in said, said)
    status, said = reframe(folder, IN_LAB_HOST, '-n', '%suite=(os_lock|double_lock)', '-S', 'dfr0_suite.every=16', '-r')
    check('ReFrame runs two suites in a lab host', status == 0 and 'Ran 2/2' in said, said)
    status, said = reframe(folder, IN_LAB_HOST, '-n', 'dfr0_table', '-S', f'dfr0_table.here={DFR0}', '-r',
                           nodes='neoverse-n1 neoverse-v1')
    check('ReFrame moves guests between two lab hosts', status == 0 and 'Ran 7/7' in said, said)


def tmt(folder, dfr0, arguments):
    variables = {'DFR0': dfr0, 'ARGS': arguments, 'HOME': os.environ['HOME']}
    # The quotes are for the blanks: tmt splits an option as a shell does.
    environment = [part for name, value in variables.items() for part in ('-e', f"'{name}={value}'")]
    # Its step `prepare` would install packages on this machine.
    status, said = run(BIN / 'tmt', '--feeling-safe', 'run', '--scratch', '-i', folder / 'tmt', *environment, '-S', 'prepare',
                       cwd=TOP / 'contrib/tmt')
    results = yaml.safe_load((folder / 'tmt/dfr0/plan/execute/results.yaml').read_text(encoding='utf-8'))
    return status, said, {result['name']: result['result'] for result in results}


def tmt_checks(folder, bad):
    _, said, results = tmt(folder, bad, 'os_lock')
    names = {name.rsplit('/test/', 1)[-1]: result for name, result in results.items()}
    check('tmt sees that a host died', names.get('all-reported') == 'error' and names.get('s/b') == 'fail', f'{said}{results}')
    status, said, results = tmt(folder, IN_LAB_HOST, 'os_lock double_lock --every 16')
    check('tmt has a result for each case in a lab host', status == 0 and len(results) > 35 and 'info' in results.values(),
          f'{said}{results}')


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bad, begun = dies(folder)
        parsers(folder, begun)
        reframe_checks(folder, passes(folder), bad)
        tmt_checks(folder, bad)


main()
