"""Jobs: a spec goes in, runs come out, done by worker processes that outlive a page.

May import specs and the ground; only the worker imports what does the work. Nothing else here imports torch.
"""
