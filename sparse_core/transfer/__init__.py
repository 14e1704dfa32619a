"""Transfer of a backbone to a task: features, linear probe, full finetuning, their runs and durations. May import
engines, networks, datasets, results, specs and the modules below them; ``durations`` and ``evaluation_checks`` must
load without torch."""
