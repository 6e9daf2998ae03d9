# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
"""Prints a file of dfr0's results as results of tmt. (JSON is YAML.)

A known deviation is `info`. A known deviation that is gone is `warn`, which tmt's JUnit makes an error: it is to be looked at.
"""

import json
import sys

RESULT = {'pass': 'pass', 'fail': 'fail', 'xfail': 'info', 'xpass': 'warn', 'skip': 'skip'}


def result(case):
    notes = [finding['observed'] for finding in case['findings']]
    notes += [f"known deviation {deviation['name']}: {deviation['why']}" for deviation in case['deviations']]
    notes += [case['stopped']['why']] if case['stopped'] else []
    seconds = case['milliseconds'] // 1000
    return {
        'name': '/' + case['name'].replace('.', '/'),
        'result': RESULT[case['outcome']],
        'note': notes,
        'duration': f'{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}',
        'log': ['results.jsonl'],
    }


def main():
    with open(sys.argv[1], encoding='utf-8') as file:
        # The last line of a run that was killed may not be whole.
        records = [json.loads(line) for line in file if line.endswith('\n')]
    results = [result(record) for record in records if record['record'] == 'case']
    last = records[-1] if records else {'record': 'nothing'}
    if last['record'] == 'unavailable':
        results.append({'name': '/all-reported', 'result': 'skip', 'note': [last['reason']]})
    elif last['record'] != 'end':
        why = f'the run did not end: {len(results)} cases did'
        results.append({'name': '/all-reported', 'result': 'error', 'note': [why], 'log': ['results.jsonl']})
    json.dump(results, sys.stdout, indent=2)


main()
