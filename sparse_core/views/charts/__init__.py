"""Plotly figures, one module for each kind of chart: pure functions from frames to figures.

May import the rest of ``views`` and ``results``; never Streamlit or torch.
"""
