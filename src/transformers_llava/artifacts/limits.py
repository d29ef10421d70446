"""Every bound on input that somebody else may have written, in one place."""

# Documents (JSON, YAML): a run record of 5,198 steps is below 2 MB, a manifest of 10,000 files below 4 MB.
MAX_JSON_BYTES = 64 * 2**20
MAX_YAML_BYTES = 4 * 2**20  # a packaged recipe has 3 kB; the YAML reader takes about a second for a megabyte
MAX_DOCUMENT_DEPTH = 64  # lists and mappings in each other; our own files have at most 8
MAX_YAML_NODES = 200_000  # after aliases are written out: ten lines of aliases can stand for a billion nodes

# Names of stages, roles, sources' folders: what may become part of a path.
MAX_NAME_LENGTH = 100

# Requests to `llava serve`.
MAX_REQUEST_BYTES = 64 * 2**20  # a body with its images in base64; more is answered by 413 before it is read
MAX_REQUEST_IMAGES = 32
MAX_REQUEST_MESSAGES = 1_000
MAX_STOP_STRINGS = 16
