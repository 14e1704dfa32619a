"""Labelled images to transfer to: named datasets, a user's own folders and Parquet files, transforms and decoding.
Imports only the ground (``errors``, ``paths``, ``catalog``). Listing and describing datasets never import torch."""
