"""The embedded demo: data and pre-trained parts made on the spot, then the same training as for any other LLaVA."""
