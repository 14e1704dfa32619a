"""What users see of results, as data: labels, tables, notes, and charts (in ``charts``).

May import every package of the library but ``cli`` and ``jobs.worker``; never Streamlit or torch.
"""
