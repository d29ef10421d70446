"""Ask a model the questions of a task and keep its answers, once and restartable."""
