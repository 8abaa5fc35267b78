"""Campaigns: faults by the hundred, as commands; the suite plays a few cases of each.

    python -m tests.campaigns.kill --cases=100

docs/reliability.md has what each of them found.
"""
