"""Keep the documents of a packed row apart: attention without a mask, and a probe of the decoder."""
