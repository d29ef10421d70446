"""Score answers: pure functions of questions and of the answers by question, one file per family of benchmarks."""
