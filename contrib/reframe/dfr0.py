# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
"""dfr0 on a fleet, by ReFrame 4 (docs/engines.md).

    reframe -C settings.py -c dfr0.py -n dfr0_suite -r --performance-report
    reframe -C settings.py -c dfr0.py -n dfr0_certify --distribute=all -r
    DFR0_NODES='node1 node2' reframe -C settings.py -c dfr0.py -n dfr0_table -r

`-S dfr0=/shared/dfr0/dfr0` names the program on the nodes, whose folder has expected/ too. Each test keeps its results as
results.jsonl in its output folder, for `dfr0 report`.
"""

import json
import os
import shutil

import reframe as rfm
import reframe.utility.sanity as sn
from reframe.core.builtins import (parameter, performance_function, run_after, run_before, sanity_function, variable)

SUITES = ['aarch32', 'below_el2', 'breakpoints', 'double_lock', 'exception_masking', 'guest_debug', 'id_regs', 'linked_context',
          'migration', 'nested', 'os_lock', 'preemption', 'protected', 'random', 'register_access', 'shapes', 'software_step',
          'watchpoints']
# The nodes between which guests move.
NODES = os.environ.get('DFR0_NODES', '').split()


class Dfr0(rfm.RunOnlyRegressionTest):
    """A command of dfr0 on a node."""

    dfr0 = variable(str, value='dfr0')
    valid_systems = ['*']
    valid_prog_environs = ['*']
    time_limit = '30m'

    @run_before('run')
    def set_program(self):
        self.executable = self.dfr0


@rfm.simple_test
class dfr0_suite(Dfr0):
    """The cases of a suite: no case may fail, and all must have a result."""

    suite = parameter(SUITES)
    every = variable(int, value=1)
    keep_files = ['results.jsonl']

    @run_before('run')
    def set_options(self):
        self.executable_opts = ['run', '--every', str(self.every), self.suite, '--results', '-', '>', 'results.jsonl']

    def records(self, kind):
        with open(os.path.join(self.stagedir, 'results.jsonl'), encoding='utf-8') as file:
            # The last line of a run that was killed may not be whole.
            records = [json.loads(line) for line in file if line.endswith('\n')]
        return [record for record in records if record['record'] == kind]

    @sanity_function
    def no_case_failed(self):
        unavailable = self.records('unavailable')
        self.skip_if(bool(unavailable), unavailable[0]['reason'] if unavailable else '')
        failed = [case['name'] for case in self.records('case') if case['outcome'] == 'fail']
        end = self.records('end')
        return sn.all([
            sn.assert_true(bool(end), f"the run did not end: {len(self.records('case'))} cases did"),
            sn.assert_eq(failed, [], f'failed: {", ".join(failed)}'),
        ])

    @performance_function('cases')
    def passed(self):
        return self.records('end')[0]['totals']['pass']

    @performance_function('cases')
    def known_deviations(self):
        return self.records('end')[0]['totals']['xfail']

    @performance_function('cases')
    def skipped(self):
        return self.records('end')[0]['totals']['skip']

    @performance_function('ms')
    def took(self):
        return sum(case['milliseconds'] for case in self.records('case'))


@rfm.simple_test
class dfr0_certify(Dfr0):
    """Every case, and all that was found as an archive: host.dfr0."""

    time_limit = '60m'
    executable_opts = ['certify', '--out', '-', '>', 'host.dfr0']
    keep_files = ['host.dfr0']

    @sanity_function
    def conforms(self):
        return sn.assert_found(r'^verdict: this host conforms', self.stderr)


class OnNode(Dfr0):
    """A command on one node, whose output is a file that the other nodes read."""

    node = parameter(NODES)

    @run_before('run')
    def stay_on_node(self):
        self.env_vars = {'DFR0_NODE': self.node}
        if self.current_partition.scheduler.registered_name != 'local':
            self.job.options += [f'--nodelist={self.node}']

    def written_by(self, *tests):
        """Links what these tests wrote, for each node, into the folder `pairs`."""
        folder = os.path.join(self.stagedir, 'pairs')
        os.makedirs(folder, exist_ok=True)
        for test in tests:
            for variant in range(test.num_variants):
                written = self.getdep(test.variant_name(variant))
                shutil.copy(os.path.join(written.stagedir, written.out), folder)

    def after(self, *tests):
        for test in tests:
            for variant in range(test.num_variants):
                self.depends_on(test.variant_name(variant))

    def writes(self, out, options):
        self.out = f'{self.node}.{out}'
        self.executable_opts = [*options, '>', self.out]

    @sanity_function
    def has_written(self):
        return sn.assert_gt(os.path.getsize(os.path.join(self.stagedir, self.out)), 0)


@rfm.simple_test
class dfr0_fingerprint(OnNode):
    """What a node shows to guests."""

    @run_before('run')
    def set_options(self):
        self.writes('host.json', ['host', 'show', '--json'])


@rfm.simple_test
class dfr0_save(OnNode):
    """Scenarios, saved on a node in each shape that another needs."""

    @run_after('init')
    def need(self):
        self.after(dfr0_fingerprint)

    @run_before('run')
    def set_options(self):
        self.written_by(dfr0_fingerprint)
        self.writes('snapshots', ['pairs', 'save', '--host', self.node, 'pairs'])


@rfm.simple_test
class dfr0_restore(OnNode):
    """What the other nodes saved, restored on a node."""

    @run_after('init')
    def need(self):
        self.after(dfr0_fingerprint, dfr0_save)

    @run_before('run')
    def set_options(self):
        self.written_by(dfr0_fingerprint, dfr0_save)
        self.writes('outcomes.json', ['pairs', 'restore', '--host', self.node, 'pairs'])


@rfm.simple_test
class dfr0_table(Dfr0):
    """The plan and the outcome of each ordered pair of nodes. Each plan was right and no event was lost."""

    # A dfr0 for the machine where ReFrame runs (`make tools`).
    here = variable(str, value='dfr0')
    local = True
    keep_files = ['pairs']

    @run_after('init')
    def need(self):
        self.skip_if(not NODES, 'DFR0_NODES names no nodes')
        OnNode.after(self, dfr0_fingerprint, dfr0_save, dfr0_restore)

    @run_before('run')
    def set_options(self):
        OnNode.written_by(self, dfr0_fingerprint, dfr0_save, dfr0_restore)
        self.executable = self.here
        self.executable_opts = ['pairs', 'table', 'pairs', '&&', 'echo', 'every plan was right']

    @sanity_function
    def agrees(self):
        return sn.assert_found(r'^every plan was right$', self.stdout)
