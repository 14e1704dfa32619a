"""Networks: architectures, checkpoints, masks, the library of backbones, structure, and files in safetensors and ONNX.

May import datasets, specs and the modules at the root; never results, engines, transfer, speed, jobs, views or pages.
"""
