"""The benchmark of pml_synthesis: datasets, models, settings, runner, summaries and plots."""
