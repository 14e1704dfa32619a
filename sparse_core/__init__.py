"""Sparse Transfer Lab: which sparse CNN backbone should I transfer to my task?"""

