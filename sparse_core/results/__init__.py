"""Results: run records on disk, the store that queries them together with the paper's rows, measures and statistics.

Imports the ground (``errors``, ``paths``, ``catalog``) and ``specs``; never torch.
"""
