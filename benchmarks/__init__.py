"""What Indelible costs, beside other event stores and the limits of the machine.

    python -m benchmarks --list

`workloads/` has a file for each kind of work, `competitors/` one for each store or limit that it is
compared with, `harness/` what they share: the server, rounds, histograms, the table, the chart.
"""
