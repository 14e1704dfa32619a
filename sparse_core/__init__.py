"""Sparse Transfer Lab: which sparse CNN backbone should I transfer to my task?"""

__version__ = "0.1.0"
