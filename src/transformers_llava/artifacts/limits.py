"""State every bound on input that somebody else may have written, in one place."""

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
MAX_REQUEST_BEAMS = 16  # each holds keys and values of the whole prompt; papers use five

# The scan of a publication before it leaves. What lies beyond a bound is not read, and the plan says so with its size.
SCAN_MAX_BYTES_PER_FILE = 2**30  # unpacked, of one file with all it contains; a gigabyte of text takes some minutes
SCAN_MAX_SKIPPED_BYTES = 64 * 2**30  # pixels that are unpacked only to get at what stands behind them
SCAN_MAX_MEMBERS = 200_000  # files in one archive, those in archives inside it included
SCAN_MAX_DEPTH = 3  # archives in archives
SCAN_MAX_VALUE_BYTES = 64 * 2**20  # one value of a table, one note in an image, a header of safetensors
SCAN_CHUNK_BYTES = 4 * 2**20  # read at once
SCAN_OVERLAP = 8192  # characters read again with the next chunk, so that nothing is divided by its edge
SCAN_MAX_FINDINGS = 20  # of one kind in one file that are listed; the rest is counted

# What a part of a publication says of its license: an expression has a line, a note some sentences.
MAX_LICENSE_STATEMENT = 1000  # characters
MAX_LICENSE_FILE_BYTES = 2**20  # of a license file beside a base model; the GPL has 35 kB
MAX_LICENSE_FILES = 20  # of one base model

# Adapters of others: peft matches each pattern as a regular expression against each module's name.
MAX_LORA_PATTERNS = 10_000  # one per module of a language model with 100 layers is about a thousand
MAX_LORA_PATTERN_LENGTH = 200

# Checkpoints of others: what their files may ask for. The largest published values are in the comments.
MAX_TEMPLATE_BYTES = 2**20  # chat_template.jinja: 20 KiB
MAX_TOKENIZER_BYTES = 64 * 2**20  # tokenizer.model: 5 MiB
MAX_TOKEN_ID = 2**21  # ids that nobody names are filled up with placeholders: 262,144 tokens
MAX_PIECE_LENGTH = 1024  # characters of a SentencePiece piece, all of whose splits are tried: 16, and runs of spaces
MAX_PINPOINTS = 4096  # canvases of a tiled checkpoint, tried for each image: 81
MAX_PINPOINT_TEXT = 2**16  # characters of the same list, written as text
MAX_CANVAS_SIDE = 2**20  # pixels: 3,456
MAX_LAYERS = 2048  # of a language model or a tower, which are built to learn the names of their weights: 126
MAX_PROJECTOR_LAYERS = 64  # 2

# Images of data sets. Their formats are an allow-list too: `IMAGE_FORMATS` in modeling/images/image_opening.py, whose
# files import nothing but each other.
MAX_IMAGE_PIXELS = 89_478_485  # Pillow's own limit; used where somebody has set PIL.Image.MAX_IMAGE_PIXELS to None
MAX_IMAGE_SIDE = 1_000_000  # pixels; JPEG and GIF end at 65,535, and resizing takes 32 bytes for each
MAX_IMAGE_BYTES = 256 * 2**20  # of the encoded file, in a folder or an archive: MAX_IMAGE_PIXELS times three bytes
MAX_PNG_CHUNKS = 100_000  # a file of MAX_IMAGE_BYTES in libpng's chunks of 8 kB has a third of them
# Images behind an address: of one of them, over all redirects and attempts.
MAX_REMOTE_IMAGE_BYTES = 64 * 2**20
MAX_REMOTE_SECONDS = 60.0  # of one attempt, however slowly the server sends
MAX_REMOTE_REDIRECTS = 5
MAX_REMOTE_ATTEMPTS = 3

# Mixtures: how often every record of a source may be used; the rows that are drawn are a list in memory.
MAX_SOURCE_WEIGHT = 1000

# Publications: what `llava verify` lists, reads and says.
MAX_PUBLICATION_ENTRIES = 200_000  # files and folders that are listed; the Hub advises below 100,000 files
MAX_CARD_BYTES = 2**20  # a generated card has 6 kB; a user adds pages, not a megabyte
MAX_CARD_MARKERS = 200  # each is searched for its other half, so the time grows with their number
MAX_TEXT_BYTES = 16 * 2**20  # a recipe's file, LICENSE.md, NOTICE: compared line by line
MAX_NAMED_FINDINGS = 50  # per check; more are counted
MAX_MESSAGE_LENGTH = 1_000  # of one finding: it may hold texts of the publication
MAX_SOURCE_REPEATS = 1_000  # how often a check draws one source (`weight`); published recipes repeat three times
MIN_EXPECTED_DIGITS = 32  # of a digest or tag, 128 bits: fewer can be met by trying

# Run records: what a reproduction is made of.
MAX_STAGES = 32  # stages behind each other; LLaVA has two, LLaVA-OneVision four
MAX_SOURCES = 10_000  # data sets in one mixture; LLaVA-OneVision has about ninety
MAX_PACKAGES = 10_000  # installed packages; a large environment has a thousand
MAX_LOGGED_STEPS = 2_000_000  # entries of a loss history
MAX_WEIGHT_FILES = 10_000  # shards of one checkpoint
MAX_COMMAND_LENGTH = 100_000  # characters of a command line; a mixture may be typed into it
MAX_TEMPLATE_LENGTH = 1_000_000  # characters of a chat template
MAX_PROCESSES = 65_536  # processes of a run, and threads of one of them
MAX_BATCH = 1_000_000  # examples of a micro-batch, and micro-batches of a step

# Publications: how many files are looked at before it is called none of ours.
MAX_PUBLICATION_FILES = 2_000_000  # a mixture of single images; LLaVA-1.5's has 665,298
MAX_FOLDER_DEPTH = 32  # folders in each other
MAX_REPLAY_STEP_DIGITS = 9  # of the N in checkpoint-N

# Evaluation: question files, answers of a model, reviews of a judge.
MAX_ANSWER_LINE_BYTES = 16 * 2**20  # one line of an answers or predictions file; 4,096 tokens and ids: 60 kB
MAX_ANSWER_LINE_BYTES = (
    16 * 2**20
)  # one line of an answers or predictions file; 4,096 tokens with their ids have 60 kB
MAX_QUESTION_LINE_BYTES = 16 * 2**20  # one line of a question file: 600 characters
MAX_QUESTIONS = 2_000_000  # of one task: VQAv2's test-dev has 107,394
MAX_TABLE_BYTES = 2 * 2**30  # MMBench's table with its images: 30 MB; test sets of others ten times that
