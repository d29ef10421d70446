"""Raw records in, batches out: formats, images, mixtures, encoding, packing, collating."""
