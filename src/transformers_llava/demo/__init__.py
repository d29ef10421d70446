"""Make a small LLaVA on this machine: own data and pre-trained parts, then the same training as for any other."""
