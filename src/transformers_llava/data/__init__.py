"""Turn raw records into batches: formats, images, mixtures, encoding, packing, collating."""
