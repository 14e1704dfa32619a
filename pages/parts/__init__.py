"""What the pages share: the frame, controls, charts, tables, links, and the progress and results of jobs.

May import Streamlit and everything in ``sparse_core``; a module here never imports a page.
"""
