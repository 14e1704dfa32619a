"""What a user asks for, as plain data: one dataclass a kind of work, with its options, its JSON and the identity of its runs.

May import the ground (errors, paths, catalog) only; nothing here imports torch.
"""
