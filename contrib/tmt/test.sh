#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
#
# Runs dfr0 and writes a result of tmt for each case. The results decide, and not the exit status of dfr0.
results=$TMT_TEST_DATA/results.jsonl
# ARGS is several words.
# shellcheck disable=SC2086
$DFR0 run $ARGS --results - > "$results"
echo "dfr0 exited with $?"
python3 results.py "$results" > "$TMT_TEST_DATA/results.yaml"
