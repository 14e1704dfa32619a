"""Pruning methods: one file each, one signature ``(backbone, dataset, spec, seed, *, on_progress, checkpoint) → Sparsified``.

``methods`` is the registry, ``training`` what they share. May import transfer and what is below it.
"""
