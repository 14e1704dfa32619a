"""Speed of sparse backbones against dense ones: paired timing of inference and of online training, and records of both.
Imports transfer, engines, networks, datasets, specs and the ground. Only ``measurements`` loads without torch."""
