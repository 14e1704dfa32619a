"""Jobs: a spec goes in, runs come out, done by worker processes that outlive a page.

May import specs, errors and paths; only the worker loads torch. What does the work is imported by name, from the registry.
"""
