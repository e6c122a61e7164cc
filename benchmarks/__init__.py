"""Measure Indelible next to other event stores and the limits of the machine.

    python -m benchmarks --list

`workloads/` has a file for each kind of work, and `competitors/` one for each store or limit to
compare with. `harness/` has the shared parts: the server, rounds, histograms, the table, the chart.
"""
