# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
"""A site for ReFrame: the partition `metal` of a Slurm cluster, and this machine.

Change `hostnames` to the names of the machine where ReFrame runs, and `access` to how Slurm gives out arm64 nodes. The scheduler
is `squeue`: `slurm` needs accounting (`sacct`), and without it the whole session stops.
"""

ENVIRONMENTS = ['none']
PARTITION = {'launcher': 'local', 'environs': ENVIRONMENTS}

site_configuration = {
    'systems': [
        {
            'name': 'fleet',
            'descr': 'arm64 nodes of a Slurm cluster',
            'hostnames': ['login.*'],
            'partitions': [
                PARTITION | {'name': 'metal', 'scheduler': 'squeue', 'access': ['--partition=metal'], 'max_jobs': 16},
            ],
        },
        {
            'name': 'here',
            'descr': 'this machine',
            'hostnames': ['.*'],
            'partitions': [PARTITION | {'name': 'local', 'scheduler': 'local', 'max_jobs': 1}],
        },
    ],
    'environments': [{'name': 'none', 'cc': '', 'cxx': '', 'ftn': ''}],
    'logging': [
        {
            'handlers': [{'type': 'stream', 'name': 'stdout', 'level': 'info', 'format': '%(message)s'}],
            'handlers_perflog': [
                {
                    'type': 'filelog',
                    'prefix': '%(check_system)s/%(check_partition)s',
                    'level': 'info',
                    'format': '%(check_job_completion_time)s,%(check_info)s,%(check_job_nodelist)s,%(check_perfvalues)s',
                    'format_perfvars': '%(check_perf_var)s=%(check_perf_value)s%(check_perf_unit)s,',
                    'append': True,
                },
            ],
        }
    ],
}
